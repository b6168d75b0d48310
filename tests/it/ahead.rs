//! Deciding ahead: if a lane remembers all rows that a batch needs, it decides the batch before it asks the database.
//! Changes that other lanes or replicas made in the meantime still bind.

use tonic::Code;

use crate::harness::{clients::Clients, v1::TenantState, *};

/// Number of batches of a warm-up: after so many batches under the lock, a lane decides ahead again.
const WARM: usize = 24;
/// Number of tokens that a warm-up spends: one token per batch.
const WARMED: i64 = 24;

/// Sends Records until the lane of the server remembers the tenant and decides ahead.
async fn warm_up(clients: &Clients, tenant: &str) {
    for _ in 0..WARM {
        clients.record(tenant).tokens(1).await.expect("it is recorded");
    }
}

both! {
    async fn a_policy_change_binds_batches_that_are_decided_ahead(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        warm_up(world, "acme").await;
        world.change_plan("acme", &[day("tokens", 30)]).await.expect("changed");
        let no = world.reserve("acme").tokens(10).await.expect_err("the limit is lower now");
        assert_eq!(no.code, Code::ResourceExhausted, "{no:?}");
        world.change_plan("acme", &[day("tokens", 1_000)]).await.expect("changed");
        warm_up(world, "acme").await;
        world.set_state("acme", TenantState::Suspended).await;
        let no = world.reserve("acme").tokens(10).await.expect_err("it is suspended now");
        assert_eq!(no.code, Code::PermissionDenied, "{no:?}");
        world.set_state("acme", TenantState::Active).await;
        warm_up(world, "acme").await;
        let plan = world.plan("small", &[day("tokens", 50)]).await.expect("made");
        world.set_plan("acme", &plan.id).await;
        let no = world.reserve("acme").tokens(100).await.expect_err("its plan is a small one now");
        assert_eq!(no.code, Code::ResourceExhausted, "{no:?}");
    }

    async fn an_operation_that_is_decided_ahead_counts_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        warm_up(world, "acme").await;
        let held = world.reserve("acme").tokens(5).id("once").await.expect("granted");
        warm_up(world, "acme").await;
        let again = world.reserve("acme").tokens(5).id("once").await.expect("the first reply");
        assert_eq!(again.name(), held.name());
        warm_up(world, "acme").await;
        let committed = world.commit(held.name()).tokens(3).await.expect("committed");
        assert_eq!(committed.figures("day"), (3 + 3 * WARMED, 0));
        let repeated = world.commit(held.name()).tokens(3).await.expect("the same again");
        assert_eq!(repeated.figures("day"), (3 + 3 * WARMED, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_decides_ahead_with_the_changes_of_another_replica() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[day("tokens", 200)]).await;
    let (server, there) = world.replica().await;
    let mut sum = 0;
    // Each replica in turn remembers the books, and then the other replica changes them.
    for _ in 0..2 {
        for clients in [world.clients(), &there] {
            warm_up(clients, "acme").await;
            sum += WARMED;
            assert_eq!(world.figures("acme", "day").await, (sum, 0));
        }
    }
    world.reserve("acme").tokens(100).await.expect("it fits");
    let no = there.reserve("acme").tokens(100).await.expect_err("it does not fit twice");
    assert_eq!(no.code, Code::ResourceExhausted, "{no:?}");
    world.set_state("acme", TenantState::Suspended).await;
    let no = there.reserve("acme").tokens(1).await.expect_err("it is suspended on every replica");
    assert_eq!(no.code, Code::PermissionDenied, "{no:?}");
    server.shutdown().await;
    world.end().await;
}

/// When the calls change to the other replica, its cache is stale. So this replica locks the tenant and, with the same
/// statement, loads the rows again that it probably needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_alternate_see_the_changes_of_each_other() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[day("tokens", 2_000), month("requests", 100)]).await;
    let (server, there) = world.replica().await;
    let sides = [world.clients(), &there];
    let mut spent = 0;
    for round in 0..WARM {
        let (one, other) = (sides[round % 2], sides[(round + 1) % 2]);
        let held = one.reserve("acme").tokens(20).await.expect("granted");
        assert_eq!(held.figures("day"), (spent, 20));
        let kept = one.reserve("acme").tokens(5).await.expect("granted");
        let more = other.extend(held.name()).tokens(30).await.expect("it is there, too");
        assert_eq!(more.figures("day"), (spent, 55));
        // One replica remembers the hold from before the Extend. The other replica remembers the hold as open.
        let committed = one.commit(held.name()).tokens(45).await.expect("committed");
        spent += 45;
        assert_eq!(committed.figures("day"), (spent, 5));
        assert_eq!(committed.held().amounts[0].overrun, 0, "it was extended to 50");
        let again = other.commit(held.name()).tokens(45).await.expect("the first reply");
        assert_eq!(again.held().amounts[0].committed, 45);
        let no = other.commit(held.name()).tokens(1).await.expect_err("it is settled");
        assert_eq!(no.code, Code::FailedPrecondition, "{no:?}");
        other.release(kept.name()).await.expect("it is there, too");
        let no = one.commit(kept.name()).tokens(5).await.expect_err("it was released");
        assert_eq!(no.code, Code::FailedPrecondition, "{no:?}");
        // The first replica has never loaded this counter, or it remembers that the counter does not exist.
        other.record("acme").amount("requests", 1).await.expect("recorded");
        let no = one.reserve("acme").amount("requests", 100).await.expect_err("one of them is used");
        assert_eq!(no.code, Code::ResourceExhausted, "{no:?}");
        if round % 8 == 7 {
            world.reset("acme", &["tokens"]).await.expect("reset");
            spent = 0;
        }
    }
    server.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_decided_ahead_counts_once_if_its_commit_got_no_answer() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[day("tokens", 1_000)]).await;
    let proxy = Proxy::before(world.database.url()).await;
    let (server, clients) = world.replica_at(proxy.url()).await;
    for round in 1..=3 {
        warm_up(&clients, "acme").await;
        let id = format!("lost-{round}");
        proxy.lose_commit_of(&id);
        clients.reserve("acme").tokens(2).id(&id).await.expect("granted");
        assert_eq!(proxy.lost(), round, "the COMMIT got no answer");
        assert_eq!(world.figures("acme", "day").await, (WARMED * round as i64, 2 * round as i64));
    }
    server.shutdown().await;
    world.end().await;
}

