//! Zero is a quantity (R4.40): it is held, checked and recorded as 0, and no limit refuses it.

use tonic::Code;

use crate::harness::{v1::*, *};

fn amounts(reservation: &Reservation) -> Vec<(&str, i64, i64, i64)> {
    let amounts = reservation.amounts.iter();
    amounts
        .map(|amount| (amount.resource.as_str(), amount.reserved, amount.committed, amount.overrun))
        .collect()
}

both! {
    /// The limits are exceeded, of quantity 0, or both. An OBSERVE limit counts no refusal.
    async fn no_limit_refuses_a_quantity_of_zero(world: World) {
        let limits = [
            day("tokens", 10),
            month("tokens", 10).observe(),
            day("requests", 0).named("calls"),
            day("tokens", 0).agent("planner").named("planner"),
        ];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(25).amount("requests", 1).await.expect("it is recorded");
        let reserve = || world.reserve("acme").agent("planner").tokens(0).amount("requests", 0);
        for partial in [false, true] {
            let call = if partial { reserve().partial() } else { reserve() };
            let reply = call.await.expect("nothing is needed");
            assert_eq!(amounts(reply.held()), [("requests", 0, 0, 0), ("tokens", 0, 0, 0)]);
            assert_eq!(reply.balances.len(), 4, "every limit that applies: {reply:?}");
            assert_eq!((reply.figures("day"), reply.figures("planner")), ((25, 0), (0, 0)));
            assert!(reply.balance("day").exceeded, "it stays exceeded");
            assert_eq!((reply.balance("month").refused, reply.balance("day").refused), (0, 0));
            assert_eq!(world.get(reply.name()).await.expect("it is kept"), *reply.held());
        }
        let events = world.events_of("acme").await;
        assert!(events.iter().all(|event| event.kind() != EventKind::ReserveRefused), "{events:?}");
    }

    /// I5: a zero beside other quantities changes nothing about their decision.
    async fn a_zero_beside_a_refused_quantity_is_refused_with_it(world: World) {
        world.tenant_with("acme", &[day("tokens", 10), day("requests", 0).named("calls")]).await;
        let before = world.books("acme").await;
        let both = || world.reserve("acme").amount("requests", 0);
        both().tokens(11).await.expect_err("10 are left").is_quota(&["day"]);
        assert_eq!(world.books("acme").await, before);
        let reply = both().tokens(10).await.expect("10 are left");
        assert_eq!(amounts(reply.held()), [("requests", 0, 0, 0), ("tokens", 10, 0, 0)]);
        let rest = both().tokens(1).partial().await;
        rest.expect_err("nothing is left").is_quota(&["day"]);
        let undeclared = world.reserve("acme").amount("tokenz", 0).await;
        undeclared.expect_err("also with 0").names(&["amounts[0].resource"]);
    }

    async fn a_check_of_zero_passes_and_grants_zero(world: World) {
        world.tenant_with("acme", &[day("tokens", 10), month("tokens", 0), lifetime("tokens", 1).soft()]).await;
        world.record("acme").tokens(25).await.expect("it is recorded");
        for partial in [false, true] {
            let call = world.check("acme").tokens(0);
            let call = if partial { call.partial() } else { call };
            let reply = call.await.expect("an answer");
            assert!(reply.allowed, "{reply:?}");
            assert_eq!(reply.granted, [Amount { resource: "tokens".into(), quantity: 0 }]);
            let outcomes: Vec<_> = reply.verdicts.iter().map(|verdict| (verdict.outcome(), verdict.requested)).collect();
            assert_eq!(outcomes, [(verdict::Outcome::Pass, 0); 3]);
        }
    }

    async fn a_record_of_zero_is_kept_with_its_balances(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        world.declare("meter").await;
        let record = |world: &Clients| world.record("acme").tokens(0).amount("meter", 0).id("r");
        let reply = record(world).await.expect("it is recorded");
        assert_eq!(state(reply.held()), ReservationState::Committed);
        assert_eq!(amounts(reply.held()), [("meter", 0, 0, 0), ("tokens", 0, 0, 0)]);
        assert_eq!((reply.applied.as_slice(), reply.balances.len()), (&[0, 0][..], 2));
        assert_eq!((reply.figures("day"), reply.figures("")), ((0, 0), (0, 0)));
        world.restart().await;
        assert_eq!(record(world).await.expect("a retry").reservation, reply.reservation);
        assert_eq!(world.reservations("acme").await.len(), 1);
    }

    async fn an_extend_adds_zero_to_a_hold_whose_limit_is_used_up(world: World) {
        world.tenant_with("acme", &[day("tokens", 10), day("requests", 0).named("calls")]).await;
        let hold = world.reserve("acme").tokens(10).await.expect("it fits").name().to_owned();
        world.record("acme").tokens(5).await.expect("it is recorded");
        let reply = world.extend(&hold).tokens(0).amount("requests", 0).ttl(HOUR).await.expect("nothing is needed");
        assert_eq!(amounts(reply.held()), [("requests", 0, 0, 0), ("tokens", 10, 0, 0)]);
        assert_eq!(millis(reply.held().expire_time.as_ref()), Some(NOON + HOUR));
        assert_eq!((reply.figures("day"), reply.figures("calls")), ((5, 10), (0, 0)));
        world.extend(&hold).tokens(1).await.expect_err("it is used up").is_quota(&["day"]);
    }

    /// A Commit may leave the zero out, give it, or charge more. The usage above the hold is an overrun.
    async fn a_hold_of_zero_is_settled_like_any_other(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), day("requests", 9).named("calls")]).await;
        let hold = async || {
            let reply = world.reserve("acme").tokens(10).amount("requests", 0).await.expect("it fits");
            reply.name().to_owned()
        };
        let left_out = hold().await;
        for _ in 0..2 {
            let reply = world.commit(&left_out).tokens(7).await.expect("it is held, or a repeat");
            assert_eq!(amounts(reply.held()), [("requests", 0, 0, 0), ("tokens", 10, 7, 0)]);
        }
        let given = world.commit(&left_out).tokens(7).amount("requests", 0).await;
        given.expect("it charges the same, so it is a repeat");
        let charged = hold().await;
        for _ in 0..2 {
            let reply = world.commit(&charged).amount("requests", 3).await.expect("it is held, or a repeat");
            assert_eq!(amounts(reply.held()), [("requests", 0, 3, 3), ("tokens", 10, 10, 0)]);
            assert_eq!(reply.figures("calls"), (3, 0));
        }
        let other = world.commit(&charged).await.expect_err("it would charge less");
        other.is(Code::FailedPrecondition, "RESERVATION_SETTLED");
        let released = hold().await;
        let reply = world.release(&released).await.expect("it is held");
        assert_eq!(amounts(reply.held()), [("requests", 0, 0, 0), ("tokens", 10, 0, 0)]);
        assert_eq!((world.figures("acme", "day").await, world.figures("acme", "calls").await), ((17, 0), (3, 0)));
    }

    async fn a_hold_of_zero_expires_and_can_be_committed_late(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        for charged in [false, true] {
            let call = world.reserve("acme").tokens(0).ttl(MINUTE);
            let call = if charged { call.charged_on_expiry() } else { call };
            let hold = call.await.expect("nothing is needed").name().to_owned();
            world.clock.advance(MINUTE);
            let expired = world.get(&hold).await.expect("it is kept");
            assert_eq!(state(&expired), ReservationState::Expired);
            let reply = world.commit(&hold).tokens(4).await.expect("it is kept");
            assert!(reply.held().late);
            assert_eq!(amounts(reply.held()), [("tokens", 0, 4, 4)]);
        }
        assert_eq!(world.figures("acme", "day").await, (8, 0));
    }

    /// The reply is made again from the reservation, which a Commit of other resources has changed.
    async fn a_retry_of_a_reserve_returns_the_zero_again(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), day("requests", 9).named("calls")]).await;
        world.declare("meter").await;
        let reserve = |world: &Clients| world.reserve("acme").tokens(10).amount("requests", 0).id("r");
        let first = reserve(world).await.expect("it fits");
        assert_eq!(reserve(world).await.expect("a retry").reservation, first.reservation);
        world.commit(first.name()).amount("meter", 5).await.expect("it is held");
        for restarts in [false, true] {
            if restarts {
                world.restart().await;
            }
            assert_eq!(reserve(world).await.expect("a retry").reservation, first.reservation);
        }
        let other = world.reserve("acme").tokens(10).amount("requests", 1).id("r").await;
        other.expect_err("another payload").is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    }
}
