//! R4.48: counters whose windows were over long ago are removed, and LIFETIME counters of one subject that were idle
//! for long.

use std::future::IntoFuture;

use futures::{
    FutureExt,
    future::{join, join_all},
};

use crate::harness::{
    v1::*,
    world::{run_in_world, settings},
    *,
};

/// The default retention of counters.
const KEPT: i64 = 400 * DAY;

/// The end of the day on which the clock of a world begins.
const MIDNIGHT: i64 = NOON + 12 * HOUR;

/// Closes the windows that are over, and runs the job `prune`. Returns the numbers of removed counters and adjustments.
async fn pruned(clients: &Clients) -> (i64, i64) {
    clients.job("close-windows").await;
    let figures = clients.job("prune").await;
    assert_eq!(figures["recounted"], 0, "the numbers were right");
    (figures["counters"], figures["adjustments"])
}

/// A limit for each user, over all time.
fn per_user(quantity: i64) -> Limit {
    lifetime("tokens", quantity).named("user").per(&[Dimension::User])
}

/// Returns the users who have a counter of the limit `user`, with what they spent.
async fn spent_by_user(clients: &Clients) -> Vec<(String, i64)> {
    let usage = clients.usage("acme").await;
    let of_users = usage.into_iter().filter(|balance| balance.limit_id == "user");
    let mut spent: Vec<(String, i64)> =
        of_users.map(|balance| (balance.user.unwrap_or_default(), balance.committed)).collect();
    spent.sort_unstable();
    spent
}

/// Records 1 token for each of `count` users.
async fn record_users(clients: &Clients, tenant: &str, count: usize) {
    let record = |user| clients.record(tenant).tokens(1).user(&format!("u{user}")).operation();
    for portion in (0..count).collect::<Vec<_>>().chunks(1_000) {
        let operations = portion.iter().map(record).collect();
        for result in clients.batch(operations).await.expect("each stands for itself") {
            assert!(matches!(result.result, Some(operation_result::Result::Record(_))), "{result:?}");
        }
    }
}

