//! R4.4, R4.5 and R4.6: windows, and holds whose deadline is after the end of their window.

use crate::harness::*;

both! {
    /// R4.4: a reservation keeps the window in which it was made.
    async fn a_hold_is_settled_in_the_month_in_which_it_was_made(world: World) {
        world.clock.set(at("2026-03-31T23:59:00Z"));
        world.tenant_with("acme", &[month("tokens", 1_000), day("tokens", 500)]).await;
        let hold = world.reserve("acme").tokens(100).ttl(HOUR).await.expect("there is quota");
        let left = world.reserve("acme").tokens(50).ttl(HOUR).await.expect("there is quota");
        let opened = hold.balance("month").clone();
        assert_eq!(millis(opened.window_end.as_ref()), Some(at("2026-04-01T00:00:00Z")));

        world.clock.set(at("2026-04-01T00:01:00Z"));
        for limit in ["month", "day"] {
            assert_eq!(world.figures("acme", limit).await, (0, 0), "a new window starts at zero");
        }
        // The quantity that Extend adds counts in the same window.
        let extended = world.extend(hold.name()).tokens(20).await.expect("there is quota");
        assert_eq!(extended.figures("month"), (0, 170));
        assert_eq!(extended.balance("month").window_start, opened.window_start);
        // The quota of the hold's window bounds the Extend, even if today's window has more quota left.
        let no = world.extend(hold.name()).tokens(331).await.expect_err("330 were left");
        no.is_quota(&["day"]);
        let settled = world.commit(hold.name()).tokens(90).await.expect("it is held");
        assert_eq!(settled.figures("month"), (90, 50));
        assert_eq!(settled.figures("day"), (90, 50));
        assert_eq!(settled.balance("month").window_start, opened.window_start);
        for limit in ["month", "day"] {
            assert_eq!(world.figures("acme", limit).await, (0, 0), "the new one is as it was");
        }
        let released = world.release(left.name()).await.expect("it is held");
        assert_eq!(released.figures("month"), (90, 0));
    }

    /// R4.5: when a new window begins is only computed; no job opens windows.
    async fn a_new_window_needs_no_job(world: World) {
        world.clock.set(at("2026-03-31T23:59:59.999Z"));
        world.tenant_with("acme", &[month("tokens", 100)]).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        world.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["month"]);
        world.clock.advance(1);
        let reply = world.reserve("acme").tokens(100).await.expect("the first instant of April");
        assert_eq!(reply.figures("month"), (0, 100));
        // A year passes without a call.
        world.clock.set(at("2027-04-15T00:00:00Z"));
        let reply = world.reserve("acme").tokens(100).await.expect("another April");
        assert_eq!(millis(reply.balance("month").window_start.as_ref()), Some(at("2027-04-01T00:00:00Z")));
    }

    /// R4.6. Each case: a time zone, an instant, and the start and the end of the day that contains the instant.
    async fn days_begin_at_midnight_in_the_time_zone_of_the_tenant(world: World) {
        let cases = [
            ("Asia/Tokyo", "2026-03-16T14:59:59Z", "2026-03-15T15:00:00Z", "2026-03-16T15:00:00Z"),
            ("Asia/Tokyo", "2026-03-16T15:00:00Z", "2026-03-16T15:00:00Z", "2026-03-17T15:00:00Z"),
            // Days with 23 and with 25 hours.
            ("Europe/Lisbon", "2026-03-29T12:00:00Z", "2026-03-29T00:00:00Z", "2026-03-29T23:00:00Z"),
            ("Europe/Lisbon", "2026-10-25T12:00:00Z", "2026-10-24T23:00:00Z", "2026-10-26T00:00:00Z"),
            ("America/New_York", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
            ("America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            // Midnight does not exist on this day, so the day begins at the first instant after midnight.
            ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
            ("Asia/Beirut", "2026-03-29T12:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"),
            // Havana sets the clock back from 01:00 to 00:00. So midnight exists twice, and the day begins at the
            // first.
            ("America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            ("America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            // Samoa had no 2011-12-30: the day before was followed by 2011-12-31.
            ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        ];
        for (number, (zone, now, start, end)) in cases.into_iter().enumerate() {
            world.clock.set(at(now));
            let tenant = format!("t{number}");
            world.tenant_in(&tenant, zone, &[day("tokens", 10)]).await;
            let reply = world.reserve(&tenant).tokens(10).ttl(HOUR).await.expect("there is quota");
            let balance = reply.balance("day");
            let window = (millis(balance.window_start.as_ref()), millis(balance.window_end.as_ref()));
            assert_eq!(window, (Some(at(start)), Some(at(end))), "{zone} at {now}");
            world.clock.set(at(end) - 1);
            world.record(&tenant).tokens(10).await.expect("it is recorded");
            world.reserve(&tenant).tokens(1).await.expect_err("the day runs").is_quota(&["day"]);
            world.clock.set(at(end));
            world.reserve(&tenant).tokens(10).await.expect("a new day");
        }
    }

    /// R4.6: anchor day 31 means the last day of shorter months, and the 31st of months that have 31 days.
    async fn months_that_begin_on_the_31st_do_not_drift(world: World) {
        world.clock.set(at("2027-12-31T00:00:00Z"));
        world.tenant_with("acme", &[month("tokens", 10).anchor(31)]).await;
        let starts = [
            "2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31", "2028-06-30",
            "2028-07-31", "2028-08-31", "2028-09-30", "2028-10-31", "2028-11-30", "2028-12-31", "2029-01-31",
            "2029-02-28", "2029-03-31",
        ];
        for pair in starts.windows(2) {
            let [start, end] = [0, 1].map(|index| at(&format!("{}T00:00:00Z", pair[index])));
            world.clock.set(start);
            let reply = world.reserve("acme").tokens(10).ttl(HOUR).await.expect("a new month");
            let balance = reply.balance("month");
            let window = (millis(balance.window_start.as_ref()), millis(balance.window_end.as_ref()));
            assert_eq!(window, (Some(start), Some(end)), "{pair:?}");
            world.commit(reply.name()).await.expect("it is held");
            world.clock.set(end - 1);
            world.reserve("acme").tokens(1).await.expect_err("the month runs").is_quota(&["month"]);
        }
    }

    async fn an_anchor_day_begins_in_the_time_zone_of_the_tenant(world: World) {
        world.clock.set(at("2026-03-14T23:30:00Z"));
        world.tenant_in("acme", "Europe/Berlin", &[month("tokens", 10).anchor(15)]).await;
        let usage = world.usage("acme").await;
        let window = usage.balance("month");
        assert_eq!(millis(window.window_start.as_ref()), Some(at("2026-03-14T23:00:00Z")));
        // Summer time begins before the end of the window.
        assert_eq!(millis(window.window_end.as_ref()), Some(at("2026-04-14T22:00:00Z")));
    }

    async fn a_late_commit_is_charged_to_the_window_of_its_hold(world: World) {
        world.clock.set(at("2026-03-31T23:00:00Z"));
        world.tenant_with("acme", &[month("tokens", 1_000)]).await;
        let plain = world.reserve("acme").tokens(100).ttl(HOUR).await.expect("there is quota");
        let charged = world.reserve("acme").tokens(100).ttl(2 * HOUR).charged_on_expiry();
        let charged = charged.await.expect("there is quota");
        world.clock.set(at("2026-04-02T00:00:00Z"));
        assert_eq!(world.figures("acme", "month").await, (0, 0), "April");
        let reply = world.commit(plain.name()).tokens(30).await.expect("it is kept");
        assert_eq!(reply.figures("month"), (130, 0), "March, with the charge");
        let reply = world.commit(charged.name()).tokens(40).await.expect("it is kept");
        assert_eq!(reply.figures("month"), (70, 0), "March");
        assert_eq!(world.figures("acme", "month").await, (0, 0), "April");
    }
}
