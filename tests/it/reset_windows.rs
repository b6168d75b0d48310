//! ResetUsage resets every running window (R4.18). With the period ROLLING, each subject has windows of its own.

use std::future::IntoFuture;

use crate::harness::{v1::*, *};

const LENGTH: i64 = 5 * HOUR;

/// A limit for each user, in windows that begin with the first use.
fn per_user(millis: i64) -> Limit {
    rolling(millis, 100_000).per(&[Dimension::User])
}

/// Returns limit, user and adjusted units of each balance, sorted.
fn adjusted(reply: &ResetUsageResponse) -> Vec<(&str, Option<&str>, i64)> {
    let rows = reply.balances.iter().zip(&reply.adjusted);
    let mut rows: Vec<_> =
        rows.map(|(balance, &by)| (balance.limit_id.as_str(), balance.user.as_deref(), by)).collect();
    rows.sort_unstable();
    rows
}

both! {
    /// The server does not remember the counters, so it reads them.
    async fn only_running_windows_are_reset(world: World) {
        let limits = [
            per_user(LENGTH),
            per_user(50 * MINUTE).named("short"),
            every(Period::Minute, 1_000).named("minute"),
            every(Period::Hour, 1_000).named("hour"),
            day("tokens", 1_000),
            month("tokens", 1_000),
        ];
        world.tenant_with("acme", &limits).await;
        for (at, user, tokens) in
            [(0, "ana", 1), (2 * HOUR, "bob", 2), (4 * HOUR, "ana", 4), (6 * HOUR - 1, "cid", 8), (6 * HOUR, "ana", 16)]
        {
            world.clock.set(NOON + at);
            world.record("acme").user(user).tokens(tokens).await.expect("it is recorded");
        }
        world.restart().await;
        let reply = world.reset("acme", &["tokens"]).await.expect("the tenant is there");
        let expected = [
            ("day", None, -31),
            ("hour", None, -16),
            ("limit", Some("ana"), -16),
            ("limit", Some("bob"), -2),
            ("limit", Some("cid"), -8),
            ("minute", None, -16),
            ("month", None, -31),
            ("short", Some("ana"), -16),
            ("short", Some("cid"), -8),
        ];
        assert_eq!(adjusted(&reply), expected, "the first window of ana is over, and so are two short windows");
        world.restart().await;
        let again = world.reset("acme", &["tokens"]).await.expect("the tenant is there");
        assert_eq!(adjusted(&again), [], "all of them are at zero");
        world.verify().await;
    }

    /// R4.27, also if time stands still.
    async fn what_two_resets_at_one_instant_subtract_is_not_subtracted_again(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let record = |tokens| world.record("acme").tokens(tokens).into_future();
        let mut charged = Vec::new();
        for tokens in [10, 5, 7] {
            charged.push(record(tokens).await.expect("it is recorded"));
            world.reset("acme", &["tokens"]).await.expect("the tenant is there");
        }
        let last = record(100).await.expect("it is recorded");
        for reply in &charged {
            let amended = world.amend(reply.name()).tokens(2).await.expect("it was charged");
            assert_eq!(amended.figures("day"), (100, 0), "a reset has subtracted it");
        }
        let amended = world.amend(charged[1].name()).tokens(9).await.expect("it was charged");
        assert_eq!(amended.figures("day"), (104, 0), "4 more than what the reset has subtracted");
        world.amend(last.name()).tokens(0).await.expect("it was charged");
        assert_eq!(world.figures("acme", "day").await, (4, 0));
    }

    async fn the_first_and_the_last_instant_of_a_window_are_in_it(world: World) {
        world.tenant_with("acme", &[per_user(LENGTH)]).await;
        for (user, began) in [("ana", LENGTH), ("bob", LENGTH - 1), ("cid", 0)] {
            world.record("acme").user(user).tokens(1).occurred(NOON - began).await.expect("it is recorded");
        }
        world.restart().await;
        let reply = world.reset("acme", &["tokens"]).await.expect("the tenant is there");
        assert_eq!(adjusted(&reply), [("limit", Some("bob"), -1), ("limit", Some("cid"), -1)]);
    }
}

/// Each of the users has a window that begins at another instant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_reads_the_rolling_windows_of_all_users_with_few_statements() {
    const USERS: i64 = 4_500;
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[per_user(LENGTH)]).await;
    let proxy = Proxy::before(world.database.url()).await;
    let (server, clients) = world.replica_at(proxy.url()).await;
    let users: Vec<i64> = (0..USERS).collect();
    for portion in users.chunks(1_000) {
        let record = |user: &i64| {
            let record = clients.record("acme").tokens(1).user(&format!("u{user}"));
            record.occurred(NOON - user).operation()
        };
        let results =
            clients.batch(portion.iter().map(record).collect()).await.expect("each stands for itself");
        for result in results {
            assert!(matches!(result.result, Some(operation_result::Result::Record(_))), "{result:?}");
        }
    }
    let before = proxy.statements();
    let reply = clients.reset("acme", &["tokens"]).await.expect("the tenant is there");
    let sent = proxy.statements() - before;
    assert_eq!(reply.balances.len(), 4_500);
    assert!(sent < 60, "{sent} statements, and jobs send some of them");
    server.shutdown().await;
    world.end().await;
}
