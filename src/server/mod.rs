//! The composition root: starts database, engine, jobs and services, and stops them in order.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::{
    health::{Health, Readiness},
    site::{HttpListener, Pages},
};
use crate::{
    access::{Access, jwt::JwksError},
    clock::{Clock, ManualClock},
    config::{Config, overlap_default},
    engine::{Engine, LaneOptions, Lanes, Reader},
    events::{
        Feed,
        webhook::{Deliverer, Rules},
    },
    grpc::{
        admin::Admin,
        http2::{Observers, serve},
        quota::Quota,
        tls::{Tls, TlsError, TlsFiles},
        v1::{admin_service_server::AdminServiceServer, quota_service_server::QuotaServiceServer},
    },
    jobs::{Clockwork, ScheduleError, Tools},
    policy::PolicyCache,
    store::{Dialect, Retention, Store, StoreError, StoreOptions},
    traces::{Traces, TracesError},
};

mod callers;
mod demo;
mod health;
mod probe;
mod site;

/// Maximum time to close the connections to the database, after the drain.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The options of a server: its settings, and options that people cannot set.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The settings. Port 0 of `listen` and `http` takes a free port.
    pub config: Config,
    /// A clock set by hand, for tests: jobs then run only when they are called. `None`: this machine's clock on
    /// SQLite, the database's on PostgreSQL.
    pub clock: Option<ManualClock>,
    /// Create the demonstration's resources, plans and tenants, if they are missing.
    pub demo: bool,
    /// Decide a batch while the previous batch commits. This needs a core that neither callers nor the database use.
    pub overlap: bool,
    /// Let PostgreSQL's NOTIFY wake this server when another replica writes events. If false, the feed searches for new
    /// events twice a second.
    pub listens: bool,
}

impl ServerOptions {
    /// Makes options with these settings, and with the machine's clock.
    pub fn new(config: Config) -> Self {
        Self { config, clock: None, demo: false, overlap: overlap_default(), listens: true }
    }
}

