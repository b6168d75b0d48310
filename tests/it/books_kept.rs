//! The commands `migrate`, `verify` and `backup`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::harness::{
    database::sqlite_url,
    process::{run, said, tope, verify},
    v1::*,
    *,
};

async fn command(arguments: &[&str]) -> std::process::Output {
    let mut command = tope();
    command.args(arguments);
    run(command).await
}

on_both! {
    async fn migrate_creates_the_schema_and_can_be_repeated(kind: Kind) {
        let database = Database::fresh(kind);
        for _ in 0..2 {
            let output = command(&["migrate", "--database", database.url()]).await;
            assert!(output.status.success(), "{}", said(&output));
        }
        verify(database.url()).await;
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        Clients::of(channel).tenant_with("acme", &[day("tokens", 1)]).await;
        process.stop().await;
    }
}

both! {
    /// The test writes each fault into correct books, checks that `verify` finds the fault, and repairs the books.
    async fn verify_finds_faults_in_the_books(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000), month("tokens", 10_000)]).await;
        let hold = world.reserve("acme").tokens(100).id("r").await.expect("there is quota");
        world.commit(hold.name()).tokens(70).await.expect("it is held");
        world.reserve("acme").tokens(10).ttl(HOUR).await.expect("there is quota");
        world.record("acme").tokens(5).await.expect("it is recorded");
        world.reset("acme", &["tokens"]).await.expect("the tenant is there");
        world.record("acme").tokens(9).await.expect("it is recorded");
        world.verify().await;
        let faults = [
            ("UPDATE counters SET committed = committed + 1", "UPDATE counters SET committed = committed - 1"),
            ("UPDATE counters SET reserved = reserved - 1", "UPDATE counters SET reserved = reserved + 1"),
            ("UPDATE counters SET pruned = pruned + 1", "UPDATE counters SET pruned = pruned - 1"),
            ("UPDATE adjustments SET delta = delta - 1", "UPDATE adjustments SET delta = delta + 1"),
        ];
        for (spoil, mend) in faults {
            world.database.execute(spoil).await;
            let output = command(&["verify", "--database", world.database.url()]).await;
            assert_eq!(output.status.code(), Some(1), "{spoil}: {}", said(&output));
            let report = String::from_utf8_lossy(&output.stdout);
            assert!(report.contains("fault"), "{spoil}: it says which rows: {report}");
            world.database.execute(mend).await;
            world.verify().await;
        }
        world.database.execute("DELETE FROM holds").await;
        let output = command(&["verify", "--database", world.database.url()]).await;
        assert_eq!(output.status.code(), Some(1), "a hold is missing: {}", said(&output));
        world.database.execute("UPDATE counters SET reserved = 0").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_is_complete() {
    let database = Database::fresh(Kind::Sqlite);
    let (process, channel) = Process::serving(database.url(), &database.path(""), &["--demo"]).await;
    let clients = Clients::of(channel);
    let mut names = Vec::new();
    for number in 0..20 {
        let hold = clients.reserve("acme").tokens(1).id(&format!("r{number}")).await.expect("there is quota");
        names.push(hold.name().to_owned());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (clients, stop) = (clients.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let hold = clients.reserve("globex").tokens(1).await.expect("there is quota");
                clients.commit(hold.name()).await.expect("it is held");
            }
        }
    });
    for number in 0..3 {
        let copy = database.path(&format!("copy-{number}.db"));
        let output = command(&["backup", &copy.display().to_string(), "--database", database.url()]).await;
        assert!(output.status.success(), "{}", said(&output));
        verify(&sqlite_url(&copy)).await;
    }
    stop.store(true, Ordering::Relaxed);
    load.await.expect("it goes on meanwhile");
    process.stop().await;

    let copy = sqlite_url(&database.path("copy-0.db"));
    let (process, channel) = Process::serving(&copy, &database.path(""), &[]).await;
    let clients = Clients::of(channel);
    for name in names {
        assert_eq!(state(&clients.get(&name).await.expect("it was there")), ReservationState::Reserved);
    }
    clients.reserve("acme").tokens(1).await.expect("a copy can be served");
    process.stop().await;
    verify(&copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_overwrites_no_file_and_refuses_postgres() {
    let database = Database::fresh(Kind::Sqlite);
    let output = command(&["migrate", "--database", database.url()]).await;
    assert!(output.status.success(), "{}", said(&output));
    let copy = database.path("copy.db");
    std::fs::write(&copy, "precious").expect("the folder can be written to");
    let output = command(&["backup", &copy.display().to_string(), "--database", database.url()]).await;
    assert!(!output.status.success() && said(&output).contains("copy.db"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(&copy).expect("the file exists"), "precious");

    let postgres = Database::fresh(Kind::Postgres);
    let copy = database.path("other.db").display().to_string();
    let output = command(&["backup", &copy, "--database", postgres.url()]).await;
    assert!(!output.status.success() && said(&output).contains("pg_dump"), "{}", said(&output));
}
