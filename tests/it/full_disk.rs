//! SQLite on a full disk. Health reports NOT_SERVING, no acknowledged call is lost, and when there is room again, the
//! server goes on by itself.

use std::{fs, process::Command};

use crate::harness::{
    clients::{not_serving, serving},
    preload::SmallDisk,
    process::{said, tope},
    *,
};

/// Number of bytes by which the database may grow until the limit.
const GROWTH_BYTES: u64 = 100_000;

/// Number of bytes that are freed on the full disk. A write-ahead log that only grows would use up these bytes.
const FREED_BYTES: u64 = 3 * 1_024 * 1_024;

/// Number of Records that must succeed with the freed bytes. A write-ahead log that only grows would use up these bytes
/// before.
const SERVED: usize = 1_500;

/// Number of Records in one Batch call, of one token each.
const GROUP: usize = 100;

/// The test limits the size of files. This works on each machine, and the same writes fail as on a full disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_serve_while_its_sqlite_file_cannot_be_written() {
    let database = Database::fresh(Kind::Sqlite);
    let mut command = Command::new("sh");
    let binary = tope();
    // If the signal XFSZ is ignored, a write beyond the limit fails instead of killing the server.
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(binary.get_program());
    let process = Process::start_as(command, database.url(), &database.path(""), &[]);
    let channel = process.connect().await;
    serving(&channel).await;
    let clients = Clients::of(channel);
    clients.tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;

    for round in 0..2 {
        let load = Load::begin(&clients, "acme");
        let size = fs::metadata(database.path("tope.db")).expect("the file exists").len();
        limit_files(&process, Some(size + GROWTH_BYTES));
        not_serving(&clients.channel).await;
        let log = process.log();
        assert!(
            log.contains("over its quota") && log.contains(" MB"),
            "{round}: it says what it needs: {log}"
        );
        limit_files(&process, None);
        serving(&clients.channel).await;
        let acknowledged = load.end().await;
        clients.record("acme").tokens(1).await.expect("it serves");
        let figures = clients.figures("acme", "lifetime").await;
        assert!(usize::try_from(figures.0).is_ok_and(|committed| committed > acknowledged), "{figures:?}");
    }
    process.stop().await;
    process::verify(database.url()).await;
}

fn limit_files(process: &Process, bytes: Option<u64>) {
    let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let mut command = Command::new("prlimit");
    // Only the soft limit is set, so it can be raised again.
    command.args(["--pid", &process.id().to_string(), &format!("--fsize={limit}:")]);
    let output = command.output().expect("prlimit is next to setpriv");
    assert!(output.status.success(), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_freed_megabytes_on_a_full_disk_are_enough_to_serve() {
    let (folder, disk) = (database::scratch_folder(), database::scratch_folder());
    let url = database::sqlite_url(&disk.path().join("tope.db"));
    let small = SmallDisk::new(folder.path(), disk.path()).await;
    let mut process = Process::start_as(small.command(), &url, folder.path(), &[]);
    let channel = process.connect().await;
    serving(&channel).await;
    let mut clients = Clients::of(channel);
    clients.tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;

    let mut acknowledged = 0;
    for restart in [false, true] {
        // After each call, another program fills the disk again.
        while record_group(&clients).await {
            acknowledged += GROUP;
            small.leave(0);
        }
        not_serving(&clients.channel).await;
        if restart {
            process.kill();
            let mut early = Process::start_as(small.command(), &url, folder.path(), &[]);
            assert_eq!(early.ended().await.code(), Some(1), "{}", early.log());
            assert!(early.log().contains("free at least"), "it says what it needs: {}", early.log());
        }
        small.leave(FREED_BYTES);
        if restart {
            process = Process::start_as(small.command(), &url, folder.path(), &[]);
        }
        let channel = process.connect().await;
        serving(&channel).await;
        clients = Clients::of(channel);
        for _ in 0..SERVED / GROUP {
            assert!(record_group(&clients).await, "{}", process.log());
            acknowledged += GROUP;
        }
        let figures = clients.figures("acme", "lifetime").await;
        assert!(usize::try_from(figures.0).is_ok_and(|committed| committed >= acknowledged), "{figures:?}");
        process::verify(&url).await;
    }
    process.stop().await;
}

async fn record_group(clients: &Clients) -> bool {
    let operations = vec![clients.record("acme").tokens(1).operation(); GROUP];
    let results = clients.batch(operations).await;
    results.is_ok_and(|results| {
        results.iter().all(|result| !matches!(result.result, Some(v1::operation_result::Result::Error(_))))
    })
}
