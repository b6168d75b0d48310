//! ResetUsage corrects the books by adjustments, with reason and operator.

use std::future::IntoFuture;

use futures::future::join_all;
use tonic::Code;

use crate::harness::{call::Answer, clients::done, v1::*, *};

fn request() -> ResetUsageRequest {
    ResetUsageRequest {
        tenant: "acme".into(),
        reason: "credit note 7".into(),
        operator: "ops@example.com".into(),
        ..ResetUsageRequest::default()
    }
}

async fn reset(world: &Clients, change: impl FnOnce(&mut ResetUsageRequest)) -> Answer<ResetUsageResponse> {
    let mut request = request();
    change(&mut request);
    done(world.admin.clone().reset_usage(request).await)
}

both! {
    async fn a_reset_sets_committed_to_zero_and_keeps_open_holds(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000)]).await;
        world.record("acme").tokens(60).await.expect("it is recorded");
        let hold = world.reserve("acme").tokens(30).await.expect("there is quota");
        let reply = reset(world, |_| ()).await.expect("the tenant is there");
        assert_eq!(reply.balances.len(), 2);
        assert_eq!(reply.adjusted, [-60, -60]);
        assert_eq!(reply.balances.figures("day"), (0, 30));
        assert_eq!(reply.balances.figures("month"), (0, 30));
        assert_eq!(world.figures("acme", "day").await, (0, 30));
        world.verify().await;
        // The reset does not change the hold.
        world.reserve("acme").tokens(71).await.expect_err("70 are left").is_quota(&["day"]);
        world.commit(hold.name()).tokens(25).await.expect("it is held");
        assert_eq!(world.figures("acme", "day").await, (25, 0));
        let again = reset(world, |_| ()).await.expect("the tenant is there");
        assert_eq!(again.adjusted, [-25, -25]);
        let idle = reset(world, |_| ()).await.expect("nothing is left to do");
        assert!(idle.adjusted.iter().all(|&adjusted| adjusted == 0), "{idle:?}");
    }

    async fn a_reset_does_not_change_windows_that_are_over(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(10).ttl(DAY).await.expect("there is quota");
        world.record("acme").tokens(60).await.expect("it is recorded");
        world.clock.advance(13 * HOUR);
        world.record("acme").tokens(5).await.expect("a new day");
        let reply = reset(world, |_| ()).await.expect("the tenant is there");
        assert_eq!(reply.adjusted, [-5]);
        let settled = world.commit(hold.name()).tokens(10).await.expect("it is held");
        assert_eq!(settled.figures("day"), (70, 0), "yesterday's");
    }

    /// A late Commit replaces the charge at the deadline. If the new charge is smaller, the difference is not
    /// subtracted from the counter, because the reset has already removed it.
    async fn a_smaller_late_commit_after_a_reset_subtracts_nothing(world: World) {
        let cases: [(i64, Option<i64>); 4] = [(50, Some(10)), (40, Some(0)), (10, Some(0)), (0, None)];
        for (number, (used, at_most)) in cases.into_iter().enumerate() {
            let tenant = format!("t{number}");
            world.tenant_with(&tenant, &[lifetime("tokens", 100)]).await;
            let hold = world.reserve(&tenant).tokens(40).ttl(MINUTE).charged_on_expiry();
            let hold = hold.await.expect("there is quota");
            world.clock.advance(MINUTE);
            let reply = world.reset_only(&tenant, &[], &["lifetime"]).await;
            assert_eq!(reply.expect("the tenant exists").adjusted, [-40], "a hold that was due is charged first");
            let settled = match at_most {
                Some(_) => world.commit(hold.name()).tokens(used).await.expect("it is kept").figures("lifetime"),
                None => world.release(hold.name()).await.expect("it is kept").figures("lifetime"),
            };
            assert_eq!(settled, (at_most.unwrap_or(0), 0), "{used} used");
            assert_eq!(world.figures(&tenant, "lifetime").await, settled, "{used} used");
            world.reserve(&tenant).tokens(101).await.expect_err("100 in all").is_quota(&["lifetime"]);
            world.verify().await;
        }
    }

    async fn a_reset_can_select_resources_and_subjects(world: World) {
        let limits = [
            day("tokens", 100),
            day("tokens", 100).per(&[Dimension::Agent]).named("each"),
            day("requests", 100).named("calls"),
        ];
        world.tenant_with("acme", &limits).await;
        for agent in ["a", "b"] {
            let record = world.record("acme").tokens(10).amount("requests", 1).agent(agent);
            record.await.expect("it is recorded");
        }
        let reply = reset(world, |request| request.resources = vec!["requests".into()]).await;
        let reply = reply.expect("the tenant is there");
        assert_eq!((reply.balances.len(), reply.adjusted), (1, vec![-2]));
        let reply = reset(world, |request| request.agent = Some("a".into())).await.expect("the tenant is there");
        assert_eq!(reply.adjusted, [-10], "only counters that count this agent apart");
        assert_eq!(reply.balances[0].agent.as_deref(), Some("a"));
        assert_eq!(world.figures("acme", "day").await, (20, 0));
        let reply = reset(world, |_| ()).await.expect("the tenant is there");
        let mut adjusted = reply.adjusted;
        adjusted.retain(|&adjusted| adjusted != 0);
        adjusted.sort_unstable();
        assert_eq!(adjusted, [-20, -10]);
    }

    /// In one round the server remembers the counter. In the other round it loads the counter after a restart.
    async fn a_reset_changes_counters_that_no_limit_reads_too(world: World) {
        let both = [day("tokens", 100), month("tokens", 1_000)];
        for restarts in [false, true] {
            let tenant = if restarts { "restarted" } else { "acme" };
            world.tenant_with(tenant, &both).await;
            world.record(tenant).tokens(60).await.expect("it is recorded");
            world.change_plan(tenant, &both[1..]).await.expect("the plan is there");
            if restarts {
                world.restart().await;
            }
            let reply = reset(world, |request| request.tenant = tenant.into()).await.expect("the tenant is there");
            assert_eq!(reply.adjusted, [-60, -60], "{reply:?}");
            assert_eq!(reply.balances.figures("month"), (0, 0));
            assert_eq!(reply.balances.figures(""), (0, 0), "the day, which has no limit");
            world.change_plan(tenant, &both).await.expect("the plan exists");
            for limit in ["day", "month"] {
                assert_eq!(world.figures(tenant, limit).await, (0, 0));
            }
        }
    }

    async fn a_reset_does_not_change_counters_of_yesterday(world: World) {
        let limits = [
            day("tokens", 100),
            day("tokens", 100).per(&[Dimension::User]).named("each"),
            month("tokens", 100).anchor(9).named("ninth"),
        ];
        world.tenant_in("acme", "America/New_York", &limits).await;
        let hold = world.reserve("acme").tokens(1).ttl(DAY).await.expect("there is quota");
        for user in ["a", "b"] {
            world.record("acme").tokens(20).user(user).await.expect("it is recorded");
        }
        world.clock.advance(20 * HOUR);
        world.record("acme").tokens(5).user("b").await.expect("it is recorded");
        world.change_plan("acme", &[]).await.expect("the plan is there");
        let only = reset(world, |request| request.user = Some("a".into())).await.expect("the tenant is there");
        assert_eq!(only.adjusted, Vec::<i64>::new(), "today a has spent nothing");
        let mut adjusted = reset(world, |_| ()).await.expect("the tenant is there").adjusted;
        adjusted.sort_unstable();
        assert_eq!(adjusted, [-45, -5, -5], "the running month, the day, and the day of b");
        world.change_plan("acme", &limits).await.expect("the plan is there");
        let settled = world.commit(hold.name()).await.expect("it is held");
        assert_eq!(settled.figures("day"), (41, 0), "yesterday's");
    }

    /// A charge at a deadline before the reset is forgiven by the reset. A late Commit or Release does not subtract it
    /// again.
    async fn a_late_commit_or_release_does_not_subtract_a_forgiven_charge_again(world: World) {
        // Each case: usage after the reset, quantity of the late Commit (None: a Release), committed at the end.
        let cases: [(i64, Option<i64>, i64); 6] = [
            (5_000, Some(200), 5_000),
            (60, None, 60),
            (60, Some(0), 60),
            (60, Some(1_000), 60),
            (60, Some(1_300), 360),
            (0, Some(200), 0),
        ];
        for (number, (since, used, counts)) in cases.into_iter().enumerate() {
            let tenant = format!("t{number}");
            world.tenant_with(&tenant, &[lifetime("tokens", 10_000), day("tokens", 10_000)]).await;
            let hold = world.reserve(&tenant).tokens(1_000).ttl(MINUTE).charged_on_expiry();
            let hold = hold.await.expect("there is quota");
            world.clock.advance(MINUTE);
            let reply = world.reset_only(&tenant, &[], &["lifetime", "day"]).await;
            assert_eq!(reply.expect("the tenant exists").adjusted, [-1_000, -1_000]);
            if since > 0 {
                world.record(&tenant).tokens(since).await.expect("it is recorded");
            }
            // Usage after the reset counts, also usage of a negative Record.
            world.record(&tenant).tokens(7).await.expect("it is recorded");
            world.record(&tenant).tokens(-7).await.expect("it is recorded");
            let (figures, held) = match used {
                Some(used) => {
                    let reply = world.commit(hold.name()).tokens(used).await.expect("it is kept");
                    world.commit(hold.name()).tokens(used).await.expect("the same");
                    (reply.figures("lifetime"), amount(reply.held(), "tokens"))
                }
                None => {
                    let reply = world.release(hold.name()).await.expect("it is kept");
                    (reply.figures("lifetime"), amount(reply.held(), "tokens"))
                }
            };
            assert_eq!((figures, held), ((counts, 0), (1_000, used.unwrap_or(0))), "{number}");
            for limit in ["lifetime", "day"] {
                assert_eq!(world.figures(&tenant, limit).await, (counts, 0), "{number}");
            }
            world.verify().await;
        }
    }

    /// Covers a window that is over, a window that is still running, holds committed in time, and charges after the
    /// reset.
    async fn a_reset_forgives_only_charges_from_before_the_reset(world: World) {
        world.tenant_with("acme", &[day("tokens", 10_000), lifetime("tokens", 10_000)]).await;
        let reserve = |ttl| world.reserve("acme").tokens(100).ttl(ttl).charged_on_expiry();
        let before = reserve(HOUR).await.expect("there is quota");
        let after = reserve(20 * HOUR).await.expect("there is quota");
        let in_time = reserve(23 * HOUR).await.expect("there is quota");
        let unmade = world.reserve("acme").tokens(100).ttl(HOUR).await.expect("there is quota");
        world.clock.advance(14 * HOUR);
        let reply = world.reset_only("acme", &[], &["day", "lifetime"]).await.expect("the tenant is there");
        assert_eq!(reply.adjusted, [-100], "the day of the holds is over");
        world.clock.advance(7 * HOUR);
        assert_eq!(world.figures("acme", "lifetime").await, (100, 100));
        let reply = world.commit(before.name()).tokens(30).await.expect("it is kept");
        assert_eq!((reply.figures("day"), reply.figures("lifetime")), ((130, 100), (100, 100)));
        let reply = world.commit(after.name()).tokens(30).await.expect("it is kept");
        assert_eq!((reply.figures("day"), reply.figures("lifetime")), ((60, 100), (30, 100)));
        let reply = world.commit(in_time.name()).tokens(30).await.expect("it is held");
        assert_eq!((reply.figures("day"), reply.figures("lifetime")), ((90, 0), (60, 0)));
        let reply = world.commit(unmade.name()).tokens(5).await.expect("nothing of it was charged");
        assert_eq!((reply.figures("day"), reply.figures("lifetime")), ((95, 0), (65, 0)));
    }

    /// There are more due holds than one batch sweeps.
    async fn a_reset_forgives_due_charges_that_are_not_swept_yet(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
        let operation = world.reserve("acme").tokens(1).ttl(MINUTE).charged_on_expiry().operation();
        let mut names = Vec::new();
        for _ in 0..5 {
            let results = world.batch(vec![operation.clone(); 1_000]).await.expect("each stands for itself");
            names.extend(results.into_iter().map(|result| match result.result {
                Some(operation_result::Result::Reserve(reply)) => reply.name().to_owned(),
                other => panic!("{other:?}"),
            }));
        }
        world.clock.advance(MINUTE);
        assert_eq!(world.figures("acme", "lifetime").await, (5_000, 0));
        for _ in 0..2 {
            let reply = reset(world, |request| {
                (request.request_id, request.limit_ids) = ("r".into(), vec!["lifetime".into()]);
            });
            let reply = reply.await.expect("the tenant is there");
            assert_eq!((reply.adjusted, reply.balances.figures("lifetime")), (vec![-5_000], (0, 0)));
        }
        for (round, name) in names.iter().rev().take(6).enumerate() {
            assert_eq!(world.figures("acme", "lifetime").await, (round.try_into().expect("few"), 0));
            let reply = world.commit(name).tokens(2).await.expect("it is kept");
            assert_eq!(reply.figures("lifetime"), ((round + 1).try_into().expect("few"), 0), "what is above the charge");
            if round % 2 == 1 {
                world.restart().await;
            }
        }
        let expired = clients::reservations(&world.quota, "acme", &[ReservationState::Expired]).await;
        assert_eq!(expired.len(), 5_000 - 6, "all were swept");
    }

    async fn a_repeated_reset_reports_the_adjustments_of_the_first_call(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000)]).await;
        world.record("acme").tokens(60).await.expect("it is recorded");
        let keyed = async |world: &Clients| reset(world, |request| request.request_id = "x".into()).await;
        let first = keyed(world).await.expect("the tenant is there");
        assert_eq!((first.adjusted.as_slice(), first.balances.figures("day")), (&[-60, -60][..], (0, 0)));
        world.record("acme").tokens(5).await.expect("it is recorded");
        for restarted in [false, true] {
            let again = keyed(world).await.expect("a retry");
            assert_eq!((again.adjusted.as_slice(), again.balances.figures("month")), (&[-60, -60][..], (5, 0)));
            assert_eq!(world.figures("acme", "day").await, (5, 0));
            if !restarted {
                world.restart().await;
            }
        }
        let resets = world.events_of("acme").await.into_iter().filter(|event| event.kind() == EventKind::UsageReset);
        assert_eq!(resets.count(), 2, "one of each counter");
        // A repeated call gets its answer before any other check.
        world.change_plan("acme", &[]).await.expect("the plan is there");
        world.set_state("acme", TenantState::Suspended).await;
        assert_eq!(keyed(world).await.expect("a retry").adjusted, first.adjusted);
        // A call with another request_id is another reset.
        world.change_plan("acme", &[day("tokens", 100), month("tokens", 1_000)]).await.expect("the plan exists");
        let other = reset(world, |request| request.request_id = "y".into()).await.expect("the tenant is there");
        assert!(other.adjusted.iter().all(|&adjusted| adjusted == -5), "{other:?}");
    }

    async fn a_reset_that_changes_nothing_is_remembered_too(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let keyed = async || reset(world, |request| request.request_id = "x".into()).await;
        assert_eq!(keyed().await.expect("the tenant is there").adjusted, [0_i64; 0]);
        world.record("acme").tokens(7).await.expect("it is recorded");
        assert_eq!(keyed().await.expect("a retry").adjusted, [0_i64; 0]);
        assert_eq!(world.figures("acme", "day").await, (7, 0));
    }

    /// This is true even if one batch contains several copies.
    async fn concurrent_copies_of_a_reset_take_effect_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        for round in 1..=8 {
            world.record("acme").tokens(round).await.expect("it is recorded");
            let copies = (0..8).map(|_| reset(world, |request| request.request_id = format!("x{round}")));
            for reply in join_all(copies).await {
                assert_eq!(reply.expect("the tenant is there").adjusted, [-round]);
            }
        }
        let resets = world.events_of("acme").await.into_iter().filter(|event| event.kind() == EventKind::UsageReset);
        assert_eq!(resets.count(), 8);
    }

    /// Within a tenant, all requests share their request_ids: each id belongs to one request.
    async fn a_reset_cannot_have_the_request_id_of_another_request(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000), day("requests", 10).named("calls")]).await;
        let hold = world.reserve("acme").tokens(60).id("r").await.expect("there is quota");
        let given = |request: &mut ResetUsageRequest| {
            request.resources = vec!["tokens".into(), "requests".into()];
            request.request_id = "x".into();
        };
        reset(world, given).await.expect("the tenant is there");
        let same = reset(world, |request| {
            given(request);
            request.resources.reverse();
        });
        same.await.expect("a retry: the resources are a set");
        world.record("acme").tokens(5).await.expect("it is recorded");
        let cases: [Case<ResetUsageRequest>; 8] = [
            ("resources", |request| request.resources = vec!["tokens".into()]),
            ("limit_ids", |request| request.limit_ids = vec!["day".into()]),
            ("agent", |request| request.agent = Some(String::new())),
            ("user", |request| request.user = Some("a".into())),
            ("model", |request| request.model = Some("a".into())),
            ("reason", |request| request.reason = "another".into()),
            ("operator", |request| request.operator = "another".into()),
            ("a Reserve's", |request| request.request_id = "r".into()),
        ];
        for (case, spoil) in cases {
            let answer = reset(world, |request| {
                given(request);
                spoil(request);
            });
            answer.await.expect_err(case).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        }
        let others = [
            ("Reserve", world.reserve("acme").tokens(1).id("x").await.map(drop)),
            ("Record", world.record("acme").tokens(1).id("x").await.map(drop)),
            ("Extend", world.extend(hold.name()).tokens(1).id("x").await.map(drop)),
        ];
        for (case, answer) in others {
            answer.expect_err(case).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        }
        let by_request = || ("acme".to_owned(), "x".to_owned());
        let get = world.get("").with(|request| (request.tenant, request.reserve_request_id) = by_request());
        get.await.expect_err("no reservation").is(Code::NotFound, "RESERVATION_NOT_FOUND");
        let commit = world.commit("").with(|request| (request.tenant, request.reserve_request_id) = by_request());
        commit.await.expect_err("no reservation").is(Code::NotFound, "RESERVATION_NOT_FOUND");
        assert_eq!(world.figures("acme", "day").await, (5, 60));
    }

    async fn the_refusal_of_a_reset_names_the_wrong_fields(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(60).await.expect("it is recorded");
        let cases: [Case<ResetUsageRequest>; 13] = [
            ("request_id", |request| request.request_id = "x".repeat(129)),
            ("tenant", |request| request.tenant = String::new()),
            ("resources[0]", |request| request.resources = vec!["undeclared".into()]),
            ("limit_ids[1]", |request| request.limit_ids = vec!["day".into(), "month".into()]),
            ("limit_ids[0]", |request| request.limit_ids = vec![String::new()]),
            ("limit_ids[0]", |request| request.limit_ids = vec!["x".repeat(129)]),
            ("limit_ids", |request| request.limit_ids = vec!["day".into(); 65]),
            ("agent", |request| request.agent = Some("x".repeat(129))),
            ("reason", |request| request.reason = String::new()),
            ("reason", |request| request.reason = "x".repeat(257)),
            ("operator", |request| request.operator = String::new()),
            ("operator", |request| request.operator = "x".repeat(129)),
            ("operator", |request| request.operator = "\n".into()),
        ];
        for (field, spoil) in cases {
            reset(world, spoil).await.expect_err(field).names(&[field]);
        }
        let no = reset(world, |request| request.tenant = "nobody".into()).await.expect_err("unknown");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
        assert_eq!(world.figures("acme", "day").await, (60, 0));
    }
}

