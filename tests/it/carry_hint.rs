//! R4.46 and R4.11: the retry hint of a limit that carries over is exact: then the request passes, and not before.

use std::time::Duration;

use crate::harness::{v1::*, *};

/// A limit of 100 tokens a day, of which half can be carried over.
fn half() -> Limit {
    day("tokens", 100).carrying(50, 0)
}

/// Checks the hint of a refused Reserve at noon of the first day. With a hint, the same request is refused a
/// millisecond before that time, and passes at that time. A Check holds nothing, so nothing else happens.
async fn is_exact(world: &World, tenant: &str, tokens: i64, wanted: Option<i64>, case: &str) {
    let now = world.clock.now();
    let no = world.reserve(tenant).tokens(tokens).await.expect_err(case);
    no.is_quota(&["day"]);
    let wanted_delay = wanted.map(|wanted| Duration::from_millis(u64::try_from(wanted).expect("later")));
    assert_eq!(no.retry, wanted_delay, "{case}");
    let Some(wanted) = wanted else { return };
    world.clock.set(now + wanted - 1);
    let check = world.check(tenant).tokens(tokens).await.expect("an answer");
    assert!(!check.allowed, "{case}, a millisecond before: {check:?}");
    world.clock.set(now + wanted);
    let check = world.check(tenant).tokens(tokens).await.expect("an answer");
    assert!(check.allowed, "{case}: {check:?}");
    world.reserve(tenant).tokens(tokens).await.expect(case);
}

