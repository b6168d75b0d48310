//! A PostgreSQL that answers but refuses the statements of batches, that does not answer, or that was replaced. Health
//! agrees with the answers to calls. When the database works again, the server serves again without a restart.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::harness::{
    clients::{not_serving, serving},
    postgres::{self, Cluster},
    process::{run, said, tope},
    *,
};

/// A PostgreSQL cluster with one database, and a server on it with one tenant. Each test has its own cluster.
struct Faulty {
    cluster: Cluster,
    url: String,
    process: Process,
    clients: Clients,
    _folder: tempfile::TempDir,
}

impl Faulty {
    async fn start() -> Self {
        let folder = database::scratch_folder();
        let cluster = Cluster::start(postgres::free_port());
        cluster.create("tope");
        let url = cluster.url("tope");
        let (process, channel) = Process::serving(&url, folder.path(), &[]).await;
        let clients = Clients::of(channel);
        clients.tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;
        clients.record("acme").tokens(1).await.expect("it serves");
        Self { cluster, url, process, clients, _folder: folder }
    }

    /// Runs a statement, even if the database is read-only.
    fn psql(&self, statement: &str) {
        postgres::psql(&format!("{}?options=-cdefault_transaction_read_only%3Doff", self.url), statement);
    }

    async fn refuses(&self) {
        let no = self.clients.record("acme").tokens(1).await.expect_err("it cannot be written");
        no.is(Code::Unavailable, "DATABASE_UNAVAILABLE");
    }

    /// Waits until the server serves again by itself. Checks that all acknowledged calls are in the books.
    async fn recovers(self, acknowledged: usize) {
        serving(&self.clients.channel).await;
        self.clients.record("acme").tokens(1).await.expect("it serves");
        let figures = self.clients.figures("acme", "lifetime").await;
        assert_eq!(usize::try_from(figures.0), Ok(acknowledged + 2));
        self.process.stop().await;
        process::verify(&self.url).await;
    }
}

/// Tests this with calls, and without calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_serve_while_postgres_is_read_only() {
    for busy in [true, false] {
        let faulty = Faulty::start().await;
        let load = busy.then(|| Load::begin(&faulty.clients, "acme"));
        faulty.psql("ALTER SYSTEM SET default_transaction_read_only = on");
        let begun = Instant::now();
        faulty.psql("SELECT pg_reload_conf()");
        not_serving(&faulty.clients.channel).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "busy {busy}: {:?}", begun.elapsed());
        faulty.refuses().await;
        faulty.psql("ALTER SYSTEM RESET default_transaction_read_only");
        faulty.psql("SELECT pg_reload_conf()");
        serving(&faulty.clients.channel).await;
        let acknowledged = match load {
            Some(load) => load.end().await,
            None => 0,
        };
        faulty.recovers(acknowledged).await;
    }
}

/// The table of the probe has room, but the tables of the batches have no room. So batches show the fault, and its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_serve_while_postgres_has_no_room_for_batches() {
    let faulty = Faulty::start().await;
    let load = Load::begin(&faulty.clients, "acme");
    faulty.psql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON reservations EXECUTE FUNCTION full_disk()",
    );
    not_serving(&faulty.clients.channel).await;
    // Health stays NOT_SERVING after one refused call, but calls are still tried.
    faulty.refuses().await;
    not_serving(&faulty.clients.channel).await;
    faulty.psql("DROP TRIGGER full_disk ON reservations");
    serving(&faulty.clients.channel).await;
    let acknowledged = load.end().await;
    faulty.recovers(acknowledged).await;
}

/// The table of the probe cannot grow by another page, and there are no calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probe_finds_out_that_postgres_has_no_room_for_another_page() {
    let faulty = Faulty::start().await;
    faulty.psql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON reservations EXECUTE FUNCTION full_disk();
         CREATE TRIGGER full_disk BEFORE INSERT ON probes FOR EACH ROW
            WHEN (length(NEW.body) >= 8000) EXECUTE FUNCTION full_disk()",
    );
    faulty.refuses().await;
    not_serving(&faulty.clients.channel).await;
    faulty.refuses().await;
    faulty.psql("DROP TRIGGER full_disk ON reservations; DROP TRIGGER full_disk ON probes");
    faulty.recovers(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_serving_within_5_seconds_if_postgres_hangs() {
    for busy in [true, false] {
        let mut faulty = Faulty::start().await;
        let load = busy.then(|| Load::begin(&faulty.clients, "acme"));
        faulty.cluster.freeze();
        let begun = Instant::now();
        not_serving(&faulty.clients.channel).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "busy {busy}: {:?}", begun.elapsed());
        faulty.cluster.thaw();
        serving(&faulty.clients.channel).await;
        if let Some(load) = load {
            load.end().await;
        }
        faulty.clients.record("acme").tokens(1).await.expect("it serves");
        faulty.process.stop().await;
        process::verify(&faulty.url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_serve_a_database_that_was_dropped_and_created_again() {
    let faulty = Faulty::start().await;
    let outside = faulty.cluster.url("postgres");
    postgres::psql(&outside, "DROP DATABASE tope WITH (FORCE)");
    postgres::psql(&outside, "CREATE DATABASE tope");
    not_serving(&faulty.clients.channel).await;
    faulty.refuses().await;
    let mut command = tope();
    command.args(["migrate", "--database", &faulty.url]);
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    eventually("the log says that it is another one", async || {
        faulty.process.log().contains("not the PostgreSQL database").then_some(())
    })
    .await;
    not_serving(&faulty.clients.channel).await;
    faulty.refuses().await;
    faulty.process.stop().await;
}
