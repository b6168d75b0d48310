//! A command that only reads a SQLite database needs no permission to write, neither for its file nor in its folder.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
};

use crate::harness::{
    process::{run, said, tope},
    *,
};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the file belongs to this user");
}

/// Runs the program as a user without privileges, because permissions do not stop root.
async fn run_as_anybody(binary: &Path, arguments: &[&str]) -> Output {
    let mut command = postgres::shell();
    command.args(["-c", "exec \"$@\"", "sh"]).arg(binary).args(arguments);
    run(command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_and_backup_work_on_a_read_only_database() {
    let folder = tempfile::tempdir_in(postgres::scratch()).expect("everybody can write there");
    set_mode(folder.path(), 0o777);
    let (kept, binary) = (folder.path().join("kept"), folder.path().join("tope"));
    fs::create_dir(&kept).expect("the folder can be created");
    fs::copy(tope().get_program(), &binary).expect("the binary exists");
    let file = kept.join("tope.db");
    let url = database::sqlite_url(&file);
    let (process, channel) = Process::serving(&url, folder.path(), &["--demo"]).await;
    Clients::of(channel).record("acme").tokens(7).await.expect("it serves");
    process.stop().await;
    assert!(!kept.join("tope.db-wal").exists(), "a server that has ended leaves one file");
    set_mode(&file, 0o444);
    set_mode(&kept, 0o555);

    let verified = run_as_anybody(&binary, &["verify", "--database", &url]).await;
    assert!(verified.status.success(), "{}", said(&verified));
    let copy = folder.path().join("copy.db");
    let copy = copy.to_str().expect("it is UTF-8");
    let copied = run_as_anybody(&binary, &["backup", "--database", &url, copy]).await;
    assert!(copied.status.success(), "{}", said(&copied));
    process::verify(&format!("sqlite://{copy}")).await;
    let served = run_as_anybody(&binary, &["serve", "--http", "off", "--database", &url]).await;
    assert_eq!(served.status.code(), Some(1), "{}", said(&served));
    assert!(said(&served).contains("cannot be written"), "{}", said(&served));
    assert_eq!(fs::read_dir(&kept).expect("it can be read").count(), 2, "the file and its lock");
    set_mode(&kept, 0o755);
}
