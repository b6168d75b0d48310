//! Claims about changes of zones and anchors: the running window ends when it would have ended, and the next one is
//! at least half a period long.

use super::{
    super::{Entry, window_in},
    *,
};

/// Calendars, and since when: local time with its offset, zone, cycle.
type Calendars<'a> = &'a [(&'a str, &'a str, Cycle)];

fn entries(calendars: Calendars) -> Vec<Entry> {
    let entry = |&(since, zone, cycle): &(&str, &str, Cycle)| Entry {
        since: time(since),
        zone: zone.parse().unwrap(),
        cycle,
    };
    calendars.iter().map(entry).collect()
}

/// Checks that the windows from the first of these instants to the last one begin at each of them.
#[track_caller]
fn check(calendars: Calendars, begins: &[&str]) {
    let history = entries(calendars);
    for pair in begins.windows(2) {
        let want = Window { start: time(pair[0]), end: time(pair[1]) };
        for at in [want.start, want.start + Span((want.end - want.start).0 / 2), just_before(want.end)] {
            let window = window_in(&history, at).window;
            assert_eq!(window, want, "{pair:?}, but it is {}", shown(window));
        }
    }
}

const LONG_AGO: &str = "2020-01-01T00:00Z";

#[test]
fn a_new_anchor_day_less_than_half_a_month_after_the_running_month_is_passed_over() {
    let calendars = [(LONG_AGO, "UTC", months_from(1)), ("2026-03-10T12:00Z", "UTC", months_from(15))];
    check(
        &calendars,
        &[
            "2026-02-01T00:00Z",
            "2026-03-01T00:00Z",
            "2026-04-01T00:00Z",
            "2026-05-15T00:00Z",
            "2026-06-15T00:00Z",
        ],
    );
}

#[test]
fn a_new_anchor_day_at_least_half_a_month_after_the_running_month_begins_the_window_after_it() {
    let rows = [
        // 15 days are half a month, to the instant.
        (1, 16, ["2026-03-01T00:00Z", "2026-04-01T00:00Z", "2026-04-16T00:00Z", "2026-05-16T00:00Z"]),
        (1, 31, ["2026-03-01T00:00Z", "2026-04-01T00:00Z", "2026-04-30T00:00Z", "2026-05-31T00:00Z"]),
        (15, 1, ["2026-02-15T00:00Z", "2026-03-15T00:00Z", "2026-04-01T00:00Z", "2026-05-01T00:00Z"]),
        (31, 1, ["2026-02-28T00:00Z", "2026-03-31T00:00Z", "2026-05-01T00:00Z", "2026-06-01T00:00Z"]),
        (31, 30, ["2026-02-28T00:00Z", "2026-03-31T00:00Z", "2026-04-30T00:00Z", "2026-05-30T00:00Z"]),
    ];
    for (before, after, begins) in rows {
        let change = ("2026-03-10T12:00Z", "UTC", months_from(after));
        check(&[(LONG_AGO, "UTC", months_from(before)), change], &begins);
    }
}

#[test]
fn of_several_changes_in_one_window_only_the_last_one_counts() {
    let (first, fifteenth, last) = (months_from(1), months_from(15), months_from(31));
    let forth = ("2026-03-10T12:00Z", "UTC", fifteenth);
    check(
        &[(LONG_AGO, "UTC", first), forth, ("2026-03-20T12:00Z", "UTC", first)],
        &["2026-03-01T00:00Z", "2026-04-01T00:00Z", "2026-05-01T00:00Z"],
    );
    check(
        &[(LONG_AGO, "UTC", first), forth, ("2026-03-10T12:00Z", "UTC", last)],
        &["2026-03-01T00:00Z", "2026-04-01T00:00Z", "2026-04-30T00:00Z", "2026-05-31T00:00Z"],
    );
}

#[test]
fn a_change_back_in_the_next_window_keeps_that_window_too() {
    check(
        &[
            (LONG_AGO, "UTC", months_from(1)),
            ("2026-03-10T12:00Z", "UTC", months_from(15)),
            ("2026-04-20T12:00Z", "UTC", months_from(1)),
        ],
        &[
            "2026-03-01T00:00Z",
            "2026-04-01T00:00Z",
            "2026-05-15T00:00Z",
            "2026-06-01T00:00Z",
            "2026-07-01T00:00Z",
        ],
    );
}

