//! Claims about minutes and hours, which are arithmetic in UTC.

use super::*;

#[test]
fn minutes_and_hours_follow_utc_in_every_zone() {
    for zone in ["UTC", "Asia/Kathmandu", "Pacific/Chatham", "Australia/Lord_Howe", "Pacific/Apia"] {
        let minute = Cycle::plain(Period::Minute);
        check(zone, minute, &[("2026-07-01T11:59:59.999Z", "2026-07-01T11:59Z", "2026-07-01T12:00Z")]);
        let hour = Cycle::plain(Period::Hour);
        check(
            zone,
            hour,
            &[
                ("2026-07-01T12:00Z", "2026-07-01T12:00Z", "2026-07-01T13:00Z"),
                ("2011-12-30T09:59Z", "2011-12-30T09:00Z", "2011-12-30T10:00Z"),
            ],
        );
    }
}

#[test]
fn an_hour_that_local_time_repeats_is_two_windows() {
    check(
        "Europe/Berlin",
        Cycle::plain(Period::Hour),
        &[
            ("2026-10-25T02:30+02", "2026-10-25T02:00+02", "2026-10-25T02:00+01"),
            ("2026-10-25T02:30+01", "2026-10-25T02:00+01", "2026-10-25T03:00+01"),
        ],
    );
}

#[test]
fn several_minutes_are_counted_from_midnight_utc_of_the_origin_and_run_on_over_midnight() {
    let quarter = cycle(Period::Minute, every(15));
    check(
        "UTC",
        quarter,
        &[
            ("2026-07-01T12:14:59.999Z", "2026-07-01T12:00Z", "2026-07-01T12:15Z"),
            ("2026-06-30T23:50Z", "2026-06-30T23:45Z", "2026-07-01T00:00Z"),
        ],
    );
    // 1,440 is no multiple of 7: the last window of the origin's day reaches into the next day.
    let seven = cycle(Period::Minute, Anchors { origin_date: "2026-07-01", ..every(7) });
    check(
        "Asia/Tokyo",
        seven,
        &[
            ("2026-07-01T00:00Z", "2026-07-01T00:00Z", "2026-07-01T00:07Z"),
            ("2026-07-02T00:01Z", "2026-07-01T23:55Z", "2026-07-02T00:02Z"),
            ("2026-06-30T23:59Z", "2026-06-30T23:53Z", "2026-07-01T00:00Z"),
        ],
    );
    let day = cycle(Period::Minute, every(1_440));
    check("Asia/Tokyo", day, &[("2026-07-01T12:00Z", "2026-07-01T00:00Z", "2026-07-02T00:00Z")]);
}

#[test]
fn several_hours_are_counted_from_midnight_utc_of_the_origin_and_run_on_over_midnight() {
    let five = cycle(Period::Hour, Anchors { origin_date: "2026-07-01", ..every(5) });
    check(
        "Europe/Berlin",
        five,
        &[
            ("2026-07-01T21:00Z", "2026-07-01T20:00Z", "2026-07-02T01:00Z"),
            ("2026-07-02T01:00Z", "2026-07-02T01:00Z", "2026-07-02T06:00Z"),
            ("2026-06-30T19:00Z", "2026-06-30T19:00Z", "2026-07-01T00:00Z"),
        ],
    );
    let by_default = cycle(Period::Hour, every(1_000));
    check("UTC", by_default, &[("1970-02-11T15:59Z", "1970-01-01T00:00Z", "1970-02-11T16:00Z")]);
}

#[test]
fn minutes_and_hours_before_1970_are_as_long_as_others() {
    let quarter = cycle(Period::Minute, every(15));
    check("UTC", quarter, &[("1969-12-31T23:59:59.999Z", "1969-12-31T23:45Z", "1970-01-01T00:00Z")]);
    let six = cycle(Period::Hour, every(6));
    check(
        "UTC",
        six,
        &[
            ("1969-12-31T17:59Z", "1969-12-31T12:00Z", "1969-12-31T18:00Z"),
            ("1900-01-01T00:00Z", "1900-01-01T00:00Z", "1900-01-01T06:00Z"),
        ],
    );
}
