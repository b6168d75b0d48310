//! A world: a server on a new database, with a clock that the test sets, and clients of the server.

use std::{
    env,
    net::SocketAddr,
    ops::Deref,
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, LocalBoxFuture};
use tokio::time::timeout;
use tope::{
    clock::ManualClock,
    config::{Config, HttpAddress},
    engine::Closed,
    server::{Server, ServerOptions},
};

use super::{
    clients::{Clients, connect, serving},
    database::{Database, Kind},
    process,
    wait::PATIENCE,
};

/// Maximum time of a test. The longest tests take about a minute.
const TEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Maximum time of a test if TOPE_TEST_YEAR is `full`, see `year.rs`.
const FULL_YEAR_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Returns whether the year is played at its full size.
pub fn plays_full_year() -> bool {
    env::var("TOPE_TEST_YEAR").is_ok_and(|size| size == "full")
}

/// The time that the clock of a world shows at first: 2026-03-16 12:00 UTC, a Monday.
pub const NOON: i64 = 1_773_662_400_000;

/// A server on a new database, and the clients with which a test calls the server.
pub struct World {
    /// The clock of the server, which the test sets.
    pub clock: ManualClock,
    /// The database of the server.
    pub database: Database,
    clients: Clients,
    server: Option<Server>,
}

/// Tests mostly use the clients of a world, so a world dereferences to its clients.
impl Deref for World {
    type Target = Clients;

    fn deref(&self) -> &Clients {
        &self.clients
    }
}

/// The function of a test that uses a world.
pub type Claim = for<'a> fn(&'a mut World) -> LocalBoxFuture<'a, ()>;

/// Runs a test in a new world, and verifies the books at the end.
pub fn run_in_world(kind: Kind, claim: Claim) {
    run(async move {
        let mut world = World::start(kind).await;
        claim(&mut world).await;
        world.end().await;
    });
}

/// Runs a test to its end, with two more threads. A test that does not end in time fails, so that its name is printed.
pub fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    let time_max = if plays_full_year() { FULL_YEAR_TIMEOUT } else { TEST_TIMEOUT };
    let ended = runtime.block_on(async { timeout(time_max, AssertUnwindSafe(test).catch_unwind()).await });
    // A drop would wait without a bound for threads that a failed test has blocked.
    runtime.shutdown_timeout(PATIENCE);
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => resume_unwind(failure),
        Err(_) => panic!("the test has not ended within {time_max:?}"),
    }
}

