//! A fault that may affect each call is logged once a minute, but not once per call.

use crate::{
    harness::{receiver::Answer, v1::*, *},
    webhooks::{happen, webhook},
};

/// Number of calls with the same fault.
const CALLS: usize = 50;

fn lines(process: &Process, text: &str) -> usize {
    process.log().lines().filter(|line| line.contains(text)).count()
}

on_both! {
    async fn a_clock_that_is_behind_is_logged_once(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        let clients = Clients::of(channel);
        clients.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        clients.record("acme").tokens(1).await.expect("it is recorded");
        // The database looks as if the clock was set back by ten minutes after the last decision.
        let ahead = "UPDATE tenants SET decided_at = decided_at + 600000, version = version / 2 + 1";
        database.execute(ahead).await;
        for _ in 0..CALLS {
            clients.record("acme").tokens(1).await.expect("time stands still, and that is all");
        }
        assert_eq!(lines(&process, "the clock is earlier"), 1, "{}", process.log());
        process.stop().await;
    }

    async fn an_operation_that_the_database_always_refuses_is_logged_once(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        let clients = Clients::of(channel);
        clients.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        clients.record("acme").tokens(1).await.expect("it is recorded");
        database
            .execute(match kind {
                Kind::Sqlite => {
                    "CREATE TRIGGER poison BEFORE INSERT ON reservations BEGIN SELECT RAISE(ABORT, 'no'); END"
                }
                Kind::Postgres => {
                    "ALTER TABLE reservations ADD CONSTRAINT poison CHECK (tenant_key = 0) NOT VALID"
                }
            })
            .await;
        for _ in 0..CALLS {
            clients.record("acme").tokens(1).await.expect_err("the database refuses it");
        }
        assert_eq!(lines(&process, "batch failed"), 1, "{}", process.log());
        // Each step of the failing batch may log one more line.
        assert!(lines(&process, " WARN ") + lines(&process, "ERROR") < 5, "{}", process.log());
        process.stop().await;
    }

    async fn an_endpoint_that_fails_is_logged_once_per_webhook(kind: Kind) {
        let database = Database::fresh(kind);
        let allowed = ["--webhook-allow-http", "--webhook-allow-private"];
        let (process, channel) = Process::serving(database.url(), &database.path(""), &allowed).await;
        let clients = Clients::of(channel);
        clients.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
        let receiver = Receiver::answering(|_| Answer::Status(503)).await;
        let other = Receiver::answering(|_| Answer::Status(503)).await;
        webhook(&clients, "chat", &receiver.url(), &[EventKind::UsageReset]).await;
        webhook(&clients, "other", &other.url(), &[EventKind::UsageReset]).await;
        happen(&clients, 12).await;
        eventually("all were tried", async || {
            (receiver.posts().len() >= 12 && other.posts().len() >= 12).then_some(())
        })
        .await;
        assert_eq!(lines(&process, "a delivery to a webhook failed"), 2, "one for each webhook: {}", process.log());
        process.stop().await;
    }
}
