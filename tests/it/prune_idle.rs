//! R4.48: what counts as idle. A counter that was used is kept, even if its figures are what they were before.

use tonic::Code;

use crate::harness::{v1::*, world::settings, *};

/// The default retention of counters.
const KEPT: i64 = 400 * DAY;

/// Runs the job `prune`, and returns the number of removed counters.
async fn pruned(clients: &Clients) -> i64 {
    clients.job("close-windows").await;
    let figures = clients.job("prune").await;
    assert_eq!(figures["recounted"], 0, "the numbers were right");
    figures["counters"]
}

/// A limit for each user.
fn each(limit: Limit) -> Limit {
    limit.named("user").per(&[Dimension::User])
}

/// Asks for more than the limit permits.
async fn ask(clients: &Clients, user: &str) -> Box<No> {
    clients.reserve("acme").tokens(101).user(user).await.expect_err("it is too much")
}

both! {
    async fn a_counter_whose_usage_nets_to_zero_was_used(world: World) {
        world.tenant_with("acme", &[each(lifetime("tokens", 100))]).await;
        let users = ["amended", "at-once", "corrected", "idle", "nothing", "released"];
        for user in users {
            world.record("acme").tokens(5).user(user).await.expect("it is recorded");
        }
        assert_eq!(pruned(world).await, 0);
        world.clock.set(NOON + 399 * DAY);
        let record = |user, tokens| world.record("acme").tokens(tokens).user(user);
        let amended = record("amended", 3).await.expect("it is recorded");
        world.amend(amended.name()).tokens(0).await.expect("it was charged");
        let both = vec![record("at-once", 3).operation(), record("at-once", -3).operation()];
        world.batch(both).await.expect("each stands for itself");
        record("corrected", 3).await.expect("it is recorded");
        record("corrected", -3).await.expect("it is recorded");
        record("nothing", 0).await.expect("it is recorded");
        let hold = world.reserve("acme").tokens(3).user("released").await.expect("there is quota");
        world.release(hold.name()).await.expect("it is held");
        world.clock.set(NOON + KEPT);
        assert_eq!(pruned(world).await, 1, "idle");
        world.verify().await;
        let usage = world.usage("acme").await;
        let mut kept: Vec<_> =
            usage.iter().map(|balance| (balance.user.as_deref().unwrap_or(""), balance.committed)).collect();
        kept.sort_unstable();
        let expected = ["amended", "at-once", "corrected", "nothing", "released"].map(|user| (user, 5));
        assert_eq!(kept, expected);
        world.clock.set(NOON + 2 * KEPT - 1);
        assert_eq!(pruned(world).await, 0);
        world.clock.set(NOON + 2 * KEPT);
        assert_eq!(pruned(world).await, 5);
    }

    /// A subject of a limit with the period ROLLING that was only refused has a head, and no window.
    /// A new subject needs two counters: a head, and the counter of its first window.
    async fn a_head_that_only_refusals_made_is_pruned(world: World) {
        let config =
            tope::config::Config { counters_per_tenant_max: 4, ..settings(world.database.url()) };
        world.restart_with(config.clone()).await;
        world.tenant_with("acme", &[each(rolling(5 * HOUR, 100)), rolling(5 * HOUR, 100).named("all")]).await;
        for user in ["ana", "bob"] {
            ask(world, user).await.is_quota(&["user", "all"]);
        }
        ask(world, "carol").await.is(Code::FailedPrecondition, "TOO_MANY_COUNTERS");
        assert_eq!(pruned(world).await, 0);
        world.clock.set(NOON + KEPT - 1);
        ask(world, "bob").await.is_quota(&["user", "all"]);
        assert_eq!(pruned(world).await, 0);
        world.clock.set(NOON + KEPT);
        assert_eq!(pruned(world).await, 1, "of ana; bob was refused meanwhile");
        world.verify().await;
        ask(world, "carol").await.is_quota(&["user", "all"]);
        ask(world, "ana").await.is(Code::FailedPrecondition, "TOO_MANY_COUNTERS");
        let balance = world.usage("acme").await.balance("all").clone();
        assert_eq!(balance.refused, 4, "a head of the tenant as a whole stays");
        assert_eq!(pruned(world).await, 0);
        // Real usage begins a window. Then the head goes with the counter of that window.
        world.record("acme").tokens(1).user("bob").await.expect("it is recorded");
        world.clock.set(NOON + 2 * KEPT);
        assert_eq!(pruned(world).await, 1, "of carol");
        assert_eq!(world.database.number("SELECT COUNT(*) FROM counters").await, 4);
        world.clock.set(NOON + 2 * KEPT + 5 * HOUR);
        assert_eq!(pruned(world).await, 4, "the windows of bob and of the tenant, with their heads");
        assert_eq!(world.database.number("SELECT COUNT(*) FROM counters").await, 0);
        world.restart_with(config).await;
        for user in ["dave", "eve"] {
            ask(world, user).await.is_quota(&["user", "all"]);
        }
        ask(world, "frank").await.is(Code::FailedPrecondition, "TOO_MANY_COUNTERS");
    }
}
