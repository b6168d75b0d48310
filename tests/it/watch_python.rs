//! The Python watcher of alerts that docs/events.md shows.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tope::{
    clock::ManualClock,
    config::Config,
    server::{Server, ServerOptions},
};

use crate::harness::{
    process::{run, said, tool},
    world::settings,
    *,
};

fn of_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn alerts(address: &str, stubs: &Path) -> Printing {
    let mut command = Command::new(tool("TOPE_TEST_PYTHON"));
    command
        .arg(of_repository("examples/python/alerts.py"))
        .arg(address)
        .env("PYTHONPATH", stubs)
        .stderr(Stdio::null());
    Printing::start(command)
}

async fn stubs() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut command = Command::new(tool("TOPE_TEST_PYTHON"));
    command.arg(of_repository("tests/python/stubs.py")).arg(folder.path());
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    folder
}

async fn serve(database: &Database, listen: &str, clock: &ManualClock) -> (Server, Clients) {
    let listen = listen.parse().expect("an address");
    let mut options = ServerOptions::new(Config { listen, ..settings(database.url()) });
    options.clock = Some(clock.clone());
    let server = Server::start(options).await.expect("the server starts");
    let channel = clients::connect(&format!("http://{}", server.address())).await;
    clients::serving(&channel).await;
    (server, Clients::of(channel))
}

on_both! {
    async fn the_python_watcher_prints_alerts_and_resumes_after_a_restart(kind: Kind) {
        let (database, clock) = (Database::fresh(kind), ManualClock::at(NOON));
        let (server, clients) = serve(&database, "127.0.0.1:0", &clock).await;
        let address = server.address().to_string();
        let stubs = stubs().await;
        let python = alerts(&address, stubs.path());
        // The script does not report when its watch has begun. So new tenants reach their thresholds until the script
        // prints an alert.
        let mut number = 0;
        let line = eventually("it prints an alert", async || {
            number += 1;
            let tenant = format!("tenant-{number}");
            clients.tenant_with(&tenant, &[day("tokens", 100).thresholds(&[80])]).await;
            clients.record(&tenant).tokens(85).await.expect("it is recorded");
            python.line_by_now()
        })
        .await;
        assert!(line.starts_with("tenant-"), "{line}");
        assert!(line.ends_with(" THRESHOLD_REACHED day 85 of 100"), "{line}");
        server.shutdown().await;
        // The script waits a second before it resumes, and then gets the events since its cursor.
        let (server, clients) = serve(&database, &address, &clock).await;
        clients.record("tenant-1").tokens(15).await.expect("it is recorded");
        let mut last = line;
        let line = loop {
            let line = python.line();
            assert_ne!(line, last, "each alert once");
            if line.starts_with("tenant-1 ") && line.contains("LIMIT_REACHED") {
                break line;
            }
            last = line;
        };
        assert_eq!(line, "tenant-1 LIMIT_REACHED day 100 of 100");
        server.shutdown().await;
        process::verify(database.url()).await;
    }
}
