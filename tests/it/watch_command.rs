//! The command `tope watch`, as people run it.

use std::process::Stdio;

use serde_json::Value;
use tope::{
    clock::ManualClock,
    config::Config,
    server::{Server, ServerOptions},
};

use crate::{
    harness::{
        process::{run, said, tope},
        world::settings,
        *,
    },
    webhook_body::bare_numbers,
};

fn watch(target: &str, arguments: &[&str]) -> Printing {
    let mut command = tope();
    command.args(["watch", "--target", target]).args(arguments).stderr(Stdio::null());
    Printing::start(command)
}

/// Returns the next printed object. Skips heartbeats and events of the preparation.
fn object(printing: &Printing) -> Value {
    loop {
        let object: Value = serde_json::from_str(&printing.line()).expect("a JSON object");
        if object["type"] != "heartbeat" && object["type"] != "policy_changed" {
            return object;
        }
    }
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
    async fn tope_watch_resumes_by_itself_after_a_restart_of_the_server(kind: Kind) {
        let (database, clock) = (Database::fresh(kind), ManualClock::at(NOON));
        let (server, clients) = serve(&database, "127.0.0.1:0", &clock).await;
        let address = server.address().to_string();
        let target = format!("http://{address}");
        clients.tenant_with("acme", &[day("tokens", 10).thresholds(&[50])]).await;
        clients.record("acme").tokens(1).await.expect("it is recorded");
        let printing = watch(&target, &["--tenant", "acme", "--snapshot", "-o", "json"]);
        let snapshot = object(&printing);
        assert_eq!((snapshot["type"].as_str(), &snapshot["data"]["balances"][0]["committed"]), (Some("snapshot"), &"1".into()));
        clients.record("acme").tokens(4).await.expect("it is recorded");
        let first = object(&printing);
        assert_eq!((first["type"].as_str(), &first["data"]["percent"]), (Some("threshold_reached"), &50.into()));
        let balance = &first["data"]["balances"][0];
        assert_eq!((&balance["limit_id"], &balance["committed"], &balance["allowance"]), (&"day".into(), &"5".into(), &"10".into()));
        for message in [&snapshot, &first] {
            assert_eq!(bare_numbers("", message), Vec::<String>::new(), "{message:#}");
        }
        server.shutdown().await;
        let (server, clients) = serve(&database, &address, &clock).await;
        clients.record("acme").tokens(5).await.expect("it is recorded");
        let second = object(&printing);
        assert_eq!(second["type"], "limit_reached");
        let number = |message: &Value| -> i64 {
            let text = message["data"]["tenant_sequence"].as_str().expect("int64 is text");
            text.parse().expect("a number")
        };
        assert_eq!(number(&second), number(&first) + 1);
        // Print the output for people, from the cursor of the first watch.
        let cursor = first["cursor"].as_str().expect("each has one");
        let printing = watch(&target, &["--cursor", cursor, "--kind", "limit_reached"]);
        let line = printing.line();
        assert!(line.contains("acme  LIMIT_REACHED  day: 10 of 10 tokens spent"), "{line}");
        assert!(!line.contains('\u{1b}'), "no colour where there is no terminal: {line}");
        server.shutdown().await;
        process::verify(database.url()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tope_watch_reports_why_it_cannot_watch() {
    let (database, clock) = (Database::fresh(Kind::Sqlite), ManualClock::at(NOON));
    let (server, _) = serve(&database, "127.0.0.1:0", &clock).await;
    let target = format!("http://{}", server.address());
    let rows: [(&[&str], &str); 4] = [
        (&["--tenant", "nobody"], "TENANT_NOT_FOUND"),
        (&["--cursor", "nonsense"], "cursor"),
        (&["--min-percent", "2000"], "min-percent"),
        (&["--kind", "nonsense"], "must be a kind of event"),
    ];
    for (arguments, said_of_it) in rows {
        let mut command = tope();
        command.args(["watch", "--target", &target]).args(arguments);
        let output = run(command).await;
        assert!(!output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(said_of_it), "{}", said(&output));
    }
    server.shutdown().await;
}
