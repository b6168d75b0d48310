//! R4.30: a change of a zone or of an anchor keeps the running windows to their ends, and gives nobody two allowances
//! for one period.

use crate::harness::{v1::*, *};

both! {
    async fn a_change_of_zone_keeps_the_running_day_to_its_end(world: World) {
        world.clock.set(at("2026-03-16T20:00:00Z"));
        world.tenant_in("acme", "America/New_York", &[day("tokens", 100)]).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        let moved = world.move_to("acme", "Asia/Tokyo").await.expect("the zone is known");
        assert_eq!(moved.zone, "Asia/Tokyo");
        // In Tokyo it is the next day already, but the day of New York runs on, with the same counter.
        world.reserve("acme").tokens(1).await.expect_err("the day runs").is_quota(&["day"]);
        let usage = world.usage("acme").await;
        assert_eq!(window(usage.balance("day")), (at("2026-03-16T04:00:00Z"), at("2026-03-17T04:00:00Z")));
        // Tokyo's next midnight comes 11 hours after that, which is less than half a day.
        world.clock.set(at("2026-03-17T04:00:00Z"));
        let reply = world.reserve("acme").tokens(100).ttl(HOUR).await.expect("a new window");
        assert_eq!(window(reply.balance("day")), (at("2026-03-17T04:00:00Z"), at("2026-03-18T15:00:00Z")));
        world.commit(reply.name()).await.expect("it is held");
        world.clock.set(at("2026-03-18T14:59:59Z"));
        world.reserve("acme").tokens(1).await.expect_err("the window runs").is_quota(&["day"]);
        world.clock.set(at("2026-03-18T15:00:00Z"));
        let reply = world.reserve("acme").tokens(100).await.expect("a day of Tokyo");
        assert_eq!(window(reply.balance("day")), (at("2026-03-18T15:00:00Z"), at("2026-03-19T15:00:00Z")));
        world.verify().await;
    }

    async fn a_new_anchor_day_gives_no_second_allowance_for_a_month(world: World) {
        world.clock.set(at("2026-03-10T12:00:00Z"));
        world.tenant_with("acme", &[month("tokens", 100)]).await;
        world.record("acme").tokens(90).await.expect("it is recorded");
        world.change_plan("acme", &[month("tokens", 100).anchor(12)]).await.expect("the plan is there");
        let usage = world.usage("acme").await;
        let balance = usage.balance("month");
        assert_eq!((balance.committed, window(balance)), (90, (at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"))));
        assert_eq!(millis(balance.counted_since.as_ref()), Some(at("2026-03-10T12:00:00Z")));
        // The anchor day comes and goes.
        world.clock.set(at("2026-03-12T00:00:00Z"));
        world.reserve("acme").tokens(11).await.expect_err("ten are left").is_quota(&["month"]);
        // 12 April is less than half a month after the end of March.
        world.clock.set(at("2026-04-01T00:00:00Z"));
        let reply = world.reserve("acme").tokens(100).ttl(HOUR).await.expect("a new window");
        assert_eq!(window(reply.balance("month")), (at("2026-04-01T00:00:00Z"), at("2026-05-12T00:00:00Z")));
        world.commit(reply.name()).await.expect("it is held");
        // A hold of before the change is settled in its own window.
        world.clock.set(at("2026-05-12T00:00:00Z"));
        let usage = world.usage("acme").await;
        let balance = usage.balance("month");
        assert_eq!((balance.committed, window(balance)), (0, (at("2026-05-12T00:00:00Z"), at("2026-06-12T00:00:00Z"))));
        world.verify().await;
    }

    async fn a_hold_is_settled_in_its_window_after_zone_and_anchor_have_changed(world: World) {
        world.clock.set(at("2026-03-31T23:30:00Z"));
        world.tenant_with("acme", &[month("tokens", 100), day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(60).ttl(4 * HOUR).await.expect("there is quota");
        let windows: Vec<_> = ["month", "day"].map(|limit| window(hold.balance(limit))).into();
        world.move_to("acme", "Asia/Tokyo").await.expect("the zone is known");
        world.change_plan("acme", &[month("tokens", 100).anchor(20), day("tokens", 100)]).await.expect("there");
        world.clock.set(at("2026-04-01T02:00:00Z"));
        world.restart().await;
        let extended = world.extend(hold.name()).tokens(10).await.expect("40 are left");
        assert_eq!(extended.figures("month"), (0, 70));
        let settled = world.commit(hold.name()).tokens(50).await.expect("it is held");
        for (limit, window_before) in ["month", "day"].into_iter().zip(windows) {
            assert_eq!((settled.figures(limit), window(settled.balance(limit))), ((50, 0), window_before), "{limit}");
            assert_eq!(world.figures("acme", limit).await, (0, 0), "{limit} of now");
        }
        let reset = world.reset("acme", &[]).await.expect("it is reset");
        assert_eq!(reset.adjusted, Vec::<i64>::new(), "the windows of the hold are over");
        world.record("acme").tokens(5).await.expect("it is recorded");
        let reset = world.reset("acme", &[]).await.expect("it is reset");
        assert_eq!(reset.adjusted, [-5, -5], "the windows after a change are found");
        world.verify().await;
    }

    async fn a_change_of_anchor_time_moves_the_billing_day_after_the_running_month(world: World) {
        world.clock.set(at("2026-03-16T12:00:00Z"));
        world.tenant_with("acme", &[every(Period::Month, 100).of_tenant(), every(Period::Day, 100).named("day")]).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        let tenant = Tenant { id: "acme".into(), anchor_time: Some(timestamp(at("2026-03-01T00:00:00Z"))), ..Tenant::default() };
        let changed = world.change_tenant(tenant, &["anchor_time"]).await.expect("the tenant is there");
        assert_eq!(millis(changed.anchor_time.as_ref()), Some(at("2026-03-01T00:00:00Z")));
        let usage = world.usage("acme").await;
        assert_eq!(window(usage.balance("limit")), (at("2026-03-16T12:00:00Z"), at("2026-04-16T12:00:00Z")));
        assert_eq!(window(usage.balance("day")), (at("2026-03-16T00:00:00Z"), at("2026-03-17T00:00:00Z")), "untouched");
        world.clock.set(at("2026-04-16T12:00:00Z"));
        let usage = world.usage("acme").await;
        // 1 May is 14.5 days away, less than half of 30 days.
        assert_eq!(window(usage.balance("limit")), (at("2026-04-16T12:00:00Z"), at("2026-06-01T00:00:00Z")));
        let cleared = world.change_tenant(Tenant { id: "acme".into(), ..Tenant::default() }, &["anchor_time"]).await;
        assert_eq!(cleared.expect("the tenant is there").anchor_time, changed.create_time);
    }

    async fn the_twenty_first_zone_within_an_hour_is_refused(world: World) {
        world.clock.set(at("2026-03-16T12:00:00Z"));
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        for zone in ["Asia/Tokyo", "UTC"].into_iter().cycle().take(19) {
            world.move_to("acme", zone).await.expect("there is room in the history");
            world.clock.advance(3 * MINUTE);
            world.reserve("acme").tokens(1).await.expect_err("the day runs").is_quota(&["day"]);
        }
        let no = world.move_to("acme", "UTC").await.expect_err("the history is full");
        no.names(&["tenant.zone"]);
        let text = &no.faults[0].1;
        assert!(text.starts_with("must not change again before 2026-04-24T15:54:00Z"), "{text}");
        assert_eq!(world.usage("acme").await.balance("day").committed, 100);
        world.move_to("acme", "Asia/Tokyo").await.expect("it is the present zone");
        // Of all these changes only the last one counts: Tokyo's midnight comes after 15 hours.
        world.clock.set(at("2026-03-17T00:00:00Z"));
        let usage = world.usage("acme").await;
        assert_eq!(window(usage.balance("day")), (at("2026-03-17T00:00:00Z"), at("2026-03-17T15:00:00Z")));
        world.clock.set(at("2026-04-24T15:54:00Z"));
        world.move_to("acme", "UTC").await.expect("old calendars are dropped");
        world.verify().await;
    }

    async fn a_change_of_period_is_another_limit(world: World) {
        world.clock.set(at("2026-03-16T12:00:00Z"));
        world.tenant_with("acme", &[month("tokens", 100)]).await;
        world.record("acme").tokens(90).await.expect("it is recorded");
        world.change_plan("acme", &[every(Period::Week, 100).named("month")]).await.expect("the plan is there");
        let usage = world.usage("acme").await;
        let balance = usage.balance("month");
        assert_eq!((balance.committed, balance.counted_since), (0, Some(timestamp(at("2026-03-16T12:00:00Z")))));
    }
}