impl World {
    /// Starts a world with an empty database.
    pub fn start(kind: Kind) -> LocalBoxFuture<'static, Self> {
        Self::on(Database::fresh(kind), NOON)
    }

    /// Starts a world on an existing database, with a clock that shows `now`.
    pub fn on(database: Database, now: i64) -> LocalBoxFuture<'static, Self> {
        async move {
            let clock = ManualClock::at(now);
            let (server, clients) = serve(settings(database.url()), &clock).await;
            Self { clock, database, clients, server: Some(server) }
        }
        .boxed_local()
    }

    /// Stops the server, and starts another server on the same database.
    pub fn restart(&mut self) -> LocalBoxFuture<'_, ()> {
        self.restart_with(settings(self.database.url()))
    }

    /// Restarts the server, with other settings.
    pub fn restart_with(&mut self, config: Config) -> LocalBoxFuture<'_, ()> {
        async move {
            self.stop().await;
            let (server, clients) = serve(config, &self.clock).await;
            (self.server, self.clients) = (Some(server), clients);
        }
        .boxed_local()
    }

    /// Starts another server on the same database, with the same clock.
    pub fn replica(&self) -> LocalBoxFuture<'_, (Server, Clients)> {
        self.replica_at(self.database.url())
    }

    /// Starts another server on the same database. The server connects to the database with this URL.
    pub fn replica_at<'a>(&'a self, url: &'a str) -> LocalBoxFuture<'a, (Server, Clients)> {
        serve(settings(url), &self.clock).boxed_local()
    }

    /// Starts another server on the same database, with this number of lanes.
    pub fn replica_with(&self, lanes: usize) -> LocalBoxFuture<'_, (Server, Clients)> {
        serve(Config { lanes, ..settings(self.database.url()) }, &self.clock).boxed_local()
    }

    /// Starts the server with settings of TLS, and returns its address. The clients of the world cannot use it.
    pub async fn start_secured(&mut self, config: Config) -> SocketAddr {
        let mut options = ServerOptions::new(config);
        options.clock = Some(self.clock.clone());
        let server = Server::start(options).await.expect("the server starts");
        let address = server.address();
        self.server = Some(server);
        address
    }

    /// Starts another server on the same database, with these settings.
    pub fn replica_of(&self, config: Config) -> LocalBoxFuture<'_, (Server, Clients)> {
        serve(config, &self.clock).boxed_local()
    }

    /// Makes the server emit WINDOW_CLOSED for windows that are over, as the server does by itself every minute.
    pub fn close_windows(&self) -> BoxFuture<'_, Closed> {
        async move {
            let figures = self.job("close-windows").await;
            let count = |name| usize::try_from(figures[name]).expect("a count");
            Closed { counters: count("counters"), waiting: count("waiting"), more: false }
        }
        .boxed()
    }

    /// Makes the server prune events, as the server does by itself every hour. Returns the number of removed events.
    pub fn prune_events(&self) -> BoxFuture<'_, i64> {
        async move { self.job("prune-events").await["events"] }.boxed()
    }

    /// Returns the clients of the server.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Returns the URL of the address on which the server listens.
    pub fn target(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("it runs").address()
    }

    /// Restarts the server with an HTTP listener on a free port, and returns the address of the listener.
    pub async fn restart_with_http(&mut self) -> SocketAddr {
        self.restart_with_metrics(0).await
    }

    /// Restarts the server with an HTTP listener whose metrics show this number of tenants.
    pub async fn restart_with_metrics(&mut self, metrics_tenants: usize) -> SocketAddr {
        let http = HttpAddress(Some(SocketAddr::from(([127, 0, 0, 1], 0))));
        self.restart_with(Config { http, metrics_tenants, ..settings(self.database.url()) }).await;
        self.http_address()
    }

    /// Returns the address of the HTTP listener.
    pub fn http_address(&self) -> SocketAddr {
        self.server.as_ref().and_then(Server::http_address).expect("it has an HTTP listener")
    }

    /// Stops the server, and verifies the books: I2 and I3 must hold after each test.
    pub async fn end(mut self) {
        self.stop().await;
        self.verify().await;
    }

    /// Fails unless `tope verify` finds the books in order.
    pub fn verify(&self) -> BoxFuture<'_, ()> {
        process::verify(self.database.url()).boxed()
    }

    /// Stops the server. Before the server stops, it answers all calls that it has accepted.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
    }
}

/// Returns whether the lanes of the server decide a batch while the previous batch commits. The answer depends on the
/// name of the test. It is true for about half of the tests, and always for the same tests.
fn overlaps() -> bool {
    let thread = std::thread::current();
    thread.name().is_some_and(|name| name.bytes().fold(0, u8::wrapping_add) % 2 == 1)
}

/// Returns the settings for the server of a test. The server listens on a free port, and webhooks may be sent to this
/// machine, where the endpoints of tests are.
pub fn settings(database: impl Into<String>) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        http: HttpAddress(None),
        database: database.into(),
        webhook_allow_http: true,
        webhook_allow_private: true,
        ..Config::default()
    }
}

async fn serve(config: Config, clock: &ManualClock) -> (Server, Clients) {
    let mut options = ServerOptions::new(config);
    options.clock = Some(clock.clone());
    options.overlap = overlaps();
    let server = Server::start(options).await.expect("the server starts");
    let channel = connect(&format!("http://{}", server.address())).await;
    serving(&channel).await;
    (server, Clients::of(channel))
}
