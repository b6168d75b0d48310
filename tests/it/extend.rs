//! Extend gives a hold more time, more quantity, or both.

use tonic::Code;

use crate::harness::{v1::*, *};

both! {
    async fn an_extend_adds_quantity_to_its_hold(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).await.expect("there is quota");
        let reply = world.extend(hold.name()).tokens(50).await.expect("there is more");
        assert_eq!(reply.name(), hold.name());
        assert_eq!(amount(reply.held(), "tokens"), (150, 0));
        assert_eq!(reply.held().expire_time, hold.held().expire_time, "the deadline stays");
        assert_eq!(reply.figures("day"), (0, 150));
        let settled = world.commit(hold.name()).await.expect("it is held");
        assert_eq!(amount(settled.held(), "tokens"), (150, 150));
    }

    async fn an_extend_keeps_the_later_of_the_old_and_the_new_deadline(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(10 * MINUTE).await.expect("there is quota");
        world.clock.advance(MINUTE);
        for (ttl, deadline) in [(MINUTE, 10 * MINUTE), (9 * MINUTE, 10 * MINUTE), (20 * MINUTE, 21 * MINUTE)] {
            let reply = world.extend(hold.name()).ttl(ttl).await.expect("it is held");
            assert_eq!(millis(reply.held().expire_time.as_ref()), Some(NOON + deadline));
        }
        world.clock.advance(20 * MINUTE - 1);
        assert_eq!(world.figures("acme", "day").await, (0, 100), "the last instant");
        world.clock.advance(1);
        assert_eq!(world.figures("acme", "day").await, (0, 0));
    }

    async fn a_refused_extend_leaves_its_hold_unchanged(world: World) {
        let limits = [day("tokens", 120), day("requests", 1).named("calls")];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(100).amount("requests", 1).await.expect("there is quota");
        let before = world.books("acme").await;
        let no = world.extend(hold.name()).tokens(21).ttl(HOUR).await.expect_err("20 are left");
        no.is_quota(&["day"]);
        assert_eq!(no.violations[0].quota_dimensions["requested"], "21");
        // An Extend adds the quantities of all resources or of none.
        let no = world.extend(hold.name()).tokens(20).amount("requests", 1).await;
        no.expect_err("there are no requests left").is_quota(&["calls"]);
        assert_eq!(world.books("acme").await, before);
        world.extend(hold.name()).tokens(20).await.expect("20 are left");
    }

    async fn an_extend_may_add_a_resource_that_was_not_held(world: World) {
        let limits = [day("tokens", 100), day("requests", 10).named("calls")];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(100).await.expect("there is quota");
        let reply = world.extend(hold.name()).amount("requests", 3).await.expect("there is quota");
        assert_eq!(amount(reply.held(), "requests"), (3, 0));
        assert_eq!(reply.figures("calls"), (0, 3));
        world.release(hold.name()).await.expect("it is held");
        assert_eq!(world.figures("acme", "calls").await, (0, 0));
    }

    async fn an_extend_after_the_deadline_is_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(MINUTE);
        let before = world.books("acme").await;
        let no = world.extend(hold.name()).ttl(MINUTE).await.expect_err("the deadline is exclusive");
        no.is(Code::FailedPrecondition, "RESERVATION_EXPIRED");
        assert!(no.metadata.values().any(|value| value == "EXPIRED"), "{no:?}");
        assert_eq!(world.books("acme").await, before);
    }

    /// An Extend moves the deadline by 24 hours at most, and a hold lives 48 hours at most.
    async fn a_hold_lives_48_hours_at_most(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(24 * HOUR).await.expect("there is quota");
        world.clock.advance(24 * HOUR - 1);
        world.extend(hold.name()).ttl(24 * HOUR).await.expect("just below 48 hours");
        world.clock.advance(2);
        let no = world.extend(hold.name()).ttl(24 * HOUR).await;
        no.expect_err("a millisecond above 48 hours").names(&["ttl"]);
        let reply = world.extend(hold.name()).ttl(24 * HOUR - 1).await.expect("48 hours");
        assert_eq!(millis(reply.held().expire_time.as_ref()), Some(NOON + 48 * HOUR));
    }

    /// R4.1: a request_id takes effect once.
    async fn a_repeated_extend_adds_its_quantity_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).id("r").await.expect("there is quota");
        let extend = || world.extend(hold.name()).tokens(50).ttl(HOUR).id("e");
        let first = extend().await.expect("there is quota");
        world.clock.advance(MINUTE);
        let again = extend().await.expect("a retry");
        assert_eq!(again.reservation, first.reservation);
        assert_eq!(again.figures("day"), (0, 150));
        // Without a request_id, a retry is a new request.
        for sum in [151, 152] {
            let reply = world.extend(hold.name()).tokens(1).await.expect("there is quota");
            assert_eq!(amount(reply.held(), "tokens"), (sum, 0));
        }
        // A repeated Reserve still gets its first answer, with the quantity from before the Extends.
        let replay = world.reserve("acme").tokens(100).id("r").await.expect("a retry");
        assert_eq!(replay.reservation, hold.reservation);
        assert_eq!(replay.figures("day"), (0, 152));
    }

    /// A hold is named by its name, or by its tenant and the request_id of its Reserve.
    async fn a_repeated_extend_may_name_its_hold_in_another_way(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).id("r").await.expect("there is quota");
        let other = world.reserve("acme").tokens(100).id("other").await.expect("there is quota");
        let named = |world: &World, name: &str, id: &str| world.extend(name).tokens(50).ttl(HOUR).id(id);
        let by_request = |world: &World, request_id: &str, id: &str| {
            let request_id = request_id.to_owned();
            named(world, "", id).with(|request| (request.tenant, request.reserve_request_id) = ("acme".into(), request_id))
        };
        let first = named(world, hold.name(), "e").await.expect("there is quota");
        let second = by_request(world, "r", "f").await.expect("there is quota");
        // One Batch uses both ways. Its operations may be in one batch of the engine.
        let calls = vec![
            by_request(world, "other", "g").operation(),
            named(world, other.name(), "g").operation(),
            by_request(world, "r", "e").operation(),
        ];
        let answers: Vec<_> = world.batch(calls).await.expect("each stands for itself");
        let extended: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer.result {
                Some(operation_result::Result::Extend(reply)) => reply.reservation,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(extended[0], extended[1]);
        assert_eq!(extended[2], first.reservation);
        for restarted in [false, true] {
            let again = by_request(world, "r", "e").await.expect("a retry");
            assert_eq!(again.reservation, first.reservation);
            let again = named(world, hold.name(), "f").await.expect("a retry");
            assert_eq!(again.reservation, second.reservation);
            let wrong = [
                ("the name of another hold", named(world, other.name(), "e").await),
                ("the request_id of another hold", by_request(world, "other", "e").await),
                ("the request_id of no hold", by_request(world, "nothing", "e").await),
                ("an Extend's request_id", by_request(world, "f", "e").await),
            ];
            for (case, answer) in wrong {
                answer.expect_err(case).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
            }
            if !restarted {
                world.restart().await;
            }
        }
        assert_eq!(world.figures("acme", "day").await, (0, 350));
    }

    /// The request_id of the Reserve is pruned a day after the Reserve. The request_id of the Extend is pruned a day
    /// after the Extend.
    async fn a_repeated_extend_is_known_after_the_request_id_of_its_hold_was_pruned(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).id("r").ttl(24 * HOUR).await.expect("there is quota");
        world.clock.advance(23 * HOUR);
        let by_request = || {
            let call = world.extend("").tokens(50).ttl(24 * HOUR).id("e");
            call.with(|request| (request.tenant, request.reserve_request_id) = ("acme".into(), "r".into()))
        };
        let first = by_request().await.expect("it is held");
        world.clock.advance(2 * HOUR);
        world.job("prune").await;
        let get = world.get("").with(|request| {
            (request.tenant, request.reserve_request_id) = ("acme".into(), "r".into());
        });
        get.await.expect_err("it is forgotten").is(Code::NotFound, "RESERVATION_NOT_FOUND");
        assert_eq!(by_request().await.expect("a retry").reservation, first.reservation);
        let named = world.extend(hold.name()).tokens(50).ttl(24 * HOUR).id("e");
        assert_eq!(named.await.expect("a retry").reservation, first.reservation);
        // The request_id now belongs to another hold.
        world.reserve("acme").tokens(1).id("r").await.expect("a new request");
        by_request().await.expect_err("another hold").is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        assert_eq!(world.figures("acme", "lifetime").await, (0, 151));
    }

    async fn an_extend_counts_for_the_agent_of_its_hold(world: World) {
        let limits = [day("tokens", 100).per(&[Dimension::Agent]).named("each")];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(60).agent("a").await.expect("there is quota");
        world.reserve("acme").tokens(100).agent("b").await.expect("b counts apart");
        let no = world.extend(hold.name()).tokens(41).await.expect_err("40 are left to a");
        no.is_quota(&["each"]);
        let reply = world.extend(hold.name()).tokens(40).await.expect("40 are left to a");
        assert_eq!(reply.balance("each").agent.as_deref(), Some("a"));
    }
}

/// Another replica has answered both earlier requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_extend_may_name_its_hold_in_another_way_at_another_replica() {
    let world = World::start(Kind::Postgres).await;
    world.tenant_with("acme", &[day("tokens", 1_000)]).await;
    let (server, replica) = world.replica().await;
    let hold = world.reserve("acme").tokens(100).id("r").await.expect("there is quota");
    let first = world.extend(hold.name()).tokens(50).id("e").await.expect("there is quota");
    let again = replica.extend("").tokens(50).id("e").with(|request| {
        (request.tenant, request.reserve_request_id) = ("acme".into(), "r".into());
    });
    assert_eq!(again.await.expect("a retry").reservation, first.reservation);
    assert_eq!(world.figures("acme", "day").await, (0, 150));
    server.shutdown().await;
    world.end().await;
}
