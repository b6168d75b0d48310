//! R4.48: a tenant has a bounded number of counters. Beyond it, Reserve and Extend make no counters of new subjects.

use std::{collections::HashMap, future::IntoFuture};

use futures::future::join_all;
use tonic::Code;

use crate::harness::{
    process::{run, said, tope},
    v1::*,
    world::settings,
    *,
};

/// Restarts the server with this bound.
async fn bound(world: &mut World, most: u64) {
    let config = tope::config::Config { counters_per_tenant_max: most, ..settings(world.database.url()) };
    world.restart_with(config).await;
}

/// A limit for each user and day.
fn per_user() -> Limit {
    day("tokens", 100).named("user").per(&[Dimension::User])
}

/// Checks that this is the refusal of new counters, with the bound 3.
fn refused<T: std::fmt::Debug>(answer: Result<T, Box<No>>) {
    let no = answer.expect_err("it needs a new counter");
    no.is(Code::FailedPrecondition, "TOO_MANY_COUNTERS");
    let metadata = [("tenant", "acme"), ("counters_max", "3")];
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    assert_eq!((&no.metadata, no.retry), (&metadata, None));
    assert!(no.message.contains("\"acme\" may have 3 counters"), "{no:?}");
}

both! {
    async fn a_reserve_makes_no_counter_beyond_the_bound(world: World) {
        bound(world, 3).await;
        world.tenant_with("acme", &[day("tokens", 1_000), per_user()]).await;
        world.declare("images").await;
        let reserve = |user| world.reserve("acme").tokens(10).user(user).into_future();
        let ana = world.reserve("acme").tokens(10).user("ana").id("r").await.expect("two counters");
        reserve("bob").await.expect("one more");
        refused(reserve("carol").await);
        refused(world.reserve("acme").tokens(0).user("carol").await);
        refused(world.reserve("acme").tokens(1_000).user("carol").await);
        let again = world.reserve("acme").tokens(10).user("ana").id("r").await.expect("a retry");
        assert_eq!(again.reservation, ana.reservation);
        reserve("bob").await.expect("its counters exist");
        world.extend(ana.name()).tokens(5).await.expect("its counters exist");
        world.extend(ana.name()).amount("images", 1).await.expect("a counter of the tenant as a whole");
        let no = world.reserve("acme").tokens(100).user("bob").await.expect_err("over the quota");
        no.is_quota(&["user"]);

        let check = world.check("acme").tokens(10).user("carol").await.expect("an answer");
        assert!(!check.allowed && check.too_many_counters && check.granted.is_empty(), "{check:?}");
        assert_eq!((check.retry_delay, check.verdicts.len()), (None, 2));
        let check = world.check("acme").tokens(10).user("bob").await.expect("an answer");
        assert!(check.allowed && !check.too_many_counters, "{check:?}");

        // Real usage is never refused.
        world.commit(ana.name()).tokens(1).amount("images", 1).await.expect("it is held");
        world.record("acme").tokens(10).user("carol").await.expect("it is recorded");
        reserve("carol").await.expect("its counters exist now");
        refused(reserve("dave").await);
        world.restart_with(tope::config::Config {
            counters_per_tenant_max: 3,
            ..settings(world.database.url())
        }).await;
        refused(world.reserve("acme").tokens(10).user("dave").await);
        bound(world, 6).await;
        world.reserve("acme").tokens(10).user("dave").await.expect("the sixth counter");
    }

    /// A user who did not use the window before is new again.
    async fn a_new_window_refuses_nobody_who_used_the_window_before(world: World) {
        bound(world, 3).await;
        world.tenant_with("acme", &[day("tokens", 1_000), per_user()]).await;
        for (number, restarts) in [false, false, true, false].into_iter().enumerate() {
            if restarts {
                bound(world, 3).await;
            }
            for user in ["ana", "bob"] {
                world.reserve("acme").tokens(10).user(user).await.expect("each day");
            }
            refused(world.reserve("acme").tokens(10).user("carol").await);
            let check = world.check("acme").tokens(10).user("ana").await.expect("an answer");
            assert!(check.allowed, "{number}: {check:?}");
            world.clock.advance(DAY);
        }
        world.clock.advance(DAY);
        refused(world.reserve("acme").tokens(10).user("ana").await);
        let none = world.reserve("acme").tokens(10).await;
        refused(none);
    }

    /// A refused Reserve makes no counter of a refusal either.
    async fn operations_of_one_batch_share_the_bound(world: World) {
        bound(world, 3).await;
        world.tenant_with("acme", &[per_user()]).await;
        let users = ["ana", "ana", "bob", "carol", "dave", "ana"];
        let operations = users.map(|user| world.reserve("acme").tokens(10).user(user).operation());
        let results = world.batch(operations.to_vec()).await.expect("each stands for itself");
        for (user, result) in users.into_iter().zip(results) {
            match result.result {
                Some(operation_result::Result::Reserve(_)) => assert_ne!(user, "dave"),
                Some(operation_result::Result::Error(status)) => {
                    assert_eq!(user, "dave");
                    refused::<()>(Err(Box::new(status.into())));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.usage("acme").await.len(), 3);
    }

    /// A rate per minute and user makes many counters, which go soon after their reservations.
    async fn counters_of_short_windows_do_not_count(world: World) {
        bound(world, 3).await;
        let per_minute = every(Period::Minute, 100).named("rate").per(&[Dimension::User]);
        world.tenant_with("acme", &[day("tokens", 1_000), per_minute, per_user()]).await;
        for _ in 0..5 {
            for user in ["ana", "bob"] {
                world.reserve("acme").tokens(1).user(user).await.expect("the same day");
            }
            world.clock.advance(MINUTE);
        }
        refused(world.reserve("acme").tokens(1).user("carol").await);
        world.clock.advance(68 * DAY);
        world.job("expire-holds").await;
        world.close_windows().await;
        let figures = world.job("prune").await;
        assert_eq!((figures["counters"], figures["recounted"]), (10, 0));
        refused(world.reserve("acme").tokens(1).user("ana").await);
        world.verify().await;
    }

    async fn pruned_counters_make_room(world: World) {
        bound(world, 3).await;
        world.tenant_with("acme", &[per_user()]).await;
        for user in ["ana", "bob", "carol"] {
            world.record("acme").tokens(1).user(user).await.expect("it is recorded");
        }
        world.clock.advance(401 * DAY);
        refused(world.reserve("acme").tokens(1).user("ana").await);
        world.close_windows().await;
        assert_eq!(world.job("prune").await["counters"], 3);
        for user in ["dave", "eve", "ana"] {
            world.reserve("acme").tokens(1).user(user).await.expect("there is room");
        }
        refused(world.reserve("acme").tokens(1).user("bob").await);
    }

    async fn however_many_calls_arrive_at_once_the_bound_is_kept(world: World) {
        bound(world, 51).await;
        world.tenant_with("acme", &[lifetime("tokens", 1_000_000), per_user()]).await;
        let mut servers = Vec::new();
        if world.database.kind() == Kind::Postgres {
            let config =
                tope::config::Config { counters_per_tenant_max: 51, ..settings(world.database.url()) };
            servers.push(world.replica_of(config).await);
        }
        let mut clients = vec![Clients::clone(world)];
        clients.extend(servers.iter().map(|(_, clients)| clients.clone()));
        let calls = (0..1_000).map(|number| {
            let clients = &clients[number % clients.len()];
            clients.reserve("acme").tokens(1).user(&format!("u{number}")).into_future()
        });
        let answers = join_all(calls).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 50);
        for no in answers.into_iter().filter_map(Result::err) {
            no.is(Code::FailedPrecondition, "TOO_MANY_COUNTERS");
        }
        assert_eq!(world.usage("acme").await.len(), 51);
        for (server, _) in servers {
            server.shutdown().await;
        }
    }

    /// A server of an earlier release makes counters without counting them.
    async fn a_wrong_number_is_found_and_corrected(world: World) {
        bound(world, 3).await;
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[per_user()]).await;
            for user in ["ana", "bob", "carol"] {
                world.record(tenant).tokens(1).user(user).await.expect("it is recorded");
            }
        }
        world.database.execute("UPDATE tenants SET counters = 1 WHERE id = 'acme'").await;
        let mut command = tope();
        command.args(["verify", "--database", world.database.url()]);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("its row says 1"), "{}", said(&output));
        let figures = world.job("prune").await;
        assert_eq!((figures["recounted"], figures["counters"]), (1, 0));
        world.verify().await;
        refused(world.reserve("acme").tokens(1).user("dave").await);
        assert_eq!(world.job("prune").await["recounted"], 0);
    }

    /// A statement counts at most 1,000 counters of a tenant.
    async fn a_large_number_is_counted_in_parts(world: World) {
        let per_minute = every(Period::Minute, 100).named("rate").per(&[Dimension::User]);
        for (tenant, users) in [("acme", 2_500), ("exact", 1_000), ("globex", 1)] {
            world.tenant_with(tenant, &[per_user(), per_minute.clone()]).await;
            let record = |user| world.record(tenant).tokens(1).user(&format!("u{user}")).operation();
            for portion in (0..users).collect::<Vec<_>>().chunks(500) {
                world.batch(portion.iter().map(record).collect()).await.expect("each stands for itself");
            }
        }
        assert_eq!(world.job("prune").await["recounted"], 0, "the numbers are right");
        world.database.execute("UPDATE tenants SET counters = counters + 7").await;
        assert_eq!(world.job("prune").await["recounted"], 3);
        world.verify().await;
        assert_eq!(world.job("prune").await["recounted"], 0);
    }
}
