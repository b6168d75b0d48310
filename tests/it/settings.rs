//! Settings of `tope serve` (flag, then environment, then file), and its log.

use std::{fs, path::Path, process::Stdio};

use crate::harness::{
    clients::{connect, serving},
    database::{scratch_folder, sqlite_url},
    postgres::free_port,
    process::{run, said, tope},
    *,
};

fn toml(folder: &Path, port: u16, database: &str) -> String {
    let file = folder.join("tope.toml");
    let text = format!("listen = \"127.0.0.1:{port}\"\ndatabase = \"{database}\"\ndrain_seconds = 3\n");
    fs::write(&file, text).expect("the folder can be written to");
    file.display().to_string()
}

/// In each case the test checks which of three databases is served, and on which port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_overrides_the_environment_and_both_override_the_file() {
    let folder = scratch_folder();
    for (case, by) in ["file", "environment", "flag"].into_iter().enumerate() {
        let ports = [free_port(), free_port(), free_port()];
        let url = |of: &str| sqlite_url(&folder.path().join(format!("{case}-{of}.db")));
        let mut command = tope();
        command.args(["serve", "--config", &toml(folder.path(), ports[0], &url("file"))]);
        if case >= 1 {
            command.env("TOPE_LISTEN", format!("127.0.0.1:{}", ports[1]));
            command.env("TOPE_DATABASE", url("environment"));
        }
        if case >= 2 {
            let listen = format!("127.0.0.1:{}", ports[2]);
            command.args(["--listen", &listen, "--database", &url("flag")]);
        }
        let mut child = command.stderr(Stdio::null()).spawn().expect("the binary can be started");
        let channel = connect(&format!("http://127.0.0.1:{}", ports[case])).await;
        serving(&channel).await;
        child.kill().expect("it runs");
        child.wait().expect("the process is our child");
        let made = |of: &str| folder.path().join(format!("{case}-{of}.db")).exists();
        assert_eq!(
            ["file", "environment", "flag"].map(made),
            ["file", "environment", "flag"].map(|of| of == by)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_names_a_wrong_setting() {
    let folder = scratch_folder();
    let file = folder.path().join("bad.toml");
    fs::write(&file, "listne = \"127.0.0.1:1\"\n").expect("the folder can be written to");
    let file = file.display().to_string();
    let cases: [(&[&str], &str); 6] = [
        (&["--config", &file], "listne"),
        (&["--config", "/nowhere/tope.toml"], "/nowhere/tope.toml"),
        (&["--listen", "here"], "here"),
        (&["--log-format", "loud"], "loud"),
        (
            &["--request-id-retention-hours", "49", "--reservation-retention-days", "2"],
            "reservation_retention_days",
        ),
        (&["--lanes", "0", "--database", "sqlite:///nowhere/tope.db"], "lanes"),
    ];
    for (arguments, word) in cases {
        let mut command = tope();
        command.arg("serve").args(arguments);
        let output = run(command).await;
        assert!(!output.status.success() && said(&output).contains(word), "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "errors go to stderr");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_can_be_json_and_warns_if_other_machines_can_connect() {
    let database = Database::fresh(Kind::Sqlite);
    let port = free_port();
    let log = database.path("json.log");
    let file = fs::File::create(&log).expect("the folder can be written to");
    let mut command = tope();
    let listen = format!("0.0.0.0:{port}");
    command.args([
        "serve",
        "--log-format",
        "json",
        "--listen",
        &listen,
        "--insecure",
        "--database",
        database.url(),
    ]);
    let mut child = command.stderr(file).spawn().expect("the binary can be started");
    serving(&connect(&format!("http://127.0.0.1:{port}")).await).await;
    let warned = eventually("it warns", async || {
        let log = fs::read_to_string(&log).expect("the file exists");
        log.contains("other machines can reach").then_some(log)
    })
    .await;
    child.kill().expect("it runs");
    child.wait().expect("the process is our child");
    for line in warned.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("one object a line");
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_contains_no_password() {
    let folder = scratch_folder();
    let url = format!("postgres://tope:open-sesame@127.0.0.1:{}/tope", free_port());
    let process = Process::start(&url, folder.path(), &[]);
    process.connect().await;
    eventually("it says what is missing", async || process.log().contains("127.0.0.1").then_some(())).await;
    assert!(!process.log().contains("open-sesame"), "{}", process.log());
    process.stop().await;
    for subcommand in ["verify", "migrate"] {
        let mut command = tope();
        command.args([subcommand, "--database", &url]);
        let output = run(command).await;
        assert!(!said(&output).contains("open-sesame"), "{}", said(&output));
    }
}
