//! Many administrative changes at the same time. Other calls wait only for a few of these changes.

use std::future::IntoFuture;

use futures::future::join_all;
use tokio::task::JoinHandle;

use crate::harness::{
    call::Answer,
    clients::serving,
    v1::{EventKind, Tenant},
    *,
};

/// Number of changes that are requested at the same time.
const CHANGES: usize = 200;

fn create_tenants(world: &World) -> Vec<JoinHandle<Answer<Tenant>>> {
    let create = |number: usize| {
        let clients = world.clients().clone();
        tokio::spawn(async move { clients.tenant(&format!("t{number}"), "acme", "").await })
    };
    (0..CHANGES).map(create).collect()
}

/// A SQLite file has one writer at a time. The test counts the changes before the call; it does not measure time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_few_administrative_changes_on_sqlite() {
    let world = World::start(Kind::Sqlite).await;
    world.tenant_with("acme", &[day("tokens", 1_000)]).await;
    world
        .database
        .execute(
            "CREATE TABLE turns (number INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
             CREATE TRIGGER turn_of_tenant AFTER INSERT ON tenants BEGIN INSERT INTO turns (what) VALUES ('tenant'); END;
             CREATE TRIGGER turn_of_hold AFTER INSERT ON holds BEGIN INSERT INTO turns (what) VALUES ('hold'); END",
        )
        .await;
    let stall = world.database.stall().await;
    let changes = create_tenants(&world);
    // This call comes after the changes on the same connection. When it is answered, the changes were accepted.
    tokio::task::yield_now().await;
    serving(&world.channel).await;
    let reserve = tokio::spawn(world.reserve("acme").tokens(1).into_future());
    serving(&world.channel).await;
    assert!(!reserve.is_finished() && !changes.iter().any(JoinHandle::is_finished), "all of them wait");
    stall.end().await;
    reserve.await.expect("it does not panic").expect("there is quota");
    for change in join_all(changes).await {
        change.expect("it does not panic").expect("each has its turn");
    }
    let before = "SELECT COUNT(*) FROM turns WHERE what = 'tenant'
          AND number < (SELECT MIN(number) FROM turns WHERE what = 'hold')";
    let before = world.database.number(before).await;
    assert!(before <= 8, "{before} of {CHANGES} changes came first");
    world.end().await;
}

/// On PostgreSQL, changes wait for the policy's row. Calls, reads and the numbering of events do not need this row, so
/// they go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrative_changes_that_wait_do_not_delay_calls_on_postgres() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[day("tokens", 1_000).thresholds(&[50])]).await;
    let lock = world.database.lock_policy().await;
    let changes = create_tenants(&world);
    eventually("a change waits", async || (world.database.count_waiting().await > 0).then_some(())).await;
    serving(&world.channel).await;
    world.reserve("acme").tokens(1).await.expect("there is quota");
    world.record("acme").tokens(600).await.expect("it is recorded");
    assert_eq!(world.figures("acme", "day").await, (600, 1));
    // The event is visible, so the numbering of events goes on.
    assert_eq!(world.kinds("acme").await, [(EventKind::ThresholdReached, 50)]);
    assert!(!changes.iter().any(JoinHandle::is_finished), "they still wait");
    lock.end().await;
    for change in join_all(changes).await {
        change.expect("it does not panic").expect("each has its turn");
    }
    world.end().await;
}
