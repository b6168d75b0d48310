//! Claims about cycles that take their anchors from the instant at which a subscription began.

use super::*;

#[track_caller]
fn of(period: Period, interval: u16, zone: &str, instant: &str) -> Cycle {
    Cycle::of_anchor_time(period, interval, zone.parse().unwrap(), time(instant))
}

#[test]
fn all_anchors_are_those_of_local_time_when_the_subscription_began() {
    // In Tokyo it was Saturday, 31 January 2026, 08:15.
    let (zone, began) = ("Asia/Tokyo", "2026-01-30T23:15:59Z");
    let rows = [
        (Period::Day, "2026-07-01T08:14+09", "2026-06-30T08:15+09", "2026-07-01T08:15+09"),
        (Period::Week, "2026-02-07T08:14+09", "2026-01-31T08:15+09", "2026-02-07T08:15+09"),
        (Period::Month, "2026-02-28T08:15+09", "2026-02-28T08:15+09", "2026-03-31T08:15+09"),
        (Period::Year, "2027-01-31T08:14+09", "2026-01-31T08:15+09", "2027-01-31T08:15+09"),
        (Period::Minute, "2026-01-30T23:15:59Z", "2026-01-30T23:15Z", "2026-01-30T23:16Z"),
        (Period::Hour, "2026-01-31T00:14Z", "2026-01-30T23:15Z", "2026-01-31T00:15Z"),
    ];
    for (period, at, start, end) in rows {
        check(zone, of(period, 1, zone, began), &[(at, start, end)]);
    }
}

#[test]
fn intervals_are_counted_from_the_beginning_of_the_subscription() {
    let (zone, began) = ("America/New_York", "2026-02-17T21:40:07-05");
    let rows = [
        (Period::Minute, 45, "2026-02-17T22:24-05", "2026-02-17T21:40-05", "2026-02-17T22:25-05"),
        (Period::Hour, 5, "2026-02-18T02:39-05", "2026-02-17T21:40-05", "2026-02-18T02:40-05"),
        (Period::Day, 28, "2026-03-17T21:39-04", "2026-02-17T21:40-05", "2026-03-17T21:40-04"),
        (Period::Week, 2, "2026-03-03T21:39-05", "2026-02-17T21:40-05", "2026-03-03T21:40-05"),
        (Period::Month, 3, "2026-05-17T21:39-04", "2026-02-17T21:40-05", "2026-05-17T21:40-04"),
        (Period::Year, 2, "2028-02-17T21:39-05", "2026-02-17T21:40-05", "2028-02-17T21:40-05"),
    ];
    for (period, interval, at, start, end) in rows {
        check(zone, of(period, interval, zone, began), &[(began, start, end), (at, start, end)]);
    }
}

#[test]
fn a_subscription_that_began_in_the_second_pass_of_an_hour_has_the_anchors_of_the_first() {
    let (zone, began) = ("Europe/Berlin", "2026-10-25T02:30+01");
    let month = of(Period::Month, 1, zone, began);
    check(zone, month, &[(began, "2026-10-25T02:30+02", "2026-11-25T02:30+01")]);
    assert_eq!(month, of(Period::Month, 1, zone, "2026-10-25T02:30+02"));
}

#[test]
fn a_subscription_from_midnight_of_the_first_is_a_calendar_month() {
    let month = of(Period::Month, 1, "Europe/Berlin", "2026-03-01T00:00+01");
    assert_eq!(month, Cycle::plain(Period::Month));
    assert_eq!(of(Period::Lifetime, 1, "UTC", "2026-03-01T00:00Z"), Cycle::plain(Period::Lifetime));
}

#[test]
fn a_subscription_from_29_february_is_renewed_on_the_28th_of_common_years() {
    let year = of(Period::Year, 1, "UTC", "2024-02-29T12:00Z");
    check(
        "UTC",
        year,
        &[
            ("2025-02-28T12:00Z", "2025-02-28T12:00Z", "2026-02-28T12:00Z"),
            ("2028-02-29T11:59Z", "2027-02-28T12:00Z", "2028-02-29T12:00Z"),
        ],
    );
}
