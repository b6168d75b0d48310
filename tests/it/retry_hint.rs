//! R4.11: when it is worth to ask again.

use std::time::Duration;

use crate::harness::*;

/// Rounded up, by less than a second; so that it is never too early.
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
    async fn the_windows_end_when_it_was_spent(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(50).await.expect("it is recorded");
        let no = world.reserve("acme").tokens(51).await.expect_err("50 are left");
        assert_hint(&no, Some(12 * HOUR), "a whole second");
        world.clock.advance(1);
        let no = world.reserve("acme").tokens(51).await.expect_err("50 are left");
        assert_hint(&no, Some(12 * HOUR - 1), "a millisecond less");
    }

    async fn the_earliest_deadline_when_it_would_fit_without_holds(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(20).await.expect("it is recorded");
        for (tokens, ttl) in [(20, 7 * MINUTE), (20, 3 * MINUTE), (20, 5 * MINUTE)] {
            world.reserve("acme").tokens(tokens).ttl(ttl).await.expect("there is quota");
        }
        let no = world.reserve("acme").tokens(80).await.expect_err("60 are held");
        assert_hint(&no, Some(3 * MINUTE), "it would fit into 80");
        let no = world.reserve("acme").tokens(81).await.expect_err("20 are spent");
        assert_hint(&no, Some(12 * HOUR), "it would not");
        world.clock.advance(4 * MINUTE);
        let no = world.reserve("acme").tokens(80).await.expect_err("40 are held");
        assert_hint(&no, Some(MINUTE), "the next deadline");
    }

    async fn never_when_a_fresh_window_would_not_do(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let no = world.reserve("acme").tokens(101).await.expect_err("100 a day");
        assert_hint(&no, None, "more than a day's allowance");
        // It is the minimum that counts when less is of use.
        world.record("acme").tokens(100).await.expect("it is recorded");
        let no = world.reserve("acme").at_least("tokens", 500, 100).partial().await.expect_err("nothing is left");
        assert_hint(&no, Some(12 * HOUR), "100 will do tomorrow");
        let no = world.reserve("acme").at_least("tokens", 500, 101).partial().await.expect_err("nothing is left");
        assert_hint(&no, None, "101 never");
    }

    async fn never_when_a_lifetime_is_spent(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 100)]).await;
        world.reserve("acme").tokens(60).ttl(MINUTE).await.expect("there is quota");
        let no = world.reserve("acme").tokens(100).await.expect_err("60 are held");
        assert_hint(&no, Some(MINUTE), "holds end");
        world.record("acme").tokens(1).await.expect("it is recorded");
        let no = world.reserve("acme").tokens(100).await.expect_err("one is spent");
        assert_hint(&no, None, "a lifetime does not");
    }

    /// The latest of the limits that refused; those that did not have no say.
    async fn the_latest_of_all_that_refused(world: World) {
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

    async fn an_old_windows_hold_does_not_hold_up_this_one(world: World) {
        world.clock.set(NOON + 12 * HOUR - MINUTE);
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.reserve("acme").tokens(100).ttl(10 * MINUTE).await.expect("there is quota");
        world.clock.advance(2 * MINUTE);
        world.reserve("acme").tokens(100).ttl(HOUR).await.expect("a new day");
        let no = world.reserve("acme").tokens(1).await.expect_err("it is held");
        assert_hint(&no, Some(HOUR), "of the new day's hold");
    }

    async fn a_hint_that_is_followed_helps(world: World) {
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