async fn create(world: &Clients, made: Override) {
    let request = CreateOverrideRequest { r#override: Some(made) };
    clients::done(world.admin.clone().create_override(request).await).expect("it is new");
}

/// An override of the tenant's limit, from and until these instants. 0: without a start.
fn exception(tenant: &str, quantity: i64, start: i64, end: i64) -> Override {
    Override {
        tenant: tenant.into(),
        id: format!("at{start}"),
        limit_id: "day".into(),
        quantity: Some(quantity),
        start_time: (start != 0).then(|| timestamp(start)),
        end_time: Some(timestamp(end)),
        reason: "a test".into(),
        ..Override::default()
    }
}

both! {
    async fn the_hint_includes_what_the_next_windows_get_by_carry_over(world: World) {
        type Units = Option<(i64, i64)>;
        type Row = (&'static str, i64, Units, Units, i64, Option<i64>);
        // Spent, held for some hours, charged after some hours, asked, and the hint in hours.
        let rows: [Row; 12] = [
            ("it fits without a carry-over", 100, None, None, 100, Some(12)),
            ("what is left is enough", 70, None, None, 130, Some(12)),
            ("one unit more needs a day without usage", 70, None, None, 131, Some(36)),
            ("nothing is left", 100, None, None, 101, Some(36)),
            ("as much as ever fits", 100, None, None, 150, Some(36)),
            ("more than ever fits", 0, None, None, 151, None),
            ("the hold ends today", 20, Some((60, 1)), None, 80, Some(1)),
            ("the hold ends before midnight", 20, Some((60, 1)), None, 150, Some(12)),
            ("the hold is still open at midnight", 20, Some((60, 14)), None, 120, Some(12)),
            ("the hold must have ended", 20, Some((60, 14)), None, 121, Some(14)),
            ("a charged hold frees nothing", 20, None, Some((60, 14)), 121, Some(36)),
            ("one is charged, one ends", 20, Some((40, 13)), Some((40, 14)), 140, Some(13)),
        ];
        let mut noon = NOON;
        for (number, (case, spent, held, charged, tokens, hours)) in rows.into_iter().enumerate() {
            let tenant = format!("t{number}");
            world.clock.set(noon);
            world.tenant_with(&tenant, &[half()]).await;
            world.record(&tenant).tokens(spent).await.expect("it is recorded");
            if let Some((tokens, hours)) = held {
                world.reserve(&tenant).tokens(tokens).ttl(hours * HOUR).await.expect("there is quota");
            }
            if let Some((tokens, hours)) = charged {
                let call = world.reserve(&tenant).tokens(tokens).ttl(hours * HOUR).charged_on_expiry();
                call.await.expect("there is quota");
            }
            is_exact(world, &tenant, tokens, hours.map(|hours| hours * HOUR), case).await;
            noon += 4 * DAY;
        }
    }

    /// The carry-over of the present window is not carried over again.
    async fn the_carry_over_of_this_window_does_not_count_in_the_next(world: World) {
        for (number, (spent, tokens, hours)) in [(140, 20, 12), (140, 101, 36), (80, 120, 12), (80, 121, 36)].into_iter().enumerate() {
            let tenant = format!("t{number}");
            world.tenant_with(&tenant, &[half()]).await;
            world.clock.advance(DAY);
            world.record(&tenant).tokens(spent).await.expect("it is recorded");
            is_exact(world, &tenant, tokens, Some(hours * HOUR), &format!("{spent} spent, {tokens} asked")).await;
            let now = world.clock.now();
            world.clock.set(now - now.rem_euclid(DAY) + 2 * DAY + 12 * HOUR);
        }
    }

    /// An override replaces the quantity, in the window of the request and in the window from which units are carried.
    async fn the_hint_foresees_overrides_of_a_limit_that_carries_over(world: World) {
        type Row = (&'static str, i64, &'static [(i64, i64, i64)], i64, Option<i64>);
        // Spent, overrides with quantity, start and end in hours from noon, asked, and the hint in hours.
        let rows: [Row; 7] = [
            ("the override begins tomorrow", 100, &[(300, 22, 40)], 200, Some(22)),
            ("it is the next day that gets more", 100, &[(300, 0, 12)], 250, Some(12)),
            ("more than that only by another override", 100, &[(300, 0, 12), (500, 30, 31)], 251, Some(30)),
            ("half of what applied at the end of the day", 0, &[(40, 11, 12)], 120, Some(12)),
            ("a unit more than that needs a day of the limit itself", 0, &[(40, 11, 12)], 121, Some(36)),
            ("the day after the override ends gets more", 100, &[(300, 20, 36)], 550, None),
            ("half of an override that nobody used", 100, &[(140, 35, 36)], 170, Some(36)),
        ];
        let mut noon = NOON;
        for (number, (case, spent, overrides, tokens, hours)) in rows.into_iter().enumerate() {
            let tenant = format!("t{number}");
            world.clock.set(noon);
            world.tenant_with(&tenant, &[half()]).await;
            for &(quantity, start, end) in overrides {
                let start = if start == 0 { 0 } else { noon + start * HOUR };
                create(world, exception(&tenant, quantity, start, noon + end * HOUR)).await;
            }
            world.record(&tenant).tokens(spent).await.expect("it is recorded");
            is_exact(world, &tenant, tokens, hours.map(|hours| hours * HOUR), case).await;
            noon += 5 * DAY;
        }
    }

    /// An Extend counts in the window of its hold, with the carry-over of that window.
    async fn an_extend_waits_only_for_holds_of_its_own_window(world: World) {
        world.tenant_with("acme", &[half()]).await;
        world.clock.advance(DAY);
        let hold = world.reserve("acme").tokens(60).ttl(20 * HOUR).await.expect("there is quota");
        world.reserve("acme").tokens(80).ttl(HOUR).await.expect("50 are carried over");
        let no = world.extend(hold.name()).tokens(20).await.expect_err("10 are left");
        assert_eq!(no.retry, Some(Duration::from_secs(3_600)));
        let no = world.extend(hold.name()).tokens(91).await.expect_err("10 are left");
        assert_eq!(no.retry, None, "150 in all");
        world.clock.advance(HOUR);
        world.extend(hold.name()).tokens(90).await.expect("as was said");
    }

    /// The server reads only the 256 holds that end first. With more, the hint may be too early, and never too late.
    async fn with_more_than_256_holds_the_hint_is_too_early(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000).carrying(50, 0)]).await;
        let reserve = |number: i64| world.reserve("acme").tokens(1).ttl(13 * HOUR + number * SECOND).operation();
        world.batch((1..=300).map(reserve).collect()).await.expect("each stands for itself");
        world.record("acme").tokens(600).await.expect("it is recorded");
        let no = world.reserve("acme").tokens(1_380).await.expect_err("100 are left");
        let hint = no.retry.expect("280 of the holds must have ended");
        assert_eq!(hint, Duration::from_secs(13 * 3_600 + 256), "the last hold that is looked at");
        world.clock.set(NOON + 13 * HOUR + 280 * SECOND - 1);
        assert!(!world.check("acme").tokens(1_380).await.expect("an answer").allowed);
        world.clock.advance(1);
        world.reserve("acme").tokens(1_380).await.expect("380 are carried over");
    }
}