/// The reason why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The server cannot listen on the address.
    #[error("cannot listen on {address} (setting `{setting}`)")]
    Listen {
        /// The setting that gives the address.
        setting: &'static str,
        /// The address of the setting.
        address: SocketAddr,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// Calls cannot be traced.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file with the keys of the identity provider cannot be used.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// The database cannot be used.
    #[error("cannot use the database")]
    Database(#[from] StoreError),
    /// The threads of the lanes cannot be started.
    #[error("cannot start the threads that decide operations (lanes)")]
    Threads(#[source] io::Error),
    /// The schedule of the jobs cannot be started.
    #[error("cannot start the jobs")]
    Jobs(#[from] ScheduleError),
    /// The demonstration's data cannot be created.
    #[error("cannot create the data of --demo")]
    Demo(#[from] crate::store::AdminError),
}

impl ServerError {
    /// Returns whether the error is permanent, so that waiting does not help.
    fn is_final(&self) -> bool {
        matches!(
            self,
            ServerError::Database(StoreError::Unusable(_))
                | ServerError::Demo(crate::store::AdminError::Store(StoreError::Unusable(_)))
        )
    }
}

/// A server that runs until [`Server::shutdown`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    http: Option<HttpListener>,
    serving: JoinHandle<io::Result<()>>,
    probe: JoinHandle<()>,
    feeding: JoinHandle<()>,
    clockwork: Arc<Clockwork>,
    lanes: Lanes,
    drain: Duration,
    health: Health,
    store: Store,
    stop: CancellationToken,
    traces: Option<Arc<Traces>>,
}

impl Server {
    /// Starts a server, which listens when this function returns. SQLite is then ready. If PostgreSQL cannot be
    /// reached, the server waits for it in the background, and calls fail with UNAVAILABLE meanwhile. If PostgreSQL
    /// will never accept this program, the start fails.
    ///
    /// # Errors
    ///
    /// The address or the database cannot be used, or the threads or the jobs cannot be started.
    pub fn start(options: ServerOptions) -> BoxFuture<'static, Result<Server, ServerError>> {
        // The box makes the future compile once, in the library, instead of once in each program that calls it.
        Box::pin(Self::start_unboxed(options))
    }

    async fn start_unboxed(options: ServerOptions) -> Result<Server, ServerError> {
        let config = &options.config;
        let tls = tls_files(config).map(Tls::load).transpose()?.map(Arc::new);
        let traces = traces(config)?.map(Arc::new);
        let ((listener, address), http) = listen(config).await?;
        let (store, clock, prepared) = open_database(&options).await?;
        let stop = CancellationToken::new();
        let access = callers::access(config, &store, &clock, &stop).await?;
        let policies = Arc::new(PolicyCache::default());
        let lanes = lane_options(&options, store.dialect());
        let (engine, lanes) =
            Engine::start(&store, &policies, &clock, lanes).map_err(ServerError::Threads)?;
        let engine = Arc::new(engine);
        let reader = Arc::new(Reader::new(store.clone(), Arc::clone(&policies), clock.clone()));
        let feed = Feed::new(store.clone(), Arc::clone(&reader), stop.clone());
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health::new(reporter);
        let metrics_keys = callers::keys_of_metrics(config, &access);
        let pages = Pages::new(&store, &clock, &engine, &feed, &health, metrics_keys);
        let quota =
            Quota::new(Arc::clone(&engine), reader, Arc::clone(&policies), Arc::clone(&feed), access.clone());
        let tools = Tools {
            store: store.clone(),
            engine: Arc::clone(&engine),
            policies: Arc::clone(&policies),
            retention: retention(config),
            deliverer: Deliverer::new(store.clone(), clock.clone(), webhook_rules(config)),
            access: access.clone(),
        };
        let clockwork = Clockwork::start(tools, clock.clone()).await?;
        let admin = Admin::new(
            store.clone(),
            policies,
            clock.clone(),
            engine,
            Arc::clone(&feed),
            Arc::clone(&clockwork),
            access.clone(),
        );

        health.report(Readiness::of(store.is_available(), true)).await;
        let routes = Routes::new(QuotaServiceServer::new(quota))
            .add_service(AdminServiceServer::new(admin))
            .add_service(health_service);
        let routes = with_reflection(routes, config, access);
        let drain = Duration::from_secs(config.drain_seconds);
        if options.listens {
            tokio::spawn(Arc::clone(&feed).listen());
        }
        let feeding = tokio::spawn(feed.run());
        let observers = Observers { metrics: Arc::clone(store.metrics()), traces: traces.clone() };
        let serving = tokio::spawn(serve(listener, routes, stop.clone(), drain, observers, tls));
        let probe = tokio::spawn(
            probe::Probe::new(&store, clock, options.demo, prepared, health.clone()).run(stop.clone()),
        );
        let http = http.map(|(listener, address)| HttpListener::start(listener, address, pages));
        Ok(Server {
            address,
            http,
            serving,
            probe,
            feeding,
            clockwork,
            lanes,
            drain,
            health,
            store,
            stop,
            traces,
        })
    }

    /// Returns the address and port on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address and port of the HTTP listener. `None`: there is no such listener.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpListener::address)
    }

    /// Shuts the server down: accepts no more calls, answers the accepted calls, and closes the database. If the
    /// database does not answer, the server abandons after `drain` the operations that still wait for it.
    pub fn shutdown(self) -> BoxFuture<'static, ()> {
        Box::pin(self.shutdown_unboxed())
    }

    async fn shutdown_unboxed(mut self) {
        self.probe.abort();
        self.health.report(Readiness::Draining).await;
        self.stop.cancel();
        self.health.end_watches().await;
        // Calls, jobs, feed and lanes share one deadline.
        let until = Instant::now() + self.drain;
        let (served, ()) = tokio::join!(self.serving, self.clockwork.end(until));
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "serving ended with an error"),
            Err(error) => tracing::error!(error = %error, "the task that serves connections panicked"),
        }
        match timeout_at(until, &mut self.feeding).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "the task that numbers events panicked"),
            Err(_) => self.feeding.abort(),
        }
        if !self.lanes.drain(until).await {
            tracing::error!(
                "the database did not answer before drain_seconds were over; the outcome of the last \
                 accepted operations is unknown"
            );
        }
        // Until here `/readyz` reports that the server is shutting down.
        if let Some(http) = self.http {
            http.end().await;
        }
        match timeout(CLOSE_TIMEOUT, self.store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "closing the database failed");
            }
            // PostgreSQL notices by itself that its client no longer exists.
            Err(_) => tracing::error!(
                "the connections to the database did not close within {} seconds; the server ends without \
                 closing them",
                CLOSE_TIMEOUT.as_secs()
            ),
        }
        self.lanes.end();
        if let Some(traces) = self.traces {
            traces.stop().await;
        }
    }
}

