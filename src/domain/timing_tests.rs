use proptest::prelude::*;

use super::*;
use crate::domain::window::{Anchors, Window};

const DAY: Span = Span::days(1);

fn day(number: i64) -> Time {
    Time::EPOCH + Span::days(number)
}

fn calendar(since: Time, zone: Tz, anchor_time: Time) -> TenantCalendar {
    TenantCalendar { since, zone, anchor_time }
}

fn months_from(anchor_day: i32) -> Recurrence {
    let anchors = Anchors { anchor_day, ..Anchors::default() };
    Recurrence::OfLimit(Cycle::new(Period::Month, &anchors).expect("a day of the month"))
}

#[test]
fn each_change_of_limit_or_tenant_begins_an_entry() {
    let of_tenant = Recurrence::OfTenant { period: Period::Month, interval: 1 };
    let past = vec![
        PastRecurrence { until: day(10), recurrence: months_from(1) },
        PastRecurrence { until: day(30), recurrence: months_from(2) },
    ];
    let timing = Timing { present: of_tenant, past };
    let calendars = [
        calendar(day(5), Tz::UTC, day(3)),
        calendar(day(20), Tz::Asia__Tokyo, day(3)),
        calendar(day(30), Tz::UTC, day(3)),
        calendar(day(40), Tz::UTC, day(6)),
    ];
    let Recurrence::OfLimit(first) = months_from(1) else { panic!("it is a limit's") };
    let Recurrence::OfLimit(second) = months_from(2) else { panic!("it is a limit's") };
    let want = [
        (Time::MIN, Tz::UTC, first),
        (day(10), Tz::UTC, second),
        (day(20), Tz::Asia__Tokyo, second),
        (day(30), Tz::UTC, of_tenant.cycle(&calendars[2])),
        (day(40), Tz::UTC, of_tenant.cycle(&calendars[3])),
    ];
    let found: Vec<_> = timing.history(&calendars).iter().map(|e| (e.since, e.zone, e.cycle)).collect();
    assert_eq!(found, want);
}

#[test]
fn a_change_that_a_limit_does_not_see_begins_no_entry() {
    let calendars = [
        calendar(day(0), Tz::UTC, day(3)),
        calendar(day(20), Tz::UTC, day(4)),
        calendar(day(30), Tz::Asia__Tokyo, day(4)),
    ];
    // A limit with anchors of its own sees the zone only, and minutes are those of UTC.
    assert_eq!(Timing::from(months_from(1)).history(&calendars).len(), 2);
    assert_eq!(Timing::from(Cycle::plain(Period::Minute)).history(&calendars).len(), 1);
    assert_eq!(Timing::from(Cycle::plain(Period::Lifetime)).history(&calendars).len(), 1);
    assert_eq!(METER.window(&calendars, day(50)).window, Window::ENDLESS);
}

#[test]
fn a_counter_is_read_in_the_windows_that_its_timing_has() {
    let calendars = [calendar(day(0), Tz::UTC, day(0))];
    let (Recurrence::OfLimit(old), Recurrence::OfLimit(new)) = (months_from(1), months_from(15)) else {
        panic!("both are of limits")
    };
    let timing = Timing::from(old).changed(months_from(15), day(40)).expect("the first change");
    // 1 February, 1 March until 15 April, 15 April.
    let windows = [(old, day(31), true), (new, day(104), true)];
    let others = [(old, day(59), false), (new, day(45), false), (new, day(59), false), (new, day(73), false)];
    for (cycle, start, want) in windows.into_iter().chain(others) {
        assert_eq!(timing.has_window(&calendars, cycle, start), want, "{cycle:?} {start:?}");
    }
    // The window in between is none that a limit without a history has.
    let between = timing.window(&calendars, day(60));
    assert_eq!((between.window.start, between.window.end), (day(59), day(104)));
    assert!(timing.has_window(&calendars, between.cycle, day(59)));
    for plain in [old, new] {
        assert!(!Timing::from(plain).has_window(&calendars, between.cycle, day(59)));
    }
    // A change that leaves the boundaries as they were makes no such window.
    let back = timing.changed(months_from(1), day(45)).expect("the second change");
    assert_eq!(back.window(&calendars, day(60)), Timing::from(old).window(&calendars, day(60)));
}

