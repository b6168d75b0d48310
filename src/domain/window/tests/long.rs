//! Claims about weeks, months and years.

use super::*;

#[test]
fn a_week_begins_on_its_weekday() {
    // 1 July 2026 was a Wednesday.
    let starts = [
        (1, "2026-06-29T00:00Z", "2026-07-06T00:00Z"),
        (2, "2026-06-30T00:00Z", "2026-07-07T00:00Z"),
        (3, "2026-07-01T00:00Z", "2026-07-08T00:00Z"),
        (4, "2026-06-25T00:00Z", "2026-07-02T00:00Z"),
        (5, "2026-06-26T00:00Z", "2026-07-03T00:00Z"),
        (6, "2026-06-27T00:00Z", "2026-07-04T00:00Z"),
        (7, "2026-06-28T00:00Z", "2026-07-05T00:00Z"),
    ];
    for (weekday, start, end) in starts {
        check("UTC", weeks_from(weekday), &[("2026-07-01T12:00Z", start, end), (start, start, end)]);
    }
    assert_eq!(weeks_from(0), weeks_from(1), "Monday by default");
    assert_eq!(weeks_from(0), Cycle::plain(Period::Week));
}

#[test]
fn weeks_run_on_over_years_and_changes_of_the_clock() {
    let mondays = weeks_from(1);
    check(
        "Europe/Berlin",
        mondays,
        &[
            ("2026-01-01T00:00+01", "2025-12-29T00:00+01", "2026-01-05T00:00+01"),
            ("2026-03-29T12:00+02", "2026-03-23T00:00+01", "2026-03-30T00:00+02"),
            ("2026-10-25T12:00+01", "2026-10-19T00:00+02", "2026-10-26T00:00+01"),
        ],
    );
    check("UTC", mondays, &[("1969-12-31T12:00Z", "1969-12-29T00:00Z", "1970-01-05T00:00Z")]);
    check("UTC", weeks_from(7), &[("2027-01-01T00:00Z", "2026-12-27T00:00Z", "2027-01-03T00:00Z")]);
    let at_six = cycle(Period::Week, Anchors { anchor_weekday: 1, anchor_minute: 360, ..NO_ANCHORS });
    check(
        "America/New_York",
        at_six,
        &[
            ("2024-03-11T05:59-04", "2024-03-04T06:00-05", "2024-03-11T06:00-04"),
            ("2024-03-11T06:00-04", "2024-03-11T06:00-04", "2024-03-18T06:00-04"),
        ],
    );
}

#[test]
fn several_weeks_are_counted_from_the_week_in_which_the_origin_lies() {
    check(
        "UTC",
        cycle(Period::Week, every(2)),
        &[
            ("1970-01-05T00:00Z", "1970-01-05T00:00Z", "1970-01-19T00:00Z"),
            ("1970-01-04T23:59Z", "1969-12-22T00:00Z", "1970-01-05T00:00Z"),
        ],
    );
    // 7 January 2026 was a Wednesday, in the week of Monday the 5th.
    let two = cycle(Period::Week, Anchors { origin_date: "2026-01-07", ..every(2) });
    check(
        "UTC",
        two,
        &[
            ("2026-01-07T00:00Z", "2026-01-05T00:00Z", "2026-01-19T00:00Z"),
            ("2026-01-04T00:00Z", "2025-12-22T00:00Z", "2026-01-05T00:00Z"),
        ],
    );
    // If weeks begin on Thursdays, it lies in the week of Thursday the 1st.
    let thursdays = Anchors { anchor_weekday: 4, origin_date: "2026-01-07", ..every(2) };
    let thursdays = cycle(Period::Week, thursdays);
    check("UTC", thursdays, &[("2026-01-07T00:00Z", "2026-01-01T00:00Z", "2026-01-15T00:00Z")]);
    // 1970-01-05, the default, lies in the week of Wednesday 1969-12-31.
    let wednesdays = cycle(Period::Week, Anchors { anchor_weekday: 3, ..every(2) });
    check("UTC", wednesdays, &[("1970-01-05T00:00Z", "1969-12-31T00:00Z", "1970-01-14T00:00Z")]);
    let four = cycle(Period::Week, Anchors { origin_date: "2026-03-09", ..every(4) });
    check("Europe/Berlin", four, &[("2026-04-01T00:00+02", "2026-03-09T00:00+01", "2026-04-06T00:00+02")]);
}