#[test]
fn a_change_at_the_first_instant_of_a_window_keeps_that_window_and_one_before_it_does_not() {
    let months = |since| [(LONG_AGO, "UTC", months_from(1)), (since, "UTC", months_from(20))];
    check(
        &months("2026-04-01T00:00Z"),
        &["2026-03-01T00:00Z", "2026-04-01T00:00Z", "2026-05-01T00:00Z", "2026-05-20T00:00Z"],
    );
    check(
        &months("2026-03-31T23:59:59.999Z"),
        &["2026-03-01T00:00Z", "2026-04-01T00:00Z", "2026-04-20T00:00Z", "2026-05-20T00:00Z"],
    );
}

#[test]
fn a_change_at_the_end_of_a_window_in_which_there_was_another_change_counts_from_the_next_end() {
    check(
        &[
            (LONG_AGO, "UTC", months_from(1)),
            ("2026-03-10T12:00Z", "UTC", months_from(20)),
            ("2026-04-01T00:00Z", "UTC", months_from(10)),
        ],
        &[
            "2026-03-01T00:00Z",
            "2026-04-01T00:00Z",
            "2026-04-20T00:00Z",
            "2026-05-10T00:00Z",
            "2026-06-10T00:00Z",
        ],
    );
}

#[test]
fn a_zone_in_the_west_makes_the_next_day_longer() {
    let day = Cycle::plain(Period::Day);
    check(
        &[(LONG_AGO, "Europe/Berlin", day), ("2026-07-10T12:00+02", "America/New_York", day)],
        &["2026-07-10T00:00+02", "2026-07-11T00:00+02", "2026-07-12T00:00-04", "2026-07-13T00:00-04"],
    );
    // Not a second April of six hours later.
    let month = months_from(1);
    check(
        &[(LONG_AGO, "Europe/Berlin", month), ("2026-03-10T12:00+01", "America/New_York", month)],
        &["2026-03-01T00:00+01", "2026-04-01T00:00+02", "2026-05-01T00:00-04", "2026-06-01T00:00-04"],
    );
}

#[test]
fn a_zone_in_the_east_makes_the_next_day_shorter_but_not_by_more_than_half() {
    let day = Cycle::plain(Period::Day);
    check(
        &[(LONG_AGO, "Europe/Berlin", day), ("2026-07-10T12:00+02", "Asia/Tokyo", day)],
        &["2026-07-10T00:00+02", "2026-07-11T00:00+02", "2026-07-12T00:00+09", "2026-07-13T00:00+09"],
    );
    // The next midnight is exactly half a day away, and an hour less.
    check(
        &[(LONG_AGO, "UTC", day), ("2026-07-10T12:00Z", "Etc/GMT-12", day)],
        &["2026-07-10T00:00Z", "2026-07-11T00:00Z", "2026-07-12T00:00+12", "2026-07-13T00:00+12"],
    );
    check(
        &[(LONG_AGO, "UTC", day), ("2026-07-10T12:00Z", "Etc/GMT-13", day)],
        &["2026-07-10T00:00Z", "2026-07-11T00:00Z", "2026-07-13T00:00+13", "2026-07-14T00:00+13"],
    );
}

#[test]
fn a_zone_on_the_other_side_of_the_date_line_moves_the_next_midnight_by_an_hour() {
    let day = Cycle::plain(Period::Day);
    check(
        &[(LONG_AGO, "Pacific/Pago_Pago", day), ("2026-07-10T12:00-11", "Pacific/Kiritimati", day)],
        &["2026-07-10T00:00-11", "2026-07-11T00:00-11", "2026-07-13T00:00+14", "2026-07-14T00:00+14"],
    );
    check(
        &[(LONG_AGO, "Pacific/Kiritimati", day), ("2026-07-10T12:00+14", "Pacific/Pago_Pago", day)],
        &["2026-07-10T00:00+14", "2026-07-11T00:00+14", "2026-07-11T00:00-11", "2026-07-12T00:00-11"],
    );
}