/// Returns the number of statements of a Record: the least of several, because jobs send statements meanwhile.
async fn statements_of_record(proxy: &Proxy, clients: &Clients, tenant: &str) -> usize {
    let mut least = usize::MAX;
    for _ in 0..8 {
        let before = proxy.statements();
        clients.record(tenant).tokens(1).await.expect("it is recorded");
        least = least.min(proxy.statements() - before);
    }
    least
}

/// The counter of a window of ROLLING is found by its head, which the lane remembers, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_limit_costs_no_statement_if_a_batch_is_decided_ahead() {
    const LENGTH: i64 = 5 * HOUR;
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("plain", &[month("tokens", 1_000)]).await;
    world.tenant_with("acme", &[month("tokens", 1_000), rolling(LENGTH, 1_000)]).await;
    let proxy = Proxy::before(world.database.url()).await;
    let (server, clients) = world.replica_at(proxy.url()).await;
    warm_up(&clients, "plain").await;
    let plain = statements_of_record(&proxy, &clients, "plain").await;
    warm_up(&clients, "acme").await;
    assert_eq!(statements_of_record(&proxy, &clients, "acme").await, plain);
    let mut least = usize::MAX;
    for _ in 0..5 {
        // Each time another window begins.
        world.clock.advance(LENGTH);
        let before = proxy.statements();
        let reply = clients.record("acme").tokens(1).await.expect("it is recorded");
        least = least.min(proxy.statements() - before);
        assert_eq!(reply.figures("limit"), (1, 0));
        warm_up(&clients, "acme").await;
    }
    assert_eq!(least, plain, "the first Record of a window");
    assert!(plain <= 3, "{plain} statements");
    server.shutdown().await;
    world.end().await;
}