#[test]
fn a_month_begins_on_its_anchor_day_or_on_its_last_and_does_not_drift() {
    let rows = [
        (1, "2026-02-14T00:00Z", "2026-02-01T00:00Z", "2026-03-01T00:00Z"),
        (15, "2026-01-14T23:59:59Z", "2025-12-15T00:00Z", "2026-01-15T00:00Z"),
        (31, "2026-01-31T00:00Z", "2026-01-31T00:00Z", "2026-02-28T00:00Z"),
        (31, "2026-02-28T00:00Z", "2026-02-28T00:00Z", "2026-03-31T00:00Z"),
        (31, "2026-03-30T23:59:59Z", "2026-02-28T00:00Z", "2026-03-31T00:00Z"),
        (31, "2026-04-29T00:00Z", "2026-03-31T00:00Z", "2026-04-30T00:00Z"),
        (30, "2026-02-28T00:00Z", "2026-02-28T00:00Z", "2026-03-30T00:00Z"),
        (30, "2028-03-01T00:00Z", "2028-02-29T00:00Z", "2028-03-30T00:00Z"),
        (29, "2026-03-01T00:00Z", "2026-02-28T00:00Z", "2026-03-29T00:00Z"),
        (29, "2028-02-29T00:00Z", "2028-02-29T00:00Z", "2028-03-29T00:00Z"),
        (29, "2100-03-01T00:00Z", "2100-02-28T00:00Z", "2100-03-29T00:00Z"),
        (31, "1969-02-28T00:00Z", "1969-02-28T00:00Z", "1969-03-31T00:00Z"),
    ];
    for (day, at, start, end) in rows {
        check("UTC", months_from(day), &[(at, start, end)]);
    }
    let berlin = [("2024-03-15T00:00Z", "2024-03-01T00:00+01", "2024-04-01T00:00+02")];
    check("Europe/Berlin", months_from(1), &berlin);
    assert_eq!(months_from(0), months_from(1), "the first by default");
}

#[test]
fn a_month_may_begin_at_a_minute_that_is_missing_or_exists_twice() {
    let anchors = Anchors { anchor_day: 29, anchor_minute: 150, ..NO_ANCHORS };
    let month = cycle(Period::Month, anchors);
    check("Europe/Berlin", month, &[("2026-04-01T00:00Z", "2026-03-29T03:00+02", "2026-04-29T02:30+02")]);
    let month = cycle(Period::Month, Anchors { anchor_day: 25, ..anchors });
    check(
        "Europe/Berlin",
        month,
        &[
            ("2026-10-25T02:30+01", "2026-10-25T02:30+02", "2026-11-25T02:30+01"),
            ("2026-10-25T02:29+02", "2026-09-25T02:30+02", "2026-10-25T02:30+02"),
        ],
    );
}

#[test]
fn several_months_are_counted_from_the_month_of_the_origin() {
    let quarters = cycle(Period::Month, every(3));
    check(
        "UTC",
        quarters,
        &[
            ("2026-01-01T00:00Z", "2026-01-01T00:00Z", "2026-04-01T00:00Z"),
            ("2026-06-30T23:59Z", "2026-04-01T00:00Z", "2026-07-01T00:00Z"),
            ("2026-12-31T23:59Z", "2026-10-01T00:00Z", "2027-01-01T00:00Z"),
            ("1969-11-15T00:00Z", "1969-10-01T00:00Z", "1970-01-01T00:00Z"),
        ],
    );
    check("Europe/Berlin", quarters, &[("2026-02-01T00:00Z", "2026-01-01T00:00+01", "2026-04-01T00:00+02")]);
    let fiscal = Anchors { anchor_day: 31, origin_date: "2026-11-01", ..every(3) };
    let fiscal = cycle(Period::Month, fiscal);
    check(
        "UTC",
        fiscal,
        &[
            ("2026-11-30T00:00Z", "2026-11-30T00:00Z", "2027-02-28T00:00Z"),
            ("2027-03-15T00:00Z", "2027-02-28T00:00Z", "2027-05-31T00:00Z"),
            ("2026-11-29T00:00Z", "2026-08-31T00:00Z", "2026-11-30T00:00Z"),
        ],
    );
    // The day of the origin does not count, only its month.
    let other_day = Anchors { anchor_day: 31, origin_date: "2026-11-30", ..every(3) };
    assert_eq!(cycle(Period::Month, other_day), fiscal);
    let decade = cycle(Period::Month, Anchors { origin_date: "2021-06-01", ..every(120) });
    check("UTC", decade, &[("2031-05-31T00:00Z", "2021-06-01T00:00Z", "2031-06-01T00:00Z")]);
}

