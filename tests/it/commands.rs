//! The output of the commands, and their exit codes.

use std::process::Command;

use crate::harness::{
    clients::{connect, serving},
    database::{scratch_folder, sqlite_url},
    postgres::free_port,
    process::{run, said, tope},
    *,
};

/// Makes a `tope` command with these arguments. It can reach no server and no database.
fn command(arguments: &[&str]) -> Command {
    let mut command = tope();
    command.args(arguments);
    command
}

#[tokio::test]
async fn a_wrong_argument_is_named_and_causes_exit_code_2() {
    let cases: [(&[&str], &str); 12] = [
        (&["serve", "--lanes", "0"], "lanes must be 1 to 64"),
        (&["serve", "--drain-seconds", "100000"], "drain_seconds must be at most 86400"),
        (&["serve", "--event-retention-days", "1"], "event_retention_days must be 2"),
        (&["serve", "--database", "x.db"], "sqlite://x.db"),
        (&["verify", "--database", "x.db"], "sqlite://x.db"),
        (&["serve", "--config", "/nowhere/tope.toml"], "/nowhere/tope.toml"),
        (&["watch", "--target", "nonsense"], "nonsense"),
        (&["watch", "--min-percent", "9000000"], "9000000"),
        (&["jobs", "list", "--target", "ftp://127.0.0.1:1"], "ftp://127.0.0.1:1"),
        (&["reserve", "acme", "tokens"], "tokens=1000"),
        (&["commit", "acme", "tokens=1"], "--request-id"),
        (&["usage"], "TENANT"),
    ];
    for (arguments, named) in cases {
        let output = run(command(arguments)).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(named), "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "errors go to stderr: {}", said(&output));
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_causes_exit_code_4() {
    let target = format!("127.0.0.1:{}", free_port());
    for arguments in [&["usage", "acme"][..], &["watch"], &["jobs", "list"], &["reserve", "acme", "tokens=1"]]
    {
        let output = run(command(&[arguments, &["--target", &target]].concat())).await;
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(&target), "{arguments:?}: {}", said(&output));
    }
}

#[tokio::test]
async fn print_config_prints_the_settings_without_the_password() {
    let folder = scratch_folder();
    let file = folder.path().join("tope.toml");
    std::fs::write(&file, "lanes = 3\ndrain_seconds = 4\n").expect("the folder can be written to");
    let mut command =
        command(&["serve", "--print-config", "--lanes", "5", "--config", &file.display().to_string()]);
    command.env("TOPE_DATABASE", "postgres://me:s3cret@db/books");
    let output = run(command).await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", said(&output));
    for line in [
        "lanes = 5",
        "drain_seconds = 4",
        "database = \"postgres://me@db/books\"",
        "webhook_allow_http = false",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
}

#[tokio::test]
async fn help_shows_the_default_and_the_variable_of_each_setting() {
    let output = run(command(&["serve", "--help"])).await;
    let help = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["[default: 127.0.0.1:50051] [env: TOPE_LISTEN]", "[default: 30] [env: TOPE_EVENT_RETENTION_DAYS]"]
    {
        assert!(help.contains(part), "{part}: {help}");
    }
}

/// Takes the steps of the README: Reserve, Commit, GetUsage, and a Reserve that is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_steps_of_the_readme_need_only_the_command() {
    let folder = scratch_folder();
    let database = sqlite_url(&folder.path().join("tope.db"));
    let (process, _) = Process::serving(&database, folder.path(), &["--demo"]).await;
    let target = process.address().to_string();
    let tope = async |arguments: &[&str]| {
        let mut command = command(arguments);
        command.env("TOPE_TARGET", &target);
        run(command).await
    };
    let held =
        tope(&["reserve", "acme", "tokens=1000", "--agent", "planner", "--request-id", "call-1"]).await;
    assert!(held.status.success() && said(&held).contains("RESERVED until"), "{}", said(&held));
    assert!(said(&held).contains("tokens-per-month"), "{}", said(&held));
    let done = tope(&["commit", "acme", "tokens=800", "--request-id", "call-1", "-o", "json"]).await;
    let document: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one JSON document");
    assert_eq!(document["reservation"]["state"], "committed", "{document}");
    let usage = tope(&["usage", "acme"]).await;
    let line = String::from_utf8_lossy(&usage.stdout)
        .lines()
        .find(|line| line.starts_with("tokens-per-day"))
        .map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("a line for the limit: {}", said(&usage)));
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[..7], ["tokens-per-day", "tokens", "all", "100000", "800", "0", "99200"], "{line}");
    let refused = tope(&["reserve", "acme", "tokens=99500"]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    for part in ["tokens-per-day", "99200", "try again in"] {
        assert!(said(&refused).contains(part), "{part}: {}", said(&refused));
    }
    let unknown = tope(&["usage", "nobody"]).await;
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
    let garbage = tope(&["watch", "--cursor", "garbage"]).await;
    assert_eq!(garbage.status.code(), Some(2), "{}", said(&garbage));
    assert_eq!(said(&garbage).matches("cursor:").count(), 1, "the fault is said once: {}", said(&garbage));
    assert!(process.log().contains("tope reserve acme"), "--demo says what to try: {}", process.log());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_variable_or_log_level_causes_a_warning() {
    let folder = scratch_folder();
    let mut command = tope();
    command.env("TOPE_DATABSE", "sqlite://elsewhere.db").env("RUST_LOG", "debg");
    let database = sqlite_url(&folder.path().join("tope.db"));
    let process = Process::start_as(command, &database, folder.path(), &[]);
    serving(&connect(&process.target()).await).await;
    // The server logs the last of these lines after it has begun to answer calls.
    for part in [
        "TOPE_DATABSE has no effect; did you mean TOPE_DATABASE?",
        "\"debg\" is not a level",
        "the server is ready",
    ] {
        eventually(part, async || process.log().contains(part).then_some(())).await;
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bench_reports_why_it_cannot_write_its_database() {
    let folder = scratch_folder();
    let missing = folder.path().join("missing");
    let output = run(command(&["bench", "--database", &sqlite_url(&missing.join("tope.db"))])).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let reason = format!("cannot write in {}: No such file or directory", missing.display());
    assert!(said(&output).contains(&reason), "{}", said(&output));
}

/// Another program listens at the target, such as a receiver of webhooks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_reports_that_its_target_speaks_http_1() {
    let receiver = Receiver::start().await;
    let target = format!("127.0.0.1:{}", receiver.port());
    for arguments in [&["watch"][..], &["usage", "acme"]] {
        let mut command = tope();
        command.args(arguments).args(["--target", &target]);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        assert!(said(&output).contains("it speaks HTTP/1, and gRPC needs HTTP/2"), "{}", said(&output));
    }
}
