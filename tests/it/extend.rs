//! Extend gives a stream that runs on more time, more quantity, or both.

use tonic::Code;

use crate::harness::{v1::*, *};

both! {
    async fn quantity_is_added_to_the_hold(world: World) {
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

    async fn the_deadline_becomes_the_later_of_old_and_new(world: World) {
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

    async fn it_is_refused_like_a_reserve_and_the_hold_stays(world: World) {
        let limits = [day("tokens", 120), day("requests", 1).named("calls")];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(100).amount("requests", 1).await.expect("there is quota");
        let before = world.books("acme").await;
        let no = world.extend(hold.name()).tokens(21).ttl(HOUR).await.expect_err("20 are left");
        no.is_quota(&["day"]);
        assert_eq!(no.violations[0].quota_dimensions["requested"], "21");
        // All or nothing, across resources too.
        let no = world.extend(hold.name()).tokens(20).amount("requests", 1).await;
        no.expect_err("there are no requests left").is_quota(&["calls"]);
        assert_eq!(world.books("acme").await, before);
        world.extend(hold.name()).tokens(20).await.expect("20 are left");
    }

    async fn a_resource_that_was_not_held_may_be_added(world: World) {
        let limits = [day("tokens", 100), day("requests", 10).named("calls")];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(100).await.expect("there is quota");
        let reply = world.extend(hold.name()).amount("requests", 3).await.expect("there is quota");
        assert_eq!(amount(reply.held(), "requests"), (3, 0));
        assert_eq!(reply.figures("calls"), (0, 3));
        world.release(hold.name()).await.expect("it is held");
        assert_eq!(world.figures("acme", "calls").await, (0, 0));
    }

    async fn after_the_deadline_it_is_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(MINUTE);
        let before = world.books("acme").await;
        let no = world.extend(hold.name()).ttl(MINUTE).await.expect_err("the deadline is exclusive");
        no.is(Code::FailedPrecondition, "RESERVATION_EXPIRED");
        assert!(no.metadata.values().any(|value| value == "EXPIRED"), "{no:?}");
        assert_eq!(world.books("acme").await, before);
    }

    /// 24 hours at a time, 48 in all.
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
    async fn a_retry_adds_once(world: World) {
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
        // Nor did the extensions change what the Reserve answered.
        let replay = world.reserve("acme").tokens(100).id("r").await.expect("a retry");
        assert_eq!(replay.reservation, hold.reservation);
        assert_eq!(replay.figures("day"), (0, 152));
    }

    async fn selectors_and_dimensions_are_those_of_the_hold(world: World) {
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