#[test]
fn a_tenant_that_travels_never_has_a_day_of_less_than_12_hours() {
    let day = Cycle::plain(Period::Day);
    check(
        &[
            (LONG_AGO, "Europe/Berlin", day),
            ("2026-07-10T12:00+02", "America/New_York", day),
            ("2026-07-11T12:00-04", "Asia/Tokyo", day),
            ("2026-07-12T20:00-04", "Europe/Berlin", day),
        ],
        &[
            "2026-07-10T00:00+02",
            "2026-07-11T00:00+02",
            "2026-07-12T00:00-04",
            // Midnight in New York is 13:00 in Tokyo, from where it is 11 hours to midnight.
            "2026-07-14T00:00+09",
            "2026-07-15T00:00+02",
            "2026-07-16T00:00+02",
        ],
    );
}

#[test]
fn a_change_on_a_day_with_23_or_25_hours_counts_real_hours() {
    // 2026-03-29 has 23 hours in Berlin. From its end it is 11 hours to noon, and then 12.
    let (midnight, noon) = (Cycle::plain(Period::Day), days_from(12, 0));
    check(
        &[(LONG_AGO, "Europe/Berlin", midnight), ("2026-03-28T12:00+01", "Europe/Berlin", noon)],
        &["2026-03-28T00:00+01", "2026-03-29T00:00+01", "2026-03-30T12:00+02", "2026-03-31T12:00+02"],
    );
    check(
        &[(LONG_AGO, "Europe/Berlin", midnight), ("2026-10-24T12:00+02", "Europe/Berlin", noon)],
        &["2026-10-24T00:00+02", "2026-10-25T00:00+02", "2026-10-25T12:00+01", "2026-10-26T12:00+01"],
    );
}

#[test]
fn a_change_of_the_minute_or_the_weekday_is_a_change_of_an_anchor() {
    let (midnight, four, noon) = (Cycle::plain(Period::Day), days_from(4, 0), days_from(12, 0));
    let change = |cycle| [(LONG_AGO, "UTC", midnight), ("2026-07-10T12:00Z", "UTC", cycle)];
    check(
        &change(four),
        &["2026-07-10T00:00Z", "2026-07-11T00:00Z", "2026-07-12T04:00Z", "2026-07-13T04:00Z"],
    );
    check(
        &change(noon),
        &["2026-07-10T00:00Z", "2026-07-11T00:00Z", "2026-07-11T12:00Z", "2026-07-12T12:00Z"],
    );
    // 6 July 2026 was a Monday. Thursday is three days later, and Friday four.
    let change = |day| [(LONG_AGO, "UTC", weeks_from(1)), ("2026-07-08T12:00Z", "UTC", weeks_from(day))];
    check(&change(4), &["2026-07-06T00:00Z", "2026-07-13T00:00Z", "2026-07-23T00:00Z", "2026-07-30T00:00Z"]);
    check(&change(5), &["2026-07-06T00:00Z", "2026-07-13T00:00Z", "2026-07-17T00:00Z", "2026-07-24T00:00Z"]);
}

#[test]
fn half_a_year_is_182_days_and_a_half() {
    let change = |month, day| {
        [(LONG_AGO, "UTC", Cycle::plain(Period::Year)), ("2026-03-01T00:00Z", "UTC", years_from(month, day))]
    };
    check(
        &change(7, 2),
        &["2026-01-01T00:00Z", "2027-01-01T00:00Z", "2028-07-02T00:00Z", "2029-07-02T00:00Z"],
    );
    check(
        &change(7, 3),
        &["2026-01-01T00:00Z", "2027-01-01T00:00Z", "2027-07-03T00:00Z", "2028-07-03T00:00Z"],
    );
}

#[test]
fn a_change_of_the_interval_waits_for_the_running_window_and_then_for_half_a_new_one() {
    let (one, three) = (Cycle::plain(Period::Month), cycle(Period::Month, every(3)));
    // From 1 March it is 31 days to the quarter, and then 122.
    check(
        &[(LONG_AGO, "UTC", one), ("2026-02-10T00:00Z", "UTC", three)],
        &["2026-02-01T00:00Z", "2026-03-01T00:00Z", "2026-07-01T00:00Z", "2026-10-01T00:00Z"],
    );
    check(
        &[(LONG_AGO, "UTC", three), ("2026-02-10T00:00Z", "UTC", one)],
        &["2026-01-01T00:00Z", "2026-04-01T00:00Z", "2026-05-01T00:00Z", "2026-06-01T00:00Z"],
    );
}

