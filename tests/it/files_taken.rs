//! The files of a SQLite database are removed, replaced, truncated or overwritten while a server runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::join_all;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::time::Instant;
use tonic::Code;

use crate::harness::{
    clients::{not_serving, serving},
    process::{run, said, tope},
    *,
};

/// Replaces or damages the file. `copy` is a slightly older copy of the database.
type Deed = fn(file: &Path, copy: &Path);

/// Each deed: its name, its function, and whether each COMMIT detects it. The server detects the other deeds by a check
/// that it makes a few times a second.
const DEEDS: [(&str, Deed, bool); 9] = [
    ("unlinked", |file, _| fs::remove_file(file).expect("the file exists"), true),
    ("truncated", |file, _| truncate(file, 0), true),
    ("truncated a little", |file, _| truncate(file, 3 * 4_096), true),
    ("replaced", |file, copy| fs::rename(copy, file).expect("both are there"), true),
    (
        "moved away",
        |file, copy| fs::rename(file, copy.with_extension("away")).expect("the file exists"),
        false,
    ),
    ("copied over", copy_over, false),
    ("written over", write_over, false),
    ("robbed of its log", |file, _| fs::remove_file(beside(file, "-wal")).expect("the file exists"), true),
    ("robbed of its index", |file, _| fs::remove_file(beside(file, "-shm")).expect("the file exists"), false),
];

fn truncate(file: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(file).expect("the file exists");
    file.set_len(bytes).expect("it can be written to");
}

/// Copies `copy` over the file, like `cp`.
fn copy_over(file: &Path, copy: &Path) {
    fs::copy(copy, file).expect("both are there");
}

/// Copies `copy` over the file, like `dd conv=notrunc`: the file never gets smaller.
fn write_over(file: &Path, copy: &Path) {
    use std::os::unix::fs::FileExt;
    let bytes = fs::read(copy).expect("the file exists");
    let file = fs::OpenOptions::new().write(true).open(file).expect("the file exists");
    file.write_all_at(&bytes, 0).expect("it can be written to");
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(end);
    path.into()
}

