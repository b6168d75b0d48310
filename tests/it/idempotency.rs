//! R4.1: a request_id takes effect once. (Commit and Release: `settle`.)

use std::future::IntoFuture;

use futures::future::join_all;
use tonic::Code;

use crate::harness::{v1::*, *};

both! {
    async fn a_retry_returns_the_first_reply_without_effect(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let reserve = || {
            let call = world.reserve("acme").tokens(100).amount("requests", 1).id("r").ttl(HOUR);
            call.agent("planner").label("a", "1").label("b", "2")
        };
        world.declare("requests").await;
        let first = reserve().await.expect("there is quota");
        world.clock.advance(MINUTE);
        world.record("acme").tokens(5).await.expect("it is recorded");
        let again = reserve().await.expect("a retry");
        assert_eq!(again.reservation, first.reservation);
        assert_eq!(again.figures("day"), (5, 100), "balances are those of now");
        assert_eq!(world.reservations("acme").await.len(), 2);
    }

    async fn a_retry_is_answered_before_any_other_check(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let reserve = || world.reserve("acme").tokens(100).id("r").ttl(MINUTE);
        let first = reserve().await.expect("there is quota");
        // A new Reserve would be refused, because the hold uses up the quota.
        assert_eq!(reserve().await.expect("a retry").reservation, first.reservation);
        // The hold is committed, and the retry still gets the first reply.
        world.commit(first.name()).tokens(60).await.expect("it is held");
        assert_eq!(reserve().await.expect("a retry").reservation, first.reservation);
        // The limit is lowered, the tenant is suspended, and the deadline passes.
        world.change_plan("acme", &[day("tokens", 1)]).await.expect("the plan is there");
        world.set_state("acme", TenantState::Suspended).await;
        world.clock.advance(2 * MINUTE);
        assert_eq!(reserve().await.expect("a retry").reservation, first.reservation);
        assert_eq!(world.figures("acme", "day").await, (60, 0));
    }

    async fn payloads_with_the_same_meaning_are_the_same_request(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.declare("requests").await;
        let given = world.reserve("acme").tokens(100).amount("requests", 1).id("r").label("a", "1").label("b", "2");
        let first = given.await.expect("there is quota");
        // Another order of amounts and explicit defaults make the same payload.
        let same = [
            world.reserve("acme").amount("requests", 1).tokens(100).id("r").label("b", "2").label("a", "1"),
            world
                .reserve("acme")
                .tokens(100)
                .amount("requests", 1)
                .id("r")
                .label("a", "1")
                .label("b", "2")
                .ttl(5 * MINUTE)
                .with(|request| request.on_expiry = OnExpiry::Release.into()),
        ];
        for call in same {
            assert_eq!(call.await.expect("a retry").reservation, first.reservation);
        }
    }

    async fn a_known_request_id_with_another_payload_is_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.declare("requests").await;
        let given = || world.reserve("acme").tokens(100).id("r").label("a", "1");
        let hold = given().await.expect("there is quota");
        world.extend(hold.name()).tokens(1).id("e").await.expect("there is quota");
        world.record("acme").tokens(1).id("c").await.expect("it is recorded");
        let before = world.books("acme").await;
        let cases = [
            ("quantity", given().with(|request| request.amounts[0].quantity = 101).await.map(drop)),
            ("resource", given().with(|request| request.amounts[0].resource = "requests".into()).await.map(drop)),
            ("one more", given().amount("requests", 1).await.map(drop)),
            ("agent", given().agent("a").await.map(drop)),
            ("user", given().user("a").await.map(drop)),
            ("model", given().model("a").await.map(drop)),
            ("ttl", given().ttl(MINUTE).await.map(drop)),
            ("partial", given().partial().await.map(drop)),
            ("on_expiry", given().charged_on_expiry().await.map(drop)),
            ("label", given().label("a", "2").await.map(drop)),
            ("one more label", given().label("b", "2").await.map(drop)),
            ("a record", world.record("acme").tokens(100).label("a", "1").id("r").await.map(drop)),
            ("an extend", world.extend(hold.name()).tokens(100).id("r").await.map(drop)),
            ("another extend", world.extend(hold.name()).tokens(2).id("e").await.map(drop)),
            ("a reserve", world.reserve("acme").tokens(1).id("c").await.map(drop)),
            ("another record", world.record("acme").tokens(2).id("c").await.map(drop)),
        ];
        for (case, result) in cases {
            result.expect_err(case).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        }
        assert_eq!(world.books("acme").await, before);
    }

    async fn without_a_request_id_a_retry_is_a_new_request(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let first = world.reserve("acme").tokens(100).await.expect("there is quota");
        let second = world.reserve("acme").tokens(100).await.expect("there is quota");
        assert_ne!(first.name(), second.name());
        assert_eq!(second.figures("day"), (0, 200));
    }

    async fn a_refusal_is_not_remembered(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let blocker = world.reserve("acme").tokens(100).await.expect("there is quota");
        let reserve = || world.reserve("acme").tokens(50).id("r");
        reserve().await.expect_err("it is used up").is_quota(&["day"]);
        // The payload of a refused request is not remembered, either.
        world.release(blocker.name()).await.expect("it is held");
        world.reserve("acme").tokens(51).id("r").await.expect("there is quota now");
        reserve().await.expect_err("another payload").is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    }

    /// A request_id is kept for at least 24 hours.
    async fn a_request_id_is_remembered_for_a_day(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let first = world.reserve("acme").tokens(100).id("r").await.expect("there is quota");
        world.clock.advance(DAY - 1);
        let again = world.reserve("acme").tokens(100).id("r").await.expect("a retry");
        assert_eq!(again.reservation, first.reservation);
    }

    /// This is true even if one batch contains several copies.
    async fn concurrent_copies_of_a_request_take_effect_once(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
        for round in 0..10 {
            let call = world.reserve("acme").tokens(1).id(&format!("r{round}"));
            let replies = join_all((0..16).map(|_| call.clone().into_future())).await;
            let names: Vec<String> =
                replies.into_iter().map(|reply| reply.expect("there is quota").name().to_owned()).collect();
            assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
        }
        assert_eq!(world.figures("acme", "lifetime").await, (0, 10));
    }
}