#[test]
fn the_twentieth_change_of_a_limit_waits_until_windows_need_the_oldest_no_more() {
    let mut timing = Timing::from(months_from(1));
    let mut now = day(1_000);
    for number in 0..19 {
        timing = timing.changed(months_from(2 + number % 2), now).expect("there is room");
        now = now + DAY;
    }
    let full = timing.clone().changed(months_from(5), now).expect_err("20 recurrences are kept");
    // The last change was on day 1,018.
    assert_eq!(full.until, day(1_018) + Span::hours(24 * 30 * 25 / 8) + Span::days(1 + 35));
    assert!(timing.clone().changed(timing.present, now).is_ok(), "nothing changes");
    assert!(timing.clone().changed(months_from(5), full.until.saturating_sub(Span::MILLISECOND)).is_err());
    let changed = timing.clone().changed(months_from(5), full.until).expect("the oldest is dropped");
    assert_eq!((changed.past.len(), changed.past[0].recurrence), (1, timing.present));
}

#[test]
fn the_twentieth_change_of_a_zone_waits_for_the_longest_window_of_the_plan() {
    let zones = [Tz::Asia__Tokyo, Tz::UTC];
    let (days, weeks) = (Timing::from(Cycle::plain(Period::Day)), Timing::from(Cycle::plain(Period::Week)));
    let lifetime = Timing::from(Cycle::plain(Period::Lifetime));
    let limits = || [&days, &weeks, &lifetime].into_iter();
    let mut calendars = vec![calendar(day(0), Tz::UTC, day(0))];
    let mut now = day(1_000);
    for number in 0..19 {
        let next = calendar(Time::EPOCH, zones[number % 2], day(0));
        calendars = changed_calendars(&calendars, next, limits(), now).expect("there is room");
        now = now + Span::minutes(3);
    }
    let next = calendar(Time::EPOCH, Tz::Asia__Tokyo, day(0));
    let full = changed_calendars(&calendars, next, limits(), now).expect_err("20 calendars are kept");
    assert_eq!(
        full.until,
        day(1_000) + Span::minutes(54) + Span::hours(7 * 24 * 25 / 8) + Span::days(1 + 35)
    );
    let text = full.to_string();
    assert!(text.starts_with("must not change again before 1972-11-23T21:54:00Z, because windows"), "{text}");
    let changed = changed_calendars(&calendars, next, limits(), full.until).expect("the oldest is dropped");
    assert_eq!((changed.len(), changed[0].since), (2, calendars[19].since));
}

proptest! {
    #[test]
    fn what_a_full_history_drops_changes_no_window_that_is_needed(
        changes in prop::collection::vec((1..=28, prop::option::of(0..200_i64)), 40..60),
        zones in prop::collection::vec(prop::sample::select(&chrono_tz::TZ_VARIANTS[..]), 1..3),
    ) {
        let calendars: Vec<_> =
            (0..).zip(zones).map(|(number, zone)| calendar(day(700 * number), zone, day(0))).collect();
        let mut kept = Timing::from(months_from(1));
        let mut all = kept.clone();
        let mut now = day(0);
        for (anchor_day, pause) in changes {
            // Without a pause, the change comes one day after the start of the next window, which makes a chain.
            now = pause.map_or(all.window(&calendars, now).window.end + DAY, |pause| now + Span::days(pause));
            let present = months_from(anchor_day);
            let Ok(timing) = kept.clone().changed(present, now) else { continue };
            kept = timing;
            if present != all.present {
                all.past.push(PastRecurrence { until: now, recurrence: all.present });
                all.present = present;
            }
            for days in [-35, -20, 0, 10, 20, 40, 90, 300] {
                let at = now + Span::days(days);
                prop_assert_eq!(kept.window(&calendars, at), all.window(&calendars, at), "{:?}", at);
            }
        }
        prop_assert!(kept.past.len() < HISTORY_MAX);
    }
}