/// The COMMIT of the batch gets no answer. When the server repeats the batch, it finds that the batch took effect:
/// there is one reset, and one event per counter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_whose_commit_got_no_answer_takes_effect_once() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[day("tokens", 100), month("tokens", 1_000)]).await;
    world.record("acme").tokens(60).await.expect("it is recorded");
    let proxy = Proxy::before(world.database.url()).await;
    let (server, clients) = world.replica_at(proxy.url()).await;

    // The first call waits for the lock. The other calls queue behind it, so they come into one batch.
    let stall = world.database.stall().await;
    let mut first = clients.record("acme").tokens(1).into_future();
    assert!(futures::poll!(&mut first).is_pending(), "it has to wait");
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("it waits", async || (world.database.number(waiting).await > 0).then_some(())).await;
    proxy.lose_commit_of(&request().reason);
    let mut reset = Box::pin(reset(&clients, |_| ()));
    assert!(futures::poll!(&mut reset).is_pending(), "it has to wait");
    clients::serving(&clients.channel).await;
    let mut second = clients.record("acme").tokens(5).into_future();
    assert!(futures::poll!(&mut second).is_pending(), "it has to wait");
    clients::serving(&clients.channel).await;
    stall.end().await;

    first.await.expect("it is recorded");
    let reply = reset.await.expect("it took effect");
    assert_eq!(proxy.lost(), 1, "the COMMIT got no answer");
    assert_eq!(reply.adjusted, [-61, -61]);
    assert_eq!((reply.balances.len(), reply.balances.figures("day")), (2, (5, 0)), "the balances of now");
    second.await.expect("it is recorded");
    for limit in ["day", "month"] {
        assert_eq!(world.figures("acme", limit).await, (5, 0), "it did not take effect twice");
    }
    let events = world.events_of("acme").await;
    assert_eq!(events.iter().filter(|event| event.kind() == EventKind::UsageReset).count(), 2, "{events:?}");
    server.shutdown().await;
    world.end().await;
}

/// Another replica has answered the first call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_may_be_repeated_at_another_replica() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[day("tokens", 100)]).await;
    let (server, replica) = world.replica().await;
    world.record("acme").tokens(60).await.expect("it is recorded");
    let keyed = |request: &mut ResetUsageRequest| request.request_id = "x".into();
    let first = reset(&world, keyed).await.expect("the tenant is there");
    world.record("acme").tokens(5).await.expect("it is recorded");
    let again = reset(&replica, keyed).await.expect("a retry");
    assert_eq!((again.adjusted, again.balances.figures("day")), (first.adjusted, (5, 0)));
    server.shutdown().await;
    world.end().await;
}
