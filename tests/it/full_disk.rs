//! SQLite where nothing more can be written: health says so, nothing that was acknowledged is lost, and once there is
//! room the server goes on by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{
    clients::{not_serving, serving},
    process::{run, said, tope},
    *,
};

/// Bytes by which the database may grow, under the limit.
const GROWTH_BYTES: u64 = 100_000;

/// The file system of a server, in KiB, and what is left of it once it is filled. A write-ahead log that is not kept short would
/// take all of what is freed.
const DISK_KILOBYTES: u64 = 32 * 1_024;
const FREED_KILOBYTES: u64 = 3 * 1_024;

/// Calls that must succeed in what was freed: more than a log could hold that had to grow in it.
const SERVED: usize = 1_500;

/// Records of one token in one call.
const GROUP: usize = 100;

/// A limit on the size of files works on each machine, and fails the same writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_cannot_be_written_is_not_served_from() {
    let database = Database::fresh(Kind::Sqlite);
    let mut command = Command::new("sh");
    let binary = tope();
    // Ignored, the signal of a write that is too long leaves it to fail.
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(binary.get_program());
    let process = Process::start_as(command, database.url(), &database.path(""), &[]);
    let channel = process.connect().await;
    serving(&channel).await;
    let clients = Clients::of(channel);
    clients.tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;

    for round in 0..2 {
        let load = Load::begin(&clients, "acme");
        let size = fs::metadata(database.path("tope.db")).expect("it is there").len();
        limit_files(&process, Some(size + GROWTH_BYTES));
        not_serving(&clients.channel).await;
        let log = process.log();
        assert!(
            log.contains("takes no more") && log.contains(" MB"),
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
    // The soft limit only.
    command.args(["--pid", &process.id().to_string(), &format!("--fsize={limit}:")]);
    let output = command.output().expect("prlimit is next to setpriv");
    assert!(output.status.success(), "{}", said(&output));
}

/// A file system of its own needs a machine that lets this process mount one; elsewhere there is nothing to try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_megabytes_on_a_full_disk_are_enough() {
    let folder = database::scratch_folder();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).expect("the folder can be written to");
    if !can_mount(&disk) {
        return;
    }
    let url = database::sqlite_url(&disk.join("tope.db"));
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t tmpfs -o size=\"$0\" tmpfs \"$1\" && shift && exec \"$@\""]);
    command.arg(format!("{DISK_KILOBYTES}k")).arg(&disk).arg(tope().get_program());
    let mut process = Process::start_as(command, &url, folder.path(), &[]);
    let channel = process.connect().await;
    serving(&channel).await;
    let clients = Clients::of(channel);
    clients.tenant_with("acme", &[lifetime("tokens", i64::MAX)]).await;

    // Another program fills it while the server writes.
    let inside = PathBuf::from(format!("/proc/{}/root", process.id()));
    let inside = inside.join(disk.strip_prefix("/").expect("it is absolute"));
    let mut acknowledged = 0;
    while record_group(&clients).await {
        acknowledged += GROUP;
        fill(&inside.join("filler"));
    }
    not_serving(&clients.channel).await;
    let filler = fs::OpenOptions::new().write(true).open(inside.join("filler")).expect("it is there");
    let kept = filler.metadata().expect("it is there").len().saturating_sub(FREED_KILOBYTES * 1_024);
    filler.set_len(kept).expect("it can be shortened");
    serving(&clients.channel).await;
    for _ in 0..SERVED / GROUP {
        assert!(record_group(&clients).await, "{}", process.log());
        acknowledged += GROUP;
    }
    let figures = clients.figures("acme", "lifetime").await;
    assert!(usize::try_from(figures.0).is_ok_and(|committed| committed >= acknowledged), "{figures:?}");

    let mut verify = Command::new("nsenter");
    verify.args(["-m", "-t", &process.id().to_string()]).arg(tope().get_program());
    verify.args(["verify", "--database", &url]);
    let output = run(verify).await;
    assert!(output.status.success(), "{}", said(&output));
    process.kill();
}

async fn record_group(clients: &Clients) -> bool {
    let operations = vec![clients.record("acme").tokens(1).operation(); GROUP];
    let results = clients.batch(operations).await;
    results.is_ok_and(|results| {
        results.iter().all(|result| !matches!(result.result, Some(v1::operation_result::Result::Error(_))))
    })
}

/// Takes all but little of what is free.
fn fill(file: &Path) {
    let mut filler = fs::OpenOptions::new().create(true).append(true).open(file).expect("it can be made");
    let piece = vec![1; 64 * 1_024];
    while std::io::Write::write_all(&mut filler, &piece).is_ok() {}
}

fn can_mount(folder: &Path) -> bool {
    let mut command = Command::new("unshare");
    command.args(["-m", "mount", "-t", "tmpfs", "tmpfs"]).arg(folder);
    command.output().is_ok_and(|output| output.status.success())
}
