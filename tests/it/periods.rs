//! R4.6 and R4.29: windows of every period, with intervals and anchors, seen through Reserve and GetUsage.

use crate::harness::{v1::*, *};

/// A time zone, a limit, an instant, and the start and the end of the window that contains it.
type Row = (&'static str, Limit, &'static str, &'static str, &'static str);

/// Returns rows whose windows are days or shorter.
fn short_rows() -> Vec<Row> {
    let from = |anchor_minute, limit| Limit { anchor_minute, ..limit };
    vec![
        (
            "",
            every(Period::Minute, 10),
            "2026-03-16T12:00:59.999Z",
            "2026-03-16T12:00:00Z",
            "2026-03-16T12:01:00Z",
        ),
        (
            "",
            every(Period::Minute, 10).interval(15),
            "2026-03-16T12:50:00Z",
            "2026-03-16T12:45:00Z",
            "2026-03-16T13:00:00Z",
        ),
        (
            "Asia/Kathmandu",
            every(Period::Hour, 10),
            "2026-03-16T12:50:00Z",
            "2026-03-16T12:00:00Z",
            "2026-03-16T13:00:00Z",
        ),
        (
            "",
            every(Period::Hour, 10).interval(5),
            "1970-01-01T09:59:59Z",
            "1970-01-01T05:00:00Z",
            "1970-01-01T10:00:00Z",
        ),
        // Hours are those of UTC, also on the day on which the clock changes.
        (
            "Australia/Lord_Howe",
            every(Period::Hour, 10),
            "2026-04-04T15:30:00Z",
            "2026-04-04T15:00:00Z",
            "2026-04-04T16:00:00Z",
        ),
        (
            "Australia/Lord_Howe",
            every(Period::Day, 10),
            "2026-04-05T00:00:00Z",
            "2026-04-04T13:00:00Z",
            "2026-04-05T13:30:00Z",
        ),
        (
            "Europe/Berlin",
            from(120, every(Period::Day, 10)),
            "2026-03-29T00:59:59Z",
            "2026-03-28T01:00:00Z",
            "2026-03-29T01:00:00Z",
        ),
        (
            "Europe/Berlin",
            from(150, every(Period::Day, 10)),
            "2026-03-29T12:00:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z",
        ),
        (
            "Europe/Berlin",
            from(150, every(Period::Day, 10)),
            "2026-10-25T12:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-26T01:30:00Z",
        ),
    ]
}

/// Returns rows whose windows are weeks or longer.
fn long_rows() -> Vec<Row> {
    let weekly = |anchor_weekday| Limit { anchor_weekday, ..every(Period::Week, 10) };
    let yearly = |anchor_month, anchor_day| Limit { anchor_month, anchor_day, ..every(Period::Year, 10) };
    let since = |origin_date: &str, limit| Limit { origin_date: origin_date.into(), ..limit };
    vec![
        ("", every(Period::Week, 10), "2026-03-18T12:00:00Z", "2026-03-16T00:00:00Z", "2026-03-23T00:00:00Z"),
        (
            "America/New_York",
            weekly(7),
            "2026-03-08T12:00:00Z",
            "2026-03-08T05:00:00Z",
            "2026-03-15T04:00:00Z",
        ),
        (
            "",
            since("2026-01-07", every(Period::Week, 10).interval(2)),
            "2026-01-12T00:00:00Z",
            "2026-01-05T00:00:00Z",
            "2026-01-19T00:00:00Z",
        ),
        (
            "",
            every(Period::Month, 10).interval(3),
            "2026-05-31T00:00:00Z",
            "2026-04-01T00:00:00Z",
            "2026-07-01T00:00:00Z",
        ),
        (
            "",
            since("2026-02-01", every(Period::Month, 10).anchor(31).interval(3)),
            "2026-02-28T00:00:00Z",
            "2026-02-28T00:00:00Z",
            "2026-05-31T00:00:00Z",
        ),
        ("Asia/Tokyo", yearly(4, 1), "2026-03-31T14:59:59Z", "2025-03-31T15:00:00Z", "2026-03-31T15:00:00Z"),
        ("", yearly(2, 29), "2027-03-01T00:00:00Z", "2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z"),
        (
            "",
            since("2024-06-01", every(Period::Year, 10).interval(4)),
            "2026-03-16T00:00:00Z",
            "2024-01-01T00:00:00Z",
            "2028-01-01T00:00:00Z",
        ),
    ]
}

