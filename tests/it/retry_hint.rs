//! R4.11: retry hints, which report when the same request would pass.

use std::time::Duration;

use crate::harness::{v1::*, *};

/// Checks that a hint is `wanted` milliseconds, rounded up to a whole second. So it is never too early.
fn assert_hint(no: &No, wanted: Option<i64>, case: &str) {
    let Some(wanted) = wanted else {
        assert_eq!(no.retry, None, "{case}");
        return;
    };
    let wanted = Duration::from_millis(u64::try_from(wanted).expect("in the future"));
    let hint = no.retry.unwrap_or_else(|| panic!("{case}: {no:?}"));
    assert!(hint >= wanted && hint < wanted + Duration::from_secs(1), "{case}: {hint:?}, not {wanted:?}");
}

both! {
    async fn the_hint_is_the_end_of_the_window_if_the_allowance_is_spent(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(50).await.expect("it is recorded");
        let no = world.reserve("acme").tokens(51).await.expect_err("50 are left");
        assert_hint(&no, Some(12 * HOUR), "a whole second");
        world.clock.advance(1);
        let no = world.reserve("acme").tokens(51).await.expect_err("50 are left");
        assert_hint(&no, Some(12 * HOUR - 1), "a millisecond less");
    }

    async fn the_hint_adds_up_holds_that_end_one_after_the_other(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(20).await.expect("it is recorded");
        for ttl in [7 * MINUTE, 3 * MINUTE, 5 * MINUTE] {
            world.reserve("acme").tokens(20).ttl(ttl).await.expect("there is quota");
        }
        let cases = [
            (21, 3 * MINUTE),
            (40, 3 * MINUTE),
            (41, 5 * MINUTE),
            (60, 5 * MINUTE),
            (61, 7 * MINUTE),
            (80, 7 * MINUTE),
            (81, 12 * HOUR),
        ];
        for (tokens, wanted) in cases {
            let no = world.reserve("acme").tokens(tokens).await.expect_err("20 are left");
            assert_hint(&no, Some(wanted), &format!("{tokens} tokens"));
        }
        world.clock.advance(4 * MINUTE);
        let no = world.reserve("acme").tokens(41).await.expect_err("40 are left");
        assert_hint(&no, Some(MINUTE), "the next deadline");
    }

    async fn there_is_no_hint_if_a_new_window_is_too_small(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let no = world.reserve("acme").tokens(101).await.expect_err("100 a day");
        assert_hint(&no, None, "more than a day's allowance");
        // With allow_partial, the hint is for the minimum.
        world.record("acme").tokens(100).await.expect("it is recorded");
        let no = world.reserve("acme").at_least("tokens", 500, 100).partial().await.expect_err("nothing is left");
        assert_hint(&no, Some(12 * HOUR), "100 will do tomorrow");
        let no = world.reserve("acme").at_least("tokens", 500, 101).partial().await.expect_err("nothing is left");
        assert_hint(&no, None, "101 never");
    }

    async fn there_is_no_hint_if_a_lifetime_limit_is_spent(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 100)]).await;
        world.reserve("acme").tokens(60).ttl(MINUTE).await.expect("there is quota");
        let no = world.reserve("acme").tokens(100).await.expect_err("60 are held");
        assert_hint(&no, Some(MINUTE), "holds end");
        world.record("acme").tokens(1).await.expect("it is recorded");
        let no = world.reserve("acme").tokens(100).await.expect_err("one is spent");
        assert_hint(&no, None, "a lifetime does not");
    }

    /// Limits that did not refuse do not affect the hint.
    async fn the_hint_is_the_latest_of_all_limits_that_refused(world: World) {
        let limits = [day("tokens", 100), month("tokens", 200), lifetime("requests", 10).named("calls")];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        let no = world.reserve("acme").tokens(50).await.expect_err("the day is used up");
        no.is_quota(&["day"]);
        assert_hint(&no, Some(12 * HOUR), "the day");
        world.record("acme").tokens(60).await.expect("it is recorded");
        let no = world.reserve("acme").tokens(50).await.expect_err("so is the month");
        no.is_quota(&["day", "month"]);
        assert_hint(&no, Some(15 * DAY + 12 * HOUR), "the month");
        let no = world.reserve("acme").tokens(50).amount("requests", 11).await.expect_err("and the calls");
        no.is_quota(&["calls", "day", "month"]);
        assert_hint(&no, None, "one of them is never");
    }

    /// The hint is not always the deadline of the first hold.
    async fn the_hint_is_the_deadline_after_which_enough_is_free(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        for (tokens, ttl) in [(10, SECOND), (80, 120 * SECOND)] {
            world.reserve("acme").tokens(tokens).ttl(ttl).await.expect("there is quota");
        }
        for (tokens, wanted) in [(20, SECOND), (21, 120 * SECOND), (50, 120 * SECOND), (100, 120 * SECOND)] {
            let no = world.reserve("acme").tokens(tokens).await.expect_err("10 are left");
            assert_hint(&no, Some(wanted), "as a Reserve");
            let check = world.check("acme").tokens(tokens).await.expect("an answer");
            assert_eq!(check.retry_delay, Some(call::span(wanted)), "as a Check");
        }
        // With allow_partial, the minimum is enough.
        let no = world.reserve("acme").at_least("tokens", 100, 15).partial().await.expect_err("10 are left");
        assert_hint(&no, Some(SECOND), "15 will do");
        // A hold that is charged at its deadline frees nothing.
        world.reserve("acme").tokens(10).ttl(60 * SECOND).charged_on_expiry().await.expect("there is quota");
        let no = world.reserve("acme").tokens(50).await.expect_err("nothing is left");
        assert_hint(&no, Some(120 * SECOND), "80 are freed then");
        let no = world.reserve("acme").tokens(91).await.expect_err("nothing is left");
        assert_hint(&no, Some(12 * HOUR), "10 are charged, so it is for tomorrow");
    }

    async fn there_is_no_hint_if_the_holds_will_be_charged(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 100)]).await;
        world.reserve("acme").tokens(60).ttl(MINUTE).charged_on_expiry().await.expect("there is quota");
        world.reserve("acme").tokens(30).ttl(2 * MINUTE).await.expect("there is quota");
        let no = world.reserve("acme").tokens(40).await.expect_err("10 are left");
        assert_hint(&no, Some(2 * MINUTE), "30 are freed");
        let no = world.reserve("acme").tokens(41).await.expect_err("10 are left");
        assert_hint(&no, None, "60 stay spent for life");
    }

    /// An Extend counts in the window of its hold. So quota of a later window does not help.
    async fn the_hint_of_an_extend_ignores_later_windows(world: World) {
        world.clock.set(NOON + 11 * HOUR);
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(60).ttl(2 * HOUR).await.expect("there is quota");
        world.record("acme").tokens(40).await.expect("it is recorded");
        for case in ["an hour before midnight", "an hour after midnight"] {
            let no = world.extend(hold.name()).tokens(50).await.expect_err("the old day is used up");
            assert_hint(&no, None, case);
            world.clock.advance(2 * HOUR - MINUTE);
        }
    }

    /// An Extend can wait only until the deadline of its hold. So the quantity of its own hold never becomes free for
    /// it.
    async fn the_hint_of_an_extend_is_the_end_of_another_hold_in_its_window(world: World) {
        world.clock.set(NOON + 11 * HOUR);
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(40).ttl(3 * HOUR).await.expect("there is quota");
        world.reserve("acme").tokens(30).ttl(2 * HOUR).await.expect("there is quota");
        world.reserve("acme").tokens(20).ttl(4 * HOUR).await.expect("there is quota");
        world.clock.advance(HOUR + MINUTE);
        // Holds of the new day do not affect the hint.
        world.reserve("acme").tokens(100).ttl(MINUTE).await.expect("a new day");
        let no = world.extend(hold.name()).tokens(40).await.expect_err("10 are left of the old day");
        assert_hint(&no, Some(HOUR - MINUTE), "30 are freed while the hold is there");
        let no = world.extend(hold.name()).tokens(60).await.expect_err("10 are left of the old day");
        assert_hint(&no, None, "20 are freed when the hold is over");
        world.clock.advance(HOUR - MINUTE);
        world.extend(hold.name()).tokens(40).await.expect("as was said");
    }

    /// An Extend cannot move the deadline to more than 48 hours after the Reserve.
    async fn an_extend_gets_no_hint_if_its_deadline_would_be_too_late(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(40).ttl(24 * HOUR).await.expect("there is quota");
        world.clock.advance(23 * HOUR);
        world.extend(hold.name()).ttl(24 * HOUR).await.expect("47 hours");
        for ttl in [90 * MINUTE, 3 * HOUR] {
            world.reserve("acme").tokens(30).ttl(ttl).await.expect("there is quota");
        }
        let extend = |tokens, ttl| world.extend(hold.name()).tokens(tokens).ttl(ttl);
        let no = extend(30, 23 * HOUR).await.expect_err("nothing is left");
        assert_hint(&no, Some(90 * MINUTE), "the deadline would be 47 and a half hours after the Reserve");
        let no = extend(30, 24 * HOUR).await.expect_err("nothing is left");
        assert_hint(&no, None, "it would be too far away by then");
        let no = extend(60, 22 * HOUR).await.expect_err("nothing is left");
        assert_hint(&no, Some(3 * HOUR), "48 hours to the millisecond");
    }

    /// The server reads only the 256 holds that end first. If these are not enough, the hint may be too early, and a
    /// client that follows it gets a better hint.
    async fn with_more_than_256_holds_a_hint_may_be_too_early(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let reserve = |number: i64| world.reserve("acme").tokens(1).ttl(number * SECOND).operation();
        world.batch((1..=300).map(reserve).collect()).await.expect("each stands for itself");
        world.record("acme").tokens(700).await.expect("it is recorded");
        let no = world.reserve("acme").tokens(256).await.expect_err("nothing is left");
        assert_hint(&no, Some(256 * SECOND), "the last that is looked at");
        let no = world.reserve("acme").tokens(280).await.expect_err("nothing is left");
        assert_hint(&no, Some(256 * SECOND), "not before");
        world.clock.advance(256 * SECOND);
        let no = world.reserve("acme").tokens(280).await.expect_err("24 are held too much");
        assert_hint(&no, Some(24 * SECOND), "exactly");
        world.clock.advance(24 * SECOND);
        world.reserve("acme").tokens(280).await.expect("as was said");
    }

    /// The hint includes the effects of operations that come later in the same batch.
    async fn the_hint_includes_later_operations_of_the_batch(world: World) {
        world.tenant_with("acme", &[day("tokens", 100), lifetime("requests", 10).named("calls")]).await;
        let hold = world.reserve("acme").tokens(80).ttl(MINUTE).await.expect("there is quota");
        let refused = async |operations: Vec<Operation>| {
            let results = world.batch(operations).await.expect("each stands for itself");
            match results.into_iter().next().and_then(|first| first.result) {
                Some(operation_result::Result::Error(status)) => No::from(status),
                other => panic!("{other:?}"),
            }
        };
        let charged = [world.reserve("acme").tokens(50).operation(), world.commit(hold.name()).operation()];
        assert_hint(&refused(charged.to_vec()).await, Some(12 * HOUR), "what was held is spent");
        let given_back = [
            world.reserve("acme").tokens(50).operation(),
            world.record("acme").tokens(-80).operation(),
        ];
        let no = refused(given_back.to_vec()).await;
        assert_hint(&no, Some(1), "it would fit at once, and no hint is of now");
        assert!(no.retry > Some(Duration::ZERO));
    }

    async fn a_suspended_tenant_gets_no_hint(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        world.set_state("acme", TenantState::Suspended).await;
        let check = world.check("acme").tokens(1).await.expect("an answer");
        assert_eq!((check.allowed, check.suspended, check.retry_delay), (false, true, None));
    }

    async fn the_hint_ignores_holds_of_an_earlier_window(world: World) {
        world.clock.set(NOON + 12 * HOUR - MINUTE);
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.reserve("acme").tokens(100).ttl(10 * MINUTE).await.expect("there is quota");
        world.clock.advance(2 * MINUTE);
        world.reserve("acme").tokens(100).ttl(HOUR).await.expect("a new day");
        let no = world.reserve("acme").tokens(1).await.expect_err("it is held");
        assert_hint(&no, Some(HOUR), "of the new day's hold");
    }

    async fn a_client_that_follows_the_hints_is_granted_quota(world: World) {
        let limits = [day("tokens", 100), month("tokens", 150)];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(30).await.expect("it is recorded");
        world.reserve("acme").tokens(50).ttl(90 * SECOND).charged_on_expiry().await.expect("there is quota");
        world.reserve("acme").tokens(20).ttl(MINUTE).await.expect("there is quota");
        let mut refusals = 0;
        loop {
            match world.reserve("acme").tokens(70).await {
                Ok(_) => break,
                Err(no) => {
                    let hint = no.retry.expect("it fits into a fresh day and month");
                    assert!(hint > Duration::ZERO, "{no:?}");
                    world.clock.advance(i64::try_from(hint.as_millis()).expect("less than a month"));
                    refusals += 1;
                    assert!(refusals < 10, "the hints lead nowhere");
                }
            }
        }
        assert!(refusals > 0);
    }
}
