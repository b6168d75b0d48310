//! The program as people run it: how it starts, shuts down, and reports why it cannot start.

use std::{
    fs,
    future::IntoFuture,
    path::Path,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;
use tope::server::{Server, ServerOptions};

use crate::harness::{
    clients::mask,
    database::{scratch_folder, sqlite_url},
    postgres,
    process::{run, said, tope},
    v1::*,
    world::settings,
    *,
};

/// Starts a server, checks that it refuses to start, and returns its log.
async fn refused(url: &str, folder: &Path) -> String {
    let mut process = Process::start(url, folder, &[]);
    let status = process.ended().await;
    let log = process.log();
    assert!(!status.success(), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_one_file_is_refused() {
    let database = Database::fresh(Kind::Sqlite);
    let (first, channel) = Process::serving(database.url(), &database.path(""), &["--demo"]).await;
    let log = refused(database.url(), &database.path("")).await;
    let file = database.path("tope.db");
    assert!(log.contains(&file.display().to_string()), "it says which file: {log}");
    assert!(log.contains("another") || log.contains("already") || log.contains("in use"), "and why: {log}");
    Clients::of(channel).reserve("acme").tokens(1).await.expect("the first one goes on");
    first.stop().await;
    // The file is free as soon as its server has ended, even if the server was killed.
    let (mut killed, _) = Process::serving(database.url(), &database.path(""), &[]).await;
    killed.kill();
    let (next, _) = Process::serving(database.url(), &database.path(""), &[]).await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_can_start_at_the_same_time() {
    for _ in 0..3 {
        let database = Database::fresh(Kind::Postgres);
        let folder = database.path("");
        let ((first, here), (second, there)) = tokio::join!(
            Process::serving(database.url(), &folder, &["--demo"]),
            Process::serving(database.url(), &folder, &["--demo"])
        );
        Clients::of(here).reserve("acme").tokens(1).await.expect("it serves");
        let reply = Clients::of(there).reserve("acme").tokens(1).await.expect("so does the other");
        assert_eq!(reply.balances[0].reserved, 2);
        first.stop().await;
        second.stop().await;
        process::verify(database.url()).await;
    }
}

on_both! {
    async fn a_server_that_shuts_down_answers_every_accepted_call(kind: Kind) {
        for signal in ["TERM", "INT"] {
            let database = Database::fresh(kind);
            let (mut process, channel) =
                Process::serving(database.url(), &database.path(""), &["--demo"]).await;
            let clients = Clients::of(channel);
            let hold = clients.reserve("globex").tokens(100).await.expect("there is quota").name().to_owned();
            let stall = database.stall().await;
            let mut commit = clients.commit(&hold).tokens(80).into_future();
            let mut records: Vec<_> =
                (0..20).map(|_| clients.record("globex").tokens(1).into_future()).collect();
            assert!(futures::poll!(&mut commit).is_pending(), "it has to wait");
            for record in &mut records {
                assert!(futures::poll!(record).is_pending(), "it has to wait");
            }
            // This call comes after the other calls on the same connection. When it is answered, they were accepted.
            clients::serving(&clients.channel).await;
            process.signal(signal);
            eventually("it says that it ends", async || {
                process.log().contains("stopping").then_some(())
            })
            .await;
            // The test checks this with new connections, because the server accepts calls on an open connection until
            // its client has read GOAWAY.
            eventually("it takes no more", async || TcpStream::connect(process.address()).await.err()).await;
            stall.end().await;
            commit.await.expect("it was accepted");
            for record in records {
                record.await.expect("it was accepted");
            }
            let status = process.ended().await;
            assert!(status.success(), "{signal}: {status}: {}", process.log());

            let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
            let balance = Clients::of(channel).usage("globex").await.remove(0);
            assert_eq!(figures(&balance), (100, 0), "{signal}");
            process.stop().await;
        }
    }

    async fn a_restart_keeps_all_data(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, channel) = Process::serving(database.url(), &database.path(""), &["--demo"]).await;
        let clients = Clients::of(channel);
        let hold = clients.reserve("acme").tokens(1_000).id("r").ttl(DAY).await.expect("there is quota");
        clients.commit(hold.name()).tokens(800).await.expect("it is held");
        let open = clients.reserve("acme").tokens(50).ttl(DAY).await.expect("there is quota");
        clients.change_plan("free", &[day("tokens", 5_000)]).await.expect("the plan is there");
        clients.set_plan("globex", "free").await;
        clients.set_state("globex", TenantState::Suspended).await;
        let before = clients.books("acme").await;
        process.stop().await;

        // A second start with --demo overwrites nothing.
        let (process, channel) = Process::serving(database.url(), &database.path(""), &["--demo"]).await;
        let clients = Clients::of(channel);
        assert_eq!(clients.books("acme").await, before);
        assert_eq!(clients.figures("acme", "day").await, (800, 50));
        let replay = clients.reserve("acme").tokens(1_000).id("r").ttl(DAY).await.expect("a retry");
        assert_eq!(replay.reservation, hold.reservation);
        clients.release(open.name()).await.expect("it is held");
        let globex = clients.admin.clone().get_tenant(GetTenantRequest { id: "globex".into() }).await;
        let globex = globex.expect("the tenant exists").into_inner();
        assert_eq!((globex.plan.as_str(), globex.state()), ("free", TenantState::Suspended));
        process.stop().await;
        process::verify(database.url()).await;
    }

    async fn the_demo_data_is_as_documented(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, channel) = Process::serving(database.url(), &database.path(""), &["--demo"]).await;
        let admin = Clients::of(channel).admin;
        let resources = admin.clone().list_resources(ListResourcesRequest::default()).await;
        let mut resources: Vec<String> =
            resources.expect("a page").into_inner().resources.into_iter().map(|resource| resource.id).collect();
        resources.sort_unstable();
        assert_eq!(resources, ["requests", "storage_bytes", "tokens"]);
        for (id, factor) in [("free", 1), ("pro", 10)] {
            let plan = admin.clone().get_plan(GetPlanRequest { id: id.into() }).await;
            let plan = plan.expect("the plan exists").into_inner();
            assert_eq!(plan.limits.len(), 2);
            for limit in plan.limits {
                let quantity = if limit.period() == Period::Day { 100_000 } else { 1_000_000 };
                assert!(matches!(limit.period(), Period::Day | Period::Month), "{limit:?}");
                assert_eq!((limit.resource.as_str(), limit.quantity), ("tokens", quantity * factor));
                assert_eq!(limit.thresholds, [80, 100]);
                assert_eq!(limit.enforcement(), Enforcement::Hard);
            }
        }
        for (id, plan) in [("acme", "free"), ("globex", "pro")] {
            let tenant = admin.clone().get_tenant(GetTenantRequest { id: id.into() }).await;
            let tenant = tenant.expect("the tenant exists").into_inner();
            assert_eq!((tenant.plan.as_str(), tenant.state()), (plan, TenantState::Active));
            assert!(matches!(tenant.zone.as_str(), "" | "UTC"), "{tenant:?}");
        }
        // --demo does not overwrite a display name that an operator has changed.
        let update = UpdateTenantRequest {
            tenant: Some(Tenant { id: "acme".into(), display_name: "Acme".into(), ..Tenant::default() }),
            update_mask: Some(mask(&["display_name"])),
        };
        admin.clone().update_tenant(update).await.expect("the tenant exists");
        process.stop().await;
    }
}

/// Open calls and batches do not delay the shutdown beyond `drain_seconds`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_shuts_down_in_time_although_its_database_is_silent() {
    let database = Database::fresh(Kind::Postgres);
    let proxy = Proxy::before(database.url()).await;
    let arguments = ["--demo", "--drain-seconds", "2"];
    let (mut process, channel) = Process::serving(proxy.url(), &database.path(""), &arguments).await;
    let clients = Clients::of(channel);
    clients.record("acme").tokens(1).await.expect("it serves");
    proxy.fall_silent();
    let mut record = clients.record("acme").tokens(1).into_future();
    assert!(futures::poll!(&mut record).is_pending(), "it has to wait");
    // This call comes after the Record on the same connection. When it is answered, the Record was accepted.
    clients::serving(&clients.channel).await;
    let begun = Instant::now();
    process.signal("TERM");
    let status = process.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}: {}", begun.elapsed(), process.log());
    assert!(status.success(), "{status}: {}", process.log());
    record.await.expect_err("nobody knows what became of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_database_is_refused_and_not_changed() {
    let folder = scratch_folder();
    let file = folder.path().join("letter.db");
    let letter = "Dear reader, this is not a database, and it never was one. ".repeat(100);
    fs::write(&file, &letter).expect("the folder can be written to");
    let url = sqlite_url(&file);
    let log = refused(&url, folder.path()).await;
    assert!(log.contains("letter.db"), "it says which file: {log}");
    for subcommand in ["verify", "migrate"] {
        let mut command = tope();
        command.args([subcommand, "--database", &url]);
        let output = run(command).await;
        assert!(!output.status.success() && said(&output).contains("letter.db"), "{}", said(&output));
    }
    assert_eq!(fs::read_to_string(&file).expect("the file exists"), letter);
}

/// The folder cannot exist, because its parent is a file. (A test with permissions would not work as root.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_names_a_folder_that_cannot_be_written_to() {
    let folder = scratch_folder();
    fs::write(folder.path().join("file"), "").expect("the folder can be written to");
    let log = refused(&sqlite_url(&folder.path().join("file/tope.db")), folder.path()).await;
    assert!(log.contains("file/tope.db"), "{log}");
    let log = refused(&sqlite_url(&folder.path().join("nowhere/tope.db")), folder.path()).await;
    assert!(log.contains("nowhere"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_of_another_database_is_refused() {
    let folder = scratch_folder();
    for url in ["mysql://127.0.0.1/tope", "tope.db", "", "sqlite:", "http://example.com"] {
        let log = refused(url, folder.path()).await;
        assert!(log.contains("database"), "{url:?}: {log}");
    }
    assert_eq!(
        fs::read_dir(folder.path()).expect("the folder exists").count(),
        5,
        "nothing but the logs was made"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_names_a_port_that_is_in_use() {
    let database = Database::fresh(Kind::Sqlite);
    let (first, _) = Process::serving(database.url(), &database.path(""), &[]).await;
    let mut command = tope();
    let other = sqlite_url(&database.path("other.db"));
    command.args(["serve", "--listen", &first.address().to_string(), "--database", &other]);
    let output = run(command).await;
    assert!(!output.status.success());
    assert!(said(&output).contains(&first.address().to_string()), "{}", said(&output));
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_and_migrate_fail_if_postgres_cannot_be_reached() {
    let url = postgres::url(postgres::free_port(), "tope");
    for subcommand in ["verify", "migrate"] {
        let mut command = tope();
        command.args([subcommand, "--database", &url]);
        let output = run(command).await;
        assert!(!output.status.success(), "{}", said(&output));
        assert!(output.stdout.is_empty(), "errors go to stderr: {}", said(&output));
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subcommand_has_a_help_text() {
    for subcommand in ["", "serve", "migrate", "verify", "backup", "bench", "replay"] {
        let mut command = tope();
        command.args(Some(subcommand).filter(|name| !name.is_empty())).arg("--help");
        let output = run(command).await;
        assert!(output.status.success() && output.stdout.len() > 100, "{subcommand}: {}", said(&output));
    }
    let mut command = tope();
    command.args(["serve", "--help"]);
    let help = said(&run(command).await);
    for word in ["127.0.0.1:50051", "sqlite://tope.db", "TOPE_LISTEN", "TOPE_DATABASE", "--demo"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

/// Ctrl-C can come while a server starts. The start is then dropped, wherever it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_can_be_given_up_at_any_moment() {
    for millis in [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128] {
        let database = Database::fresh(Kind::Sqlite);
        let start = Server::start(ServerOptions::new(settings(database.url())));
        if let Ok(server) = tokio::time::timeout(Duration::from_millis(millis), start).await {
            server.expect("the database is free").shutdown().await;
        }
    }
}