both! {
    async fn a_counter_is_kept_for_its_retention_after_its_window(world: World) {
        let limits = [day("tokens", 100), month("tokens", 1_000), every(Period::Minute, 100).named("minute")];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(7).await.expect("it is recorded");
        world.reset("acme", &["tokens"]).await.expect("the tenant is there");
        world.record("acme").tokens(2).await.expect("it is recorded");
        for (time, expected) in [
            // Reservations are kept for 30 days. The last that can name the minute was made 37 days after it.
            (NOON + MINUTE + 67 * DAY - 1, (0, 0)),
            (NOON + MINUTE + 67 * DAY, (1, 1)),
            (NOON + 399 * DAY, (0, 0)),
            (MIDNIGHT + KEPT - 1, (0, 0)),
            (MIDNIGHT + KEPT, (1, 1)),
            (MIDNIGHT + 401 * DAY, (0, 0)),
            (at("2026-04-01T00:00:00Z") + KEPT - 1, (0, 0)),
            (at("2026-04-01T00:00:00Z") + KEPT, (1, 1)),
        ] {
            world.clock.set(time);
            assert_eq!(pruned(world).await, expected, "{time}");
            world.verify().await;
        }
        let reply = world.record("acme").tokens(3).await.expect("it is recorded");
        for limit in ["minute", "day", "month"] {
            assert_eq!(reply.figures(limit), (3, 0), "{limit}");
        }
    }

    /// A subject of a limit with the period ROLLING has a head, which goes with its newest window.
    async fn windows_of_rolling_limits_are_pruned_with_their_heads(world: World) {
        let hour = prost_types::Duration { seconds: 3_600, nanos: 0 };
        let rolling = Limit { duration: Some(hour), ..every(Period::Rolling, 100).per(&[Dimension::User]) };
        world.tenant_with("acme", &[rolling]).await;
        for user in ["ana", "bob", "ana"] {
            world.record("acme").tokens(7).user(user).await.expect("it is recorded");
            world.clock.advance(HOUR);
        }
        for (time, expected) in [
            (NOON + HOUR + KEPT - 1, (0, 0)),
            (NOON + HOUR + KEPT, (1, 0)),
            (NOON + 3 * HOUR + KEPT - 1, (2, 0)),
            (NOON + 3 * HOUR + KEPT, (2, 0)),
        ] {
            world.clock.set(time);
            assert_eq!(pruned(world).await, expected, "{time}");
            world.verify().await;
        }
        let reply = world.record("acme").tokens(3).user("ana").await.expect("it is recorded");
        assert_eq!(reply.figures("limit"), (3, 0));
    }

    /// A limit may need the counter of the window before the running window.
    async fn a_long_window_is_kept_for_twice_its_length(world: World) {
        world.tenant_with("acme", &[every(Period::Year, 100).interval(10)]).await;
        let reply = world.record("acme").tokens(7).await.expect("it is recorded");
        let (_, end) = window(reply.balance("limit"));
        assert_eq!(end, at("2030-01-01T00:00:00Z"));
        for (time, expected) in
            [(end + 2 * KEPT, (0, 0)), (end + 7_300 * DAY - 1, (0, 0)), (end + 7_300 * DAY, (1, 0))]
        {
            world.clock.set(time);
            assert_eq!(pruned(world).await, expected, "{time}");
        }
    }

    /// A hold that expired can be committed as long as it is kept, and a Commit can be amended.
    async fn a_counter_stays_as_long_as_a_reservation_that_may_name_it(world: World) {
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[day("tokens", 1_000)]).await;
            world.record(tenant).tokens(1).await.expect("it is recorded");
        }
        let hold = world.reserve("acme").tokens(0).ttl(MINUTE).await.expect("there is quota");
        world.clock.set(NOON + 398 * DAY);
        let late = world.commit(hold.name()).tokens(0).await.expect("it is kept");
        assert!(late.held().late);
        world.clock.set(MIDNIGHT + 401 * DAY);
        assert_eq!(pruned(world).await, (1, 0), "of the other tenant");
        world.verify().await;
        let amended = world.amend(hold.name()).tokens(5).await.expect("it was charged");
        assert_eq!(amended.figures("day"), (6, 0));
        world.clock.set(NOON + 428 * DAY - 1);
        assert_eq!(pruned(world).await, (0, 0));
        world.clock.set(NOON + 428 * DAY);
        assert_eq!(pruned(world).await, (1, 0), "the reservation went first");
        world.amend(hold.name()).tokens(6).await.expect_err("it was pruned");
    }

    /// Whatever the settings are, usage of the last 35 days counts in counters that are kept.
    async fn usage_of_earlier_days_keeps_its_counters(world: World) {
        let config = tope::config::Config {
            counter_retention_days: 36,
            reservation_retention_days: 1,
            ..settings(world.database.url())
        };
        world.restart_with(config).await;
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let first = world.record("acme").tokens(7).await.expect("it is recorded");
        world.clock.set(NOON + 35 * DAY);
        assert_eq!(pruned(world).await, (0, 0));
        let again = world.record("acme").tokens(5).occurred(NOON).await.expect("it is recorded");
        assert_eq!(again.figures("day"), (12, 0));
        world.clock.set(MIDNIGHT + 36 * DAY - 1);
        world.amend(first.name()).tokens(8).await.expect_err("it was pruned");
        let amended = world.amend(again.name()).tokens(6).await.expect("it is kept");
        assert_eq!(amended.figures("day"), (13, 0));
        assert_eq!(pruned(world).await, (0, 0));
        // Reservations of the day are kept for 1 day after they were settled. The last of them can be made 35 days
        // after the day, and live for 2 days.
        world.clock.set(MIDNIGHT + 38 * DAY - 1);
        assert_eq!(pruned(world).await, (0, 0));
        world.clock.set(MIDNIGHT + 38 * DAY);
        assert_eq!(pruned(world).await, (1, 0));
    }

    async fn an_idle_counter_of_one_subject_is_pruned(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 100_000), per_user(100)]).await;
        world.declare("meter").await;
        world.record("acme").amount("meter", 1).await.expect("it is recorded");
        for (user, quantity) in [("idle", 5), ("touched", 5), ("held", 5), ("full", 100)] {
            world.record("acme").tokens(quantity).user(user).await.expect("it is recorded");
        }
        let reset = ResetUsageRequest {
            tenant: "acme".into(),
            limit_ids: vec!["user".into()],
            user: Some("idle".into()),
            reason: "a test".into(),
            operator: "tests".into(),
            ..ResetUsageRequest::default()
        };
        world.admin.clone().reset_usage(reset).await.expect("the tenant is there");
        world.record("acme").tokens(6).user("idle").await.expect("it is recorded");
        assert_eq!(pruned(world).await, (0, 0));
        world.clock.set(NOON + 200 * DAY);
        world.reserve("acme").tokens(1).user("full").await.expect_err("its quota is used up").is_quota(&["user"]);
        world.clock.set(NOON + 399 * DAY);
        assert_eq!(pruned(world).await, (0, 0));
        world.record("acme").tokens(1).user("touched").await.expect("it is recorded");
        world.clock.set(NOON + KEPT - 1);
        assert_eq!(pruned(world).await, (0, 0));
        world.reserve("acme").tokens(3).user("held").ttl(DAY).await.expect("there is quota");
        world.clock.set(NOON + KEPT);
        assert_eq!(pruned(world).await, (1, 1), "idle, and its adjustment");
        world.verify().await;
        let named = |names: &[(&str, i64)]| -> Vec<_> {
            names.iter().map(|&(user, spent)| (user.to_owned(), spent)).collect()
        };
        assert_eq!(spent_by_user(world).await, named(&[("full", 100), ("held", 5), ("touched", 6)]));
        world.reserve("acme").tokens(1).user("full").await.expect_err("its quota is used up").is_quota(&["user"]);
        // The rest is noted again, and goes when it was idle as long.
        world.clock.set(NOON + 2 * KEPT);
        world.job("expire-holds").await;
        assert_eq!(pruned(world).await, (1, 0), "full was refused, and held was held meanwhile");
        assert_eq!(spent_by_user(world).await, named(&[("full", 100), ("held", 5)]));
        world.clock.set(NOON + 3 * KEPT);
        assert_eq!(pruned(world).await, (2, 0));
        assert_eq!(world.figures("acme", "lifetime").await, (122, 0));
        assert_eq!(world.figures("acme", "").await, (1, 0), "a meter counts the tenant as a whole");
    }

    /// A run with a budget is over when nobody uses it. The next run of the same name has a new budget.
    async fn a_pruned_counter_begins_anew(world: World) {
        world.tenant_with("acme", &[per_user(100)]).await;
        for (round, restarts) in [false, true, false].into_iter().enumerate() {
            let begun = world.clock.now();
            for _ in 0..20 {
                let hold = world.reserve("acme").tokens(5).user("ana").await.expect("there is quota");
                world.commit(hold.name()).await.expect("it is held");
            }
            let no = world.reserve("acme").tokens(1).user("ana").await.expect_err("it is used up");
            no.is_quota(&["user"]);
            assert_eq!(pruned(world).await, (0, 0));
            world.clock.set(begun + KEPT);
            if restarts {
                world.restart().await;
            }
            assert_eq!(pruned(world).await, (1, 0), "round {round}");
            let reply = world.record("acme").tokens(0).user("ana").await.expect("it is recorded");
            let balance = reply.balance("user");
            assert_eq!(figures(balance), (0, 0));
            assert_eq!(millis(balance.counted_since.as_ref()), Some(begun + KEPT), "what was before is forgotten");
            world.verify().await;
        }
    }

    async fn a_hold_of_nothing_keeps_its_counter(world: World) {
        world.tenant_with("acme", &[per_user(100)]).await;
        world.record("acme").tokens(9).user("ana").await.expect("it is recorded");
        assert_eq!(pruned(world).await, (0, 0));
        world.clock.set(NOON + KEPT - MINUTE);
        let hold = world.reserve("acme").tokens(0).user("ana").ttl(HOUR).await.expect("it needs nothing");
        world.clock.set(NOON + KEPT);
        assert_eq!(pruned(world).await, (0, 0));
        world.extend(hold.name()).tokens(1).await.expect("there is quota");
        let reply = world.commit(hold.name()).tokens(4).await.expect("it is held");
        assert_eq!(reply.figures("user"), (13, 0));
        let amended = world.amend(hold.name()).tokens(2).await.expect("it was charged");
        assert_eq!(amended.figures("user"), (11, 0));
    }

    /// The holds changed no figure for long, but they used their counter.
    async fn a_counter_is_kept_for_a_late_commit(world: World) {
        world.tenant_with("acme", &[per_user(100)]).await;
        world.record("acme").tokens(9).user("ana").await.expect("it is recorded");
        assert_eq!(pruned(world).await, (0, 0));
        world.clock.set(NOON + KEPT - DAY);
        let reserve = || world.reserve("acme").tokens(20).user("ana").ttl(MINUTE).into_future();
        let (late, released) = (reserve().await.expect("a hold"), reserve().await.expect("a hold"));
        world.clock.set(NOON + KEPT);
        world.job("expire-holds").await;
        assert_eq!(pruned(world).await, (0, 0));
        world.release(released.name()).await.expect("it expired, and can be released");
        let reply = world.commit(late.name()).tokens(4).await.expect("it is kept");
        assert!(reply.held().late);
        assert_eq!(reply.figures("user"), (13, 0));
        world.verify().await;
        let amended = world.amend(late.name()).tokens(6).await.expect("it was charged");
        assert_eq!(amended.figures("user"), (15, 0));
    }

    /// The server counts on with the books that it remembers, and with those that it reads.
    async fn a_lane_does_not_lose_what_is_charged_after_a_counter_went(world: World) {
        world.tenant_with("acme", &[per_user(10_000), day("tokens", 1_000_000)]).await;
        let mut servers = Vec::new();
        if world.database.kind() == Kind::Postgres {
            servers.push(world.replica().await);
        }
        let clients: Vec<Clients> = std::iter::once(Clients::clone(world))
            .chain(servers.iter().map(|(_, clients)| clients.clone()))
            .collect();
        for round in 1..=3 {
            for clients in &clients {
                for _ in 0..20 {
                    clients.record("acme").tokens(1).user("ana").await.expect("it is recorded");
                }
            }
            assert_eq!(pruned(world).await.0, 0);
            world.clock.set(NOON + round * KEPT);
            let before = pruned(world).await;
            assert_eq!(before.0, 1 + i64::from(round > 1), "{round}: ana, and the day of the round before");
            let mut expected = 0;
            for clients in clients.iter().chain(&clients) {
                expected += 1;
                let reply = clients.record("acme").tokens(1).user("ana").await.expect("it is recorded");
                assert_eq!(reply.figures("user"), (expected, 0), "{round}");
            }
            world.verify().await;
        }
        for (server, _) in servers {
            server.shutdown().await;
        }
    }

    async fn a_shutdown_stops_the_pruning_of_counters_between_two_transactions(world: World) {
        let per_day = day("tokens", 1_000_000).named("user").per(&[Dimension::User]);
        world.tenant_with("acme", &[per_day]).await;
        record_users(world, "acme", 1_000).await;
        world.clock.set(MIDNIGHT + 399 * DAY);
        assert_eq!(pruned(world).await, (0, 0));
        world.clock.set(MIDNIGHT + KEPT);
        let stall = world.database.stall().await;
        let clients = Clients::clone(world);
        let job = tokio::spawn(async move { clients.run_job("prune").await });
        eventually("it runs", async || world.jobs().await.iter().any(|job| job.running).then_some(())).await;
        let clients = Clients::clone(world);
        let release = async {
            eventually("it takes no more", async || {
                clients.admin.clone().list_jobs(ListJobsRequest {}).await.err()
            })
            .await;
            stall.end().await;
        };
        join(world.restart(), release).await;
        let run = job.await.expect("it is run").expect("it is answered");
        assert_eq!(run.outcome(), JobOutcome::Stopped, "{run:?}");
        let counters = run.figures.iter().find(|figure| figure.name == "counters").map(|figure| figure.value);
        let left = 1_000 - counters.expect("it is counted");
        assert!(left >= 800, "one step was made at most: {run:?}");
        world.verify().await;
        assert_eq!(pruned(world).await, (left, 0));
    }

    /// If the clock was ahead and is set right, no window opens again without its counter (I9).
    async fn time_does_not_go_back_for_a_tenant_that_lost_counters(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        world.clock.set(MIDNIGHT + KEPT);
        assert_eq!(pruned(world).await, (1, 0));
        world.clock.set(NOON);
        let reply = world.record("acme").tokens(1).await.expect("it is recorded");
        assert_eq!(window(reply.balance("day")).0, MIDNIGHT + KEPT);
    }

    async fn counters_of_a_deleted_tenant_are_pruned_too(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), per_user(100)]).await;
        world.record("acme").tokens(1).user("ana").await.expect("it is recorded");
        let request = DeleteTenantRequest { id: "acme".into(), ..DeleteTenantRequest::default() };
        world.admin.clone().delete_tenant(request).await.expect("it has no holds");
        assert_eq!(pruned(world).await, (0, 0));
        world.clock.set(MIDNIGHT + KEPT);
        assert_eq!(pruned(world).await, (2, 0));
    }

    async fn calls_are_decided_while_counters_are_pruned(world: World) {
        let per_day = day("tokens", 1_000_000).named("user").per(&[Dimension::User]);
        world.tenant_with("acme", &[per_day, lifetime("tokens", 1_000_000)]).await;
        record_users(world, "acme", 2_300).await;
        world.clock.set(MIDNIGHT + KEPT);
        world.close_windows().await;
        let (figures, replies) = join(world.job("prune"), async {
            let calls = (0..100).map(|number| {
                world.record("acme").tokens(1).user(&format!("u{}", number % 10)).into_future()
            });
            join_all(calls).await
        })
        .await;
        assert_eq!(figures["counters"], 2_300);
        assert!(replies.iter().all(Result::is_ok), "{replies:?}");
        assert_eq!(world.figures("acme", "lifetime").await, (2_400, 0));
    }
}