#[test]
fn a_year_begins_on_its_month_and_day() {
    let calendar_year = Cycle::plain(Period::Year);
    check(
        "America/New_York",
        calendar_year,
        &[
            ("2026-12-31T23:59-05", "2026-01-01T00:00-05", "2027-01-01T00:00-05"),
            ("2026-01-01T00:00-05", "2026-01-01T00:00-05", "2027-01-01T00:00-05"),
        ],
    );
    check("UTC", calendar_year, &[("1969-06-01T00:00Z", "1969-01-01T00:00Z", "1970-01-01T00:00Z")]);
    let april = years_from(4, 6);
    check("Europe/London", april, &[("2026-04-05T23:59+01", "2025-04-06T00:00+01", "2026-04-06T00:00+01")]);
    // In 2025, 30 March was the day on which the clock changed.
    let march = years_from(3, 30);
    check("Europe/London", march, &[("2025-06-01T00:00Z", "2025-03-30T00:00Z", "2026-03-30T00:00+01")]);
    assert_eq!(years_from(0, 0), calendar_year, "1 January by default");
}

#[test]
fn a_year_from_29_february_begins_on_the_28th_if_there_is_no_29th() {
    check(
        "UTC",
        years_from(2, 29),
        &[
            ("2028-02-29T00:00Z", "2028-02-29T00:00Z", "2029-02-28T00:00Z"),
            ("2028-02-28T23:59Z", "2027-02-28T00:00Z", "2028-02-29T00:00Z"),
            ("2030-01-01T00:00Z", "2029-02-28T00:00Z", "2030-02-28T00:00Z"),
            ("2032-02-28T23:59Z", "2031-02-28T00:00Z", "2032-02-29T00:00Z"),
            ("2100-02-28T00:00Z", "2100-02-28T00:00Z", "2101-02-28T00:00Z"),
            ("2000-02-29T00:00Z", "2000-02-29T00:00Z", "2001-02-28T00:00Z"),
        ],
    );
    check("UTC", years_from(4, 31), &[("2026-04-30T00:00Z", "2026-04-30T00:00Z", "2027-04-30T00:00Z")]);
}

#[test]
fn several_years_are_counted_from_the_year_of_the_origin() {
    let two = cycle(Period::Year, every(2));
    check("UTC", two, &[("2027-06-01T00:00Z", "2026-01-01T00:00Z", "2028-01-01T00:00Z")]);
    let anchors = Anchors { anchor_month: 7, anchor_day: 1, origin_date: "2025-12-31", ..every(2) };
    check(
        "UTC",
        cycle(Period::Year, anchors),
        &[
            ("2025-07-01T00:00Z", "2025-07-01T00:00Z", "2027-07-01T00:00Z"),
            ("2025-06-30T00:00Z", "2023-07-01T00:00Z", "2025-07-01T00:00Z"),
        ],
    );
    let leap = Anchors { anchor_month: 2, anchor_day: 29, origin_date: "2024-01-01", ..every(4) };
    check(
        "UTC",
        cycle(Period::Year, leap),
        &[
            ("2027-12-31T00:00Z", "2024-02-29T00:00Z", "2028-02-29T00:00Z"),
            ("2098-01-01T00:00Z", "2096-02-29T00:00Z", "2100-02-28T00:00Z"),
        ],
    );
    let century = cycle(Period::Year, Anchors { origin_date: "2001-01-01", ..every(100) });
    check("UTC", century, &[("2100-12-31T23:59Z", "2001-01-01T00:00Z", "2101-01-01T00:00Z")]);
}
