//! The main task of Tope with real input: `tope replay` and a Python client play a trace of model calls.

use std::{path::Path, process::Command};

use crate::{
    harness::{
        clients::{ALL_STATES, reservations},
        process::{run, said, tope},
        v1::*,
        *,
    },
    trace::{ESTIMATE, Trace, assert_granted},
};

/// Number of calls that are played against a limit. Each of them waits for the one before, and for two transactions of
/// its own. So they take about four times as long as calls that are in flight together.
const CALLS_ONE_BY_ONE: usize = 4_000;
/// Number of calls that the Python client plays.
const CALLS_OF_PYTHON: usize = 2_000;

on_both! {
    /// The trace is played without a limit, with 32 calls at the same time.
    async fn tope_replay_commits_every_row_of_the_trace(kind: Kind) {
        let database = Database::fresh(kind);
        let trace = Trace::get(&database.path(""));
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        replay(&process, &trace, &["--tenant", "acme", "--in-flight", "32"]).await;
        let clients = Clients::of(channel);
        assert_eq!(clients.figures("acme", "").await, (trace.tokens(), 0));
        assert_eq!(all_committed(&clients).await, trace.calls.len());
        process.stop().await;
        process::verify(database.url()).await;
    }

    /// The trace is played with one call at a time, so that its order is known.
    async fn tope_replay_is_refused_the_calls_that_the_model_refuses(kind: Kind) {
        let database = Database::fresh(kind);
        let trace = Trace::get(&database.path("")).first(CALLS_ONE_BY_ONE, &database.path(""));
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        let limit = trace.limit().to_string();
        replay(&process, &trace, &["--tenant", "acme", "--limit", &limit]).await;
        let clients = Clients::of(channel);
        let granted = trace.granted(trace.limit());
        assert!(granted.len() < trace.calls.len(), "the limit is reached");
        assert_granted(&reservations(&clients.quota, "acme", &ALL_STATES).await, &granted);
        let spent: i64 = granted.iter().map(|(_, used)| used).sum();
        assert_eq!(clients.figures("acme", "lifetime").await, (spent, 0));
        process.stop().await;
        process::verify(database.url()).await;
    }

    async fn a_python_client_commits_every_row_of_the_first_part_of_the_trace(kind: Kind) {
        let database = Database::fresh(kind);
        let trace = Trace::get(&database.path("")).first(CALLS_OF_PYTHON, &database.path(""));
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        let clients = Clients::of(channel);
        clients.declare("tokens").await;
        clients.tenant_with("acme", &[]).await;
        let summary = python(&process, &trace, &[]).await;
        assert_eq!(summary["granted"], trace.calls.len());
        assert_eq!(summary["committed_tokens"], trace.tokens());
        assert_eq!(clients.figures("acme", "").await, (trace.tokens(), 0));
        assert_eq!(all_committed(&clients).await, trace.calls.len());
        process.stop().await;
        process::verify(database.url()).await;
    }

    /// The client has its own model. It stops at the first decision that differs from its model.
    async fn a_python_client_is_refused_the_calls_that_the_model_refuses(kind: Kind) {
        let database = Database::fresh(kind);
        let trace = Trace::get(&database.path("")).first(CALLS_OF_PYTHON, &database.path(""));
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        let clients = Clients::of(channel);
        clients.tenant_with("acme", &[lifetime("tokens", trace.limit())]).await;
        let summary = python(&process, &trace, &["--limit", &trace.limit().to_string()]).await;
        let granted = trace.granted(trace.limit());
        assert_eq!(summary["granted"], granted.len());
        assert_eq!(summary["refused"], trace.calls.len() - granted.len());
        assert_granted(&reservations(&clients.quota, "acme", &ALL_STATES).await, &granted);
        process.stop().await;
        process::verify(database.url()).await;
    }
}

async fn all_committed(clients: &Clients) -> usize {
    let all = reservations(&clients.quota, "acme", &ALL_STATES).await;
    let committed = reservations(&clients.quota, "acme", &[ReservationState::Committed]).await;
    assert_eq!(all.len(), committed.len(), "nothing else was made, or left");
    committed.len()
}

async fn replay(process: &Process, trace: &Trace, arguments: &[&str]) {
    let mut command = tope();
    command.arg("replay").arg(&trace.path).args(["--target", &process.target()]).args(arguments);
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(!output.stdout.is_empty(), "there is a summary: {}", said(&output));
}

/// Runs the Python client, and returns its summary.
async fn python(process: &Process, trace: &Trace, arguments: &[&str]) -> serde_json::Value {
    let interpreter = crate::harness::process::tool("TOPE_TEST_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/replay.py");
    let mut command = Command::new(interpreter);
    command.arg(script).args(["--target", &process.address().to_string(), "--tenant", "acme"]);
    command.args(["--estimate", &ESTIMATE.to_string()]).arg("--csv").arg(&trace.path).args(arguments);
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("a line of JSON")
}