/// Two runs read the same rows, and then both wait for the lock of the tenants.
async fn prune_on_two_replicas(world: &mut World) {
    const EACH: usize = 500;
    let tenants = ["acme", "globex", "initech"];
    for tenant in tenants {
        let per_day = day("tokens", 1_000_000).named("user").per(&[Dimension::User]);
        world.tenant_with(tenant, &[per_day]).await;
        record_users(world, tenant, EACH).await;
    }
    world.clock.set(MIDNIGHT + KEPT - 1);
    world.job("close-windows").await;
    world.job("prune").await;
    world.clock.set(MIDNIGHT + KEPT);
    let (other, there) = world.replica().await;
    let (here, there) = join(world.job("prune"), there.job("prune")).await;
    let rest = world.job("prune").await;
    let sum: i64 = [&here, &there, &rest].iter().map(|figures| figures["counters"]).sum();
    assert_eq!(sum, 1_500, "{here:?}, {there:?}, {rest:?}");
    for tenant in tenants {
        world.record(tenant).tokens(1).user("u1").await.expect("it is recorded");
        assert_eq!(world.figures(tenant, "user").await, (1, 0));
    }
    other.shutdown().await;
}

#[test]
fn two_replicas_remove_and_count_each_counter_once() {
    run_in_world(Kind::Postgres, |world| prune_on_two_replicas(world).boxed_local());
}