both! {
    async fn a_window_begins_and_ends_where_its_period_interval_and_anchors_say(world: World) {
        for (number, (zone, limit, now, start, end)) in short_rows().into_iter().chain(long_rows()).enumerate() {
            let case = format!("{zone} {limit:?} at {now}");
            world.clock.set(at(now));
            let tenant = format!("t{number}");
            world.tenant_in(&tenant, zone, &[limit]).await;
            let reply = world.reserve(&tenant).tokens(10).ttl(2 * SECOND).await.expect("there is quota");
            assert_eq!(window(reply.balance("limit")), (at(start), at(end)), "{case}");
            world.commit(reply.name()).await.expect("it is held");
            world.clock.set(at(end) - 1);
            world.reserve(&tenant).tokens(1).await.expect_err("the window runs").is_quota(&["limit"]);
            assert_eq!(world.figures(&tenant, "limit").await, (10, 0), "{case}");
            world.clock.set(at(end));
            assert_eq!(world.figures(&tenant, "limit").await, (0, 0), "{case}");
            let next = world.reserve(&tenant).tokens(10).await.expect("a new window");
            assert_eq!(window(next.balance("limit")).0, at(end), "{case}");
        }
        world.verify().await;
    }

    async fn with_the_anchor_of_the_tenant_each_tenant_has_a_billing_day_of_its_own(world: World) {
        world.clock.set(at("2026-03-16T12:00:00Z"));
        let limits = [every(Period::Month, 10).of_tenant(), every(Period::Hour, 10).of_tenant().interval(5).named("five")];
        world.tenant_with("created", &limits).await;
        for (id, zone, began) in [("late", "", "2026-01-31T23:30:45Z"), ("tokyo", "Asia/Tokyo", "2026-01-31T15:00:00Z")] {
            let tenant = Tenant { id: id.into(), plan: "created".into(), zone: zone.into(), anchor_time: Some(timestamp(at(began))), ..Tenant::default() };
            let created = world.admin.clone().create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await;
            let shown = created.expect("the tenant is new").into_inner();
            assert_eq!(millis(shown.anchor_time.as_ref()), Some(at(began)));
        }
        let months = [
            ("created", "2026-03-16T12:00:00Z", "2026-04-16T12:00:00Z"),
            ("late", "2026-02-28T23:30:00Z", "2026-03-31T23:30:00Z"),
            // In Tokyo it was the first of February.
            ("tokyo", "2026-02-28T15:00:00Z", "2026-03-31T15:00:00Z"),
        ];
        for (tenant, start, end) in months {
            let reply = world.reserve(tenant).tokens(1).await.expect("there is quota");
            assert_eq!(window(reply.balance("limit")), (at(start), at(end)), "{tenant}");
        }
        let five = world.usage("created").await;
        assert_eq!(window(five.balance("five")), (at("2026-03-16T12:00:00Z"), at("2026-03-16T17:00:00Z")));
    }

    async fn windows_of_an_hour_or_longer_are_closed_by_an_event(world: World) {
        world.clock.set(at("2026-03-16T12:00:00Z"));
        let limits = [
            every(Period::Minute, 10).named("minute"),
            every(Period::Minute, 10).interval(60).named("sixty-minutes"),
            every(Period::Hour, 10).named("hour"),
            every(Period::Week, 10).named("week"),
        ];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(5).await.expect("it is recorded");
        world.clock.advance(2 * HOUR);
        world.close_windows().await;
        let closed = world.events_of("acme").await;
        let closed: Vec<&str> = closed
            .iter()
            .filter(|event| event.kind() == EventKind::WindowClosed)
            .map(|event| event.balances[0].limit_id.as_str())
            .collect();
        assert_eq!(closed, ["sixty-minutes", "hour"]);
        assert_eq!(world.close_windows().await.counters, 0, "the window of a minute is closed, too");
    }

    async fn a_reset_finds_the_running_windows_of_every_period(world: World) {
        world.clock.set(at("2026-03-16T12:34:56Z"));
        let periods = [Period::Minute, Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year, Period::Lifetime];
        let names = ["minute", "hour", "day", "week", "month", "year", "lifetime"];
        let limits: Vec<Limit> = periods.into_iter().zip(names).map(|(period, name)| every(period, 100).named(name)).collect();
        world.tenant_with("acme", &limits).await;
        for _ in 0..3 {
            world.record("acme").tokens(5).await.expect("it is recorded");
            world.clock.advance(MINUTE);
        }
        let reset = world.reset_only("acme", &[], &names).await.expect("it is reset");
        // The last minute is over, so its counter stays.
        assert_eq!(reset.adjusted, [-15; 6]);
        for name in &names[1..] {
            assert_eq!(world.figures("acme", name).await, (0, 0), "{name}");
        }
        world.verify().await;
    }

    async fn a_limit_is_returned_with_the_anchors_that_it_has(world: World) {
        world.declare("tokens").await;
        let given = Limit {
            anchor_weekday: 7,
            anchor_minute: 360,
            origin_date: "2026-01-05".into(),
            enforcement: Enforcement::Hard.into(),
            anchor: Anchor::Limit.into(),
            ..every(Period::Week, 10).interval(2)
        };
        let made = world.plan("biweekly", std::slice::from_ref(&given)).await.expect("the plan is new");
        assert_eq!(made.limits, [given]);
        let no = world.plan("wrong", &[Limit { anchor_weekday: 8, ..every(Period::Week, 1) }]).await;
        let no = no.expect_err("a week has seven days");
        no.names(&["plan.limits[0].anchor_weekday"]);
    }
}