#[test]
fn minutes_and_hours_do_not_depend_on_the_zone_but_on_the_origin() {
    let six = cycle(Period::Hour, every(6));
    check(
        &[(LONG_AGO, "Europe/Berlin", six), ("2026-07-10T13:00Z", "Asia/Kathmandu", six)],
        &["2026-07-10T06:00Z", "2026-07-10T12:00Z", "2026-07-10T18:00Z", "2026-07-11T00:00Z"],
    );
    let of = |began| Cycle::of_anchor_time(Period::Hour, 6, Tz::UTC, time(began));
    let change = |began| [(LONG_AGO, "UTC", six), ("2026-07-10T13:00Z", "UTC", of(began))];
    check(
        &change("2026-01-01T02:00Z"),
        &["2026-07-10T12:00Z", "2026-07-10T18:00Z", "2026-07-11T02:00Z", "2026-07-11T08:00Z"],
    );
    check(
        &change("2026-01-01T03:00Z"),
        &["2026-07-10T12:00Z", "2026-07-10T18:00Z", "2026-07-10T21:00Z", "2026-07-11T03:00Z"],
    );
}

#[test]
fn the_window_after_a_change_may_end_at_a_midnight_that_is_missing() {
    let day = Cycle::plain(Period::Day);
    check(
        &[(LONG_AGO, "UTC", day), ("2024-04-24T12:00Z", "Africa/Cairo", day)],
        &["2024-04-24T00:00Z", "2024-04-25T00:00Z", "2024-04-26T01:00+03", "2024-04-27T00:00+03"],
    );
}

#[test]
fn lifetime_has_one_window_whatever_changes() {
    let lifetime = Cycle::plain(Period::Lifetime);
    let history = entries(&[(LONG_AGO, "UTC", lifetime), ("2026-07-10T13:00Z", "Asia/Tokyo", lifetime)]);
    for at in [Time::MIN, Time::EPOCH, time("2026-07-10T13:00Z"), Time::NEVER] {
        assert_eq!(window_in(&history, at).window, Window::ENDLESS);
    }
}

#[test]
fn the_running_window_has_the_cycle_from_before_the_change_and_the_next_one_has_the_new_cycle() {
    let (first, fifteenth) = (months_from(1), months_from(15));
    let history = entries(&[(LONG_AGO, "UTC", first), ("2026-03-10T12:00Z", "UTC", fifteenth)]);
    let rows = [
        ("2026-03-01T00:00Z", first),
        ("2026-03-31T23:59Z", first),
        // It ends on 15 May, so it is none of the windows that always begin on the 15th.
        ("2026-04-01T00:00Z", fifteenth.of_transition()),
        ("2026-05-15T00:00Z", fifteenth),
    ];
    for (at, cycle) in rows {
        let found = window_in(&history, time(at)).cycle;
        assert_eq!(found, cycle, "{at}");
        let mut bytes = Vec::new();
        found.encode(&mut bytes);
        assert_eq!(Cycle::decode(&bytes), Some((found, &[][..])), "{at}");
    }
}

#[test]
fn changes_at_the_ends_of_the_calendar_leave_no_gap() {
    let day = Cycle::plain(Period::Day);
    for since in [Time::MIN, time("0001-01-01T00:00Z"), time("9999-12-31T12:00Z"), Time::NEVER] {
        let entry = |zone| Entry { since, zone, cycle: day };
        let history = [entry(Tz::UTC), entry(Tz::Asia__Tokyo), entry(Tz::America__New_York)];
        for at in [Time::MIN, since, time("2026-01-01T00:00Z"), Time::NEVER] {
            let window = window_in(&history, at).window;
            assert!(window.contains(at) && window.start < window.end, "{at:?}: {}", shown(window));
        }
    }
}
