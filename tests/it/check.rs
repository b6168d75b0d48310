//! Check reports what a Reserve would do, but makes no hold.

use tonic::Code;

use crate::harness::{call::span, v1::*, *};

fn outcomes(reply: &CheckResponse) -> Vec<(&str, verdict::Outcome, i64)> {
    let mut outcomes: Vec<_> = reply
        .verdicts
        .iter()
        .map(|verdict| {
            let balance = verdict.balance.as_ref().expect("every verdict has its balance");
            assert!(!verdict.reason.is_empty(), "{verdict:?}");
            (balance.limit_id.as_str(), verdict.outcome(), verdict.requested)
        })
        .collect();
    outcomes.sort_unstable_by_key(|(limit, ..)| *limit);
    outcomes
}

both! {
    async fn a_check_has_a_verdict_for_every_limit_that_applies(world: World) {
        use verdict::Outcome::{Exceed, Pass, Refuse};
        let limits = [
            day("tokens", 100),
            month("tokens", 30).soft(),
            lifetime("tokens", 1_000),
            day("tokens", 1).agent("coder").named("coder"),
        ];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(20).await.expect("it is recorded");
        let before = world.books("acme").await;

        let reply = world.check("acme").tokens(80).agent("planner").model("m-1").await.expect("an answer");
        assert!(reply.allowed && !reply.suspended);
        assert_eq!(outcomes(&reply), [("day", Pass, 80), ("lifetime", Pass, 80), ("month", Exceed, 80)]);
        assert_eq!(reply.granted, [Amount { resource: "tokens".into(), quantity: 80 }]);
        assert_eq!(reply.retry_delay, None);

        let reply = world.check("acme").tokens(81).agent("planner").await.expect("an answer");
        assert!(!reply.allowed);
        assert_eq!(outcomes(&reply), [("day", Refuse, 81), ("lifetime", Pass, 81), ("month", Exceed, 81)]);
        assert_eq!(reply.granted, []);
        assert_eq!(reply.retry_delay, Some(span(12 * HOUR)), "the day's end");

        let reply = world.check("acme").tokens(101).await.expect("an answer");
        assert_eq!((reply.allowed, reply.retry_delay), (false, None), "waiting never helps");
        assert_eq!(world.books("acme").await, before, "nothing is held");
    }

    async fn a_check_reports_a_partial_grant_in_advance(world: World) {
        use verdict::Outcome::{Partial, Pass, Refuse};
        world.tenant_with("acme", &[day("tokens", 100), month("tokens", 60)]).await;
        let reply = world.check("acme").tokens(90).partial().await.expect("an answer");
        assert!(reply.allowed);
        assert_eq!(reply.granted, [Amount { resource: "tokens".into(), quantity: 60 }]);
        assert_eq!(outcomes(&reply), [("day", Pass, 90), ("month", Partial, 90)]);
        let reply = world.check("acme").at_least("tokens", 90, 61).partial().await.expect("an answer");
        assert!(!reply.allowed);
        assert_eq!(outcomes(&reply), [("day", Pass, 90), ("month", Refuse, 90)]);
    }

    async fn a_check_reports_that_the_tenant_is_suspended(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.set_state("acme", TenantState::Suspended).await;
        let reply = world.check("acme").tokens(1).await.expect("an answer");
        assert!(!reply.allowed && reply.suspended);
    }

    async fn a_reserve_does_what_the_check_before_it_reported(world: World) {
        let limits = [
            day("tokens", 100),
            month("tokens", 250).per(&[Dimension::User]),
            lifetime("tokens", 300).soft(),
            day("requests", 7).named("calls"),
        ];
        world.tenant_with("acme", &limits).await;
        for step in 0_i64..40 {
            let (tokens, requests, partial) = (1 + step * 37 % 90, 1 + step % 3, step % 4 == 1);
            let user = ["ana", "bob"][usize::try_from(step % 2).expect("0 or 1")];
            let check = world.check("acme").user(user).tokens(tokens).amount("requests", requests);
            let reserve = world.reserve("acme").user(user).tokens(tokens).amount("requests", requests);
            let (check, reserve) = if partial { (check.partial(), reserve.partial()) } else { (check, reserve) };
            let said = check.await.expect("an answer");
            match reserve.await {
                Ok(reply) => {
                    assert!(said.allowed, "step {step}");
                    let mut granted: Vec<_> =
                        said.granted.iter().map(|amount| (&amount.resource, amount.quantity)).collect();
                    let held: Vec<_> =
                        reply.held().amounts.iter().map(|amount| (&amount.resource, amount.reserved)).collect();
                    granted.sort_unstable();
                    assert_eq!(granted, held, "step {step}");
                }
                Err(no) => {
                    assert!(!said.allowed, "step {step}");
                    let delay = said.retry_delay.map(|delay| delay.try_into().expect("it is positive"));
                    assert_eq!(no.retry, delay, "step {step}");
                }
            }
            world.clock.advance(3 * HOUR);
        }
    }

    async fn a_check_refuses_invalid_requests_like_a_reserve(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.check("acme").await.expect_err("nothing is asked").names(&["amounts"]);
        world.check("acme").tokens(-1).await.expect_err("negative").names(&["amounts[0].quantity"]);
        world.check("acme").amount("x", 1).await.expect_err("undeclared").names(&["amounts[0].resource"]);
        let no = world.check("nobody").tokens(1).await.expect_err("there is none");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
    }
}