/// Maximum time from a deed until health reports NOT_SERVING.
const NOTICED_MAX: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_acknowledged_after_the_file_was_replaced_or_damaged() {
    for (prepared, (name, deed, at_once)) in prepare().await.into_iter().zip(DEEDS) {
        take_away(prepared, name, deed, Some(at_once)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_calls_notices_that_its_file_was_replaced_or_damaged() {
    for (prepared, (name, deed, _)) in prepare().await.into_iter().zip(DEEDS) {
        take_away(prepared, name, deed, None).await;
    }
}

struct Prepared {
    database: Database,
    copy: PathBuf,
    process: Process,
    clients: Clients,
}

/// Prepares a server for each deed. All servers start at the same time, because each server needs some seconds until
/// the deed can be tried.
async fn prepare() -> Vec<Prepared> {
    let prepared = DEEDS.map(async |_| {
        let database = Database::fresh(Kind::Sqlite);
        let copy = database.path("copy.db");
        let (process, clients) = serve_after_backup(&database, &copy).await;
        Prepared { database, copy, process, clients }
    });
    join_all(prepared).await
}

/// Tries a deed. `load` is `None`: without calls. `Some`: under load; the value says whether each COMMIT must detect
/// the deed.
async fn take_away(prepared: Prepared, name: &str, deed: Deed, load: Option<bool>) {
    let Prepared { database, copy, process, clients } = prepared;
    let file = database.path("tope.db");
    let load = match load {
        Some(at_once) => {
            let (load, begun) = (Load::begin(&clients, "acme"), Instant::now());
            eventually("it is loaded", async || (load.acknowledged_since(begun) > 100).then_some(())).await;
            Some((load, at_once))
        }
        None => None,
    };

    let begun = Instant::now();
    deed(&file, &copy);
    let done = Instant::now();
    not_serving(&clients.channel).await;
    let noticed = begun.elapsed();
    assert!(noticed < NOTICED_MAX, "{name}: after {noticed:?}");
    let no = clients.record("acme").tokens(1).await.expect_err("it is gone");
    no.is(Code::Unavailable, "DATABASE_UNAVAILABLE");
    if let Some((load, at_once)) = load {
        let late = load.acknowledged_since(if at_once { done } else { done + NOTICED_MAX / 2 });
        assert_eq!(late, 0, "{name}");
        load.end().await;
    }

    // The server does not serve again, and logs the reason once.
    let no = clients.get_usage("acme").await.expect_err("it is gone");
    no.is(Code::Unavailable, "DATABASE_UNAVAILABLE");
    not_serving(&clients.channel).await;
    let log = process.log();
    assert_eq!(log.matches("while this server uses them").count(), 1, "{name}: {log}");
    assert!(log.contains("tope.db-wal") && log.contains("tope verify"), "it says what to do: {log}");
    let before = fs::read(&file).ok();
    process.stop().await;
    assert!(fs::read(&file).ok() == before, "{name}: what was put there is left alone");
}

/// Records 5 tokens, copies the database, starts the server again, and records 7 tokens more.
async fn serve_after_backup(database: &Database, copy: &Path) -> (Process, Clients) {
    let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
    let clients = Clients::of(channel);
    clients.tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;
    clients.record("acme").tokens(5).await.expect("it serves");
    back_up(database.url(), copy).await;
    process.stop().await;
    let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
    let clients = Clients::of(channel);
    clients.record("acme").tokens(7).await.expect("it serves");
    // A checkpoint of the WAL writes the first mark to the file, and the second mark is written after that.
    let begun = mark(database).await;
    eventually("another mark is written", async || (mark(database).await != begun).then_some(())).await;
    (process, clients)
}

/// Reads the mark that the server's probe writes into the database.
async fn mark(database: &Database) -> String {
    let connection = stall::connect(database.url()).await;
    let statement = Statement::from_string(DbBackend::Sqlite, "SELECT hex(body) FROM probes");
    let row = connection.query_one_raw(statement).await.expect("it can be read").expect("there is one");
    connection.close().await.expect("the connection closes");
    row.try_get_by_index(0).expect("a text")
}

/// The test copies a backup over the file. A new server continues from the backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_copied_over_the_file_can_be_served() {
    let database = Database::fresh(Kind::Sqlite);
    let (file, copy) = (database.path("tope.db"), database.path("copy.db"));
    let (process, clients) = serve_after_backup(&database, &copy).await;
    fs::copy(&copy, &file).expect("both are there");
    not_serving(&clients.channel).await;
    process.stop().await;

    for end in ["-wal", "-shm"] {
        fs::remove_file(beside(&file, end)).expect("it is left");
    }
    process::verify(database.url()).await;
    let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
    assert_eq!(Clients::of(channel).figures("acme", "lifetime").await, (5, 0));
    process.stop().await;
}

/// These acts of other programs do not damage the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_goes_on_while_others_read_touch_and_checkpoint_its_file() {
    let database = Database::fresh(Kind::Sqlite);
    let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
    let clients = Clients::of(channel);
    clients.tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;
    let load = Load::begin(&clients, "acme");
    let begun = Instant::now();
    eventually("it is loaded", async || (load.acknowledged_since(begun) > 200).then_some(())).await;
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let acknowledged = load.end().await;
    let file = fs::OpenOptions::new().write(true).open(database.path("tope.db")).expect("the file exists");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("the file belongs to this user");
    back_up(database.url(), &database.path("copy.db")).await;
    process::verify(database.url()).await;
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    // Until the next mark, the server checks the files several times.
    let begun = mark(&database).await;
    eventually("another mark is written", async || (mark(&database).await != begun).then_some(())).await;
    clients.record("acme").tokens(1).await.expect("it serves");
    serving(&clients.channel).await;
    let figures = clients.figures("acme", "lifetime").await;
    assert_eq!(usize::try_from(figures.0), Ok(acknowledged + 1));
    process.stop().await;
}

async fn back_up(url: &str, copy: &Path) {
    let mut command = tope();
    command.args(["backup", "--database", url]).arg(copy);
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
}