/// Returns the options of the lanes.
fn lane_options(options: &ServerOptions, dialect: Dialect) -> LaneOptions {
    let count = match dialect {
        Dialect::Sqlite => 1,
        Dialect::Postgres => options.config.lanes,
    };
    let counters_max = i64::try_from(options.config.counters_per_tenant_max).unwrap_or(i64::MAX);
    LaneOptions { count, overlap: options.overlap, counters_max }
}

/// Adds reflection. Unless the settings leave health and reflection open, both then need a key.
fn with_reflection(routes: Routes, config: &Config, access: Access) -> Routes {
    let routes =
        routes.add_service(crate::grpc::reflection_v1()).add_service(crate::grpc::reflection_v1alpha());
    if config.auth_public_health { routes } else { crate::grpc::guard_health(routes, access) }
}

fn retention(config: &Config) -> Retention {
    Retention::of(
        config.reservation_retention_days,
        config.request_id_retention_hours,
        config.event_retention_days,
        config.audit_retention_days,
        config.counter_retention_days,
    )
}

/// Begins to trace calls. `None`: no call is traced.
fn traces(config: &Config) -> Result<Option<Traces>, TracesError> {
    let endpoint = Some(&config.otlp_endpoint).filter(|endpoint| !endpoint.is_empty());
    endpoint.map(|endpoint| Traces::start(endpoint, config.otlp_sample)).transpose()
}

/// Returns the files of TLS. `None`: the server serves without TLS.
fn tls_files(config: &Config) -> Option<TlsFiles> {
    let named = |file: &PathBuf| (!file.as_os_str().is_empty()).then(|| file.clone());
    let client_ca = named(&config.tls_client_ca);
    Some(TlsFiles { cert: named(&config.tls_cert)?, key: config.tls_key.clone(), client_ca })
}

fn webhook_rules(config: &Config) -> Rules {
    Rules { allow_http: config.webhook_allow_http, allow_private: config.webhook_allow_private }
}

/// Opens the database and brings its schema up to date. Returns the database, its clock, and whether the schema is up
/// to date: if PostgreSQL cannot be reached, the probe prepares it later.
async fn open_database(options: &ServerOptions) -> Result<(Store, Clock, bool), ServerError> {
    let store_options = StoreOptions { exclusive: true, ..StoreOptions::default() };
    let store = Store::connect(&options.config.database, store_options).await?;
    store.metrics().follow_tenants(options.config.metrics_tenants);
    let clock = match (&options.clock, store.dialect()) {
        (Some(manual), _) => Clock::Manual(manual.clone()),
        (None, Dialect::Sqlite) => Clock::System,
        (None, Dialect::Postgres) => Clock::Database,
    };
    let prepared = match probe::prepare(&store, &clock, options.demo).await {
        Ok(()) => true,
        Err(error) if store.dialect() == Dialect::Sqlite || error.is_final() => return Err(error),
        Err(_) => false,
    };
    Ok((store, clock, prepared))
}

/// A listener, and its address with its real port.
type Bound = (TcpListener, SocketAddr);

/// Listens for calls, and for HTTP unless it is off.
async fn listen(config: &Config) -> Result<(Bound, Option<Bound>), ServerError> {
    let calls = bind("listen", config.listen).await?;
    let http = match config.http.0 {
        Some(address) => Some(bind("http", address).await?),
        None => None,
    };
    Ok((calls, http))
}

/// Listens on the address of a setting, and returns the address with its real port.
async fn bind(setting: &'static str, address: SocketAddr) -> Result<Bound, ServerError> {
    let failed = |source| ServerError::Listen { setting, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
