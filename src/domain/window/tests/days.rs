//! Claims about days: clocks that change, midnights that are missing, and days that do not begin at midnight.

use super::*;

fn midnights() -> Cycle {
    Cycle::plain(Period::Day)
}

#[test]
fn a_day_runs_from_midnight_to_midnight() {
    let day = midnights();
    check(
        "UTC",
        day,
        &[
            ("2026-07-01T00:00Z", "2026-07-01T00:00Z", "2026-07-02T00:00Z"),
            ("2026-06-30T23:59:59.999Z", "2026-06-30T00:00Z", "2026-07-01T00:00Z"),
            ("1970-01-01T00:00Z", "1970-01-01T00:00Z", "1970-01-02T00:00Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T00:00Z", "1970-01-01T00:00Z"),
        ],
    );
    check("Asia/Tokyo", day, &[("2026-07-01T23:59+09", "2026-07-01T00:00+09", "2026-07-02T00:00+09")]);
    check("Asia/Kathmandu", day, &[("2026-07-01T00:00Z", "2026-07-01T00:00+0545", "2026-07-02T00:00+0545")]);
    check("Pacific/Kiritimati", day, &[("2026-07-01T10:00Z", "2026-07-02T00:00+14", "2026-07-03T00:00+14")]);
    check("Pacific/Pago_Pago", day, &[("2026-07-01T10:59Z", "2026-06-30T00:00-11", "2026-07-01T00:00-11")]);
}

#[test]
fn days_on_which_the_clock_changes_have_23_or_25_hours() {
    let day = midnights();
    check(
        "Europe/Berlin",
        day,
        &[
            ("2026-03-29T12:00+02", "2026-03-29T00:00+01", "2026-03-30T00:00+02"),
            ("2026-10-25T02:30+02", "2026-10-25T00:00+02", "2026-10-26T00:00+01"),
            ("2026-10-25T02:30+01", "2026-10-25T00:00+02", "2026-10-26T00:00+01"),
        ],
    );
    check(
        "America/New_York",
        day,
        &[
            ("2024-03-10T12:00-04", "2024-03-10T00:00-05", "2024-03-11T00:00-04"),
            ("2024-11-03T12:00-05", "2024-11-03T00:00-04", "2024-11-04T00:00-05"),
        ],
    );
}

#[test]
fn zones_that_move_their_clock_by_half_an_hour_or_are_45_minutes_off_keep_their_midnights() {
    let day = midnights();
    check(
        "Australia/Lord_Howe",
        day,
        &[
            ("2024-04-07T12:00+1030", "2024-04-07T00:00+11", "2024-04-08T00:00+1030"),
            ("2024-10-06T12:00+11", "2024-10-06T00:00+1030", "2024-10-07T00:00+11"),
        ],
    );
    check(
        "Pacific/Chatham",
        day,
        &[
            ("2024-07-01T00:00+1245", "2024-07-01T00:00+1245", "2024-07-02T00:00+1245"),
            // 03:45 is followed by 02:45.
            ("2024-04-07T12:00+1245", "2024-04-07T00:00+1345", "2024-04-08T00:00+1245"),
            ("2024-09-29T12:00+1345", "2024-09-29T00:00+1245", "2024-09-30T00:00+1345"),
        ],
    );
}

#[test]
fn a_midnight_that_does_not_exist_is_the_first_instant_after_the_gap() {
    let day = midnights();
    check(
        "America/Sao_Paulo",
        day,
        &[
            ("2018-11-04T01:00-02", "2018-11-04T01:00-02", "2018-11-05T00:00-02"),
            ("2018-11-03T23:59:59-03", "2018-11-03T00:00-03", "2018-11-04T01:00-02"),
        ],
    );
    let month = months_from(4);
    check("America/Sao_Paulo", month, &[("2018-11-20T00:00Z", "2018-11-04T01:00-02", "2018-12-04T00:00-02")]);
    check("America/Havana", day, &[("2024-03-10T05:00Z", "2024-03-10T01:00-04", "2024-03-11T00:00-04")]);
    check("Africa/Cairo", day, &[("2024-04-26T12:00Z", "2024-04-26T01:00+03", "2024-04-27T00:00+03")]);
    check("Asia/Beirut", day, &[("2024-03-31T12:00Z", "2024-03-31T01:00+03", "2024-04-01T00:00+03")]);
    check("Africa/Monrovia", day, &[("1972-01-07T12:00Z", "1972-01-07T00:44:30Z", "1972-01-08T00:00Z")]);
    // A week begins there, too: 8 September 2019 was a Sunday.
    let sundays = weeks_from(7);
    check(
        "America/Santiago",
        sundays,
        &[("2019-09-10T00:00Z", "2019-09-08T01:00-03", "2019-09-15T00:00-03")],
    );
}

#[test]
fn a_midnight_that_exists_twice_is_the_first() {
    let day = midnights();
    check(
        "America/Havana",
        day,
        &[
            // 01:00 is followed by 00:00.
            ("2024-11-03T00:00-04", "2024-11-03T00:00-04", "2024-11-04T00:00-05"),
            ("2024-11-03T00:00-05", "2024-11-03T00:00-04", "2024-11-04T00:00-05"),
        ],
    );
    check(
        "America/St_Johns",
        day,
        &[
            // 00:01 is followed by 23:01 of the day before: the new day has begun, and goes on.
            ("2006-10-29T00:00:30-0230", "2006-10-29T00:00-0230", "2006-10-30T00:00-0330"),
            ("2006-10-28T23:30-0330", "2006-10-29T00:00-0230", "2006-10-30T00:00-0330"),
            ("2006-10-28T23:59:59-0230", "2006-10-28T00:00-0230", "2006-10-29T00:00-0230"),
        ],
    );
    // 24:00 is followed by 23:00: midnight exists once, an hour later.
    let sao_paulo = [("2018-02-17T23:30-03", "2018-02-17T00:00-02", "2018-02-18T00:00-03")];
    check("America/Sao_Paulo", day, &sao_paulo);
    check("Asia/Beirut", day, &[("2024-10-26T23:30+02", "2024-10-26T00:00+03", "2024-10-27T00:00+02")]);
    check("Africa/Cairo", day, &[("2024-10-31T23:30+02", "2024-10-31T00:00+03", "2024-11-01T00:00+02")]);
}

#[test]
fn a_day_that_a_zone_left_out_has_no_window() {
    let day = midnights();
    check(
        "Pacific/Apia",
        day,
        &[
            ("2011-12-29T23:59:59-10", "2011-12-29T00:00-10", "2011-12-31T00:00+14"),
            ("2011-12-31T00:00+14", "2011-12-31T00:00+14", "2012-01-01T00:00+14"),
        ],
    );
    check(
        "Pacific/Kwajalein",
        day,
        &[
            ("1993-08-20T23:59:59-12", "1993-08-20T00:00-12", "1993-08-22T00:00+12"),
            ("1993-08-22T00:00+12", "1993-08-22T00:00+12", "1993-08-23T00:00+12"),
        ],
    );
}

#[test]
fn a_date_that_a_zone_left_out_counts_as_the_date_after_it() {
    // No day of 4 hours: the 29th goes on to 04:00 of the 31st, and has 24 hours.
    check(
        "Pacific/Apia",
        days_from(4, 0),
        &[
            ("2011-12-29T12:00-10", "2011-12-29T04:00-10", "2011-12-31T04:00+14"),
            ("2011-12-31T00:00+14", "2011-12-29T04:00-10", "2011-12-31T04:00+14"),
            ("2011-12-31T04:00+14", "2011-12-31T04:00+14", "2012-01-01T04:00+14"),
        ],
    );
    let months = months_from(30);
    check("Pacific/Apia", months, &[("2011-12-31T00:00+14", "2011-12-31T00:00+14", "2012-01-30T00:00+14")]);
    let fridays = weeks_from(5);
    check("Pacific/Apia", fridays, &[("2012-01-01T00:00+14", "2011-12-31T00:00+14", "2012-01-06T00:00+14")]);
    let even = cycle(Period::Day, Anchors { origin_date: "2011-12-30", anchor_minute: 600, ..every(2) });
    check(
        "Pacific/Apia",
        even,
        &[
            ("2011-12-31T09:59+14", "2011-12-28T10:00-10", "2011-12-31T10:00+14"),
            ("2011-12-31T10:00+14", "2011-12-31T10:00+14", "2012-01-01T10:00+14"),
        ],
    );
}

#[test]
fn a_date_that_exists_twice_is_the_first() {
    // Clocks went from 1969-09-30T24:00+11 back to 1969-09-30T01:00-12.
    check(
        "Pacific/Kwajalein",
        midnights(),
        &[
            ("1969-09-30T23:00+11", "1969-09-30T00:00+11", "1969-10-01T00:00-12"),
            ("1969-09-30T12:00-12", "1969-09-30T00:00+11", "1969-10-01T00:00-12"),
        ],
    );
}

#[test]
fn days_may_begin_at_any_minute() {
    check(
        "Europe/Berlin",
        days_from(4, 0),
        &[
            ("2026-07-01T03:59:59.999+02", "2026-06-30T04:00+02", "2026-07-01T04:00+02"),
            ("2026-07-01T04:00+02", "2026-07-01T04:00+02", "2026-07-02T04:00+02"),
            // The change of the clock at 02:00 belongs to the day before.
            ("2026-03-29T03:30+02", "2026-03-28T04:00+01", "2026-03-29T04:00+02"),
            ("2026-10-25T02:30+01", "2026-10-24T04:00+02", "2026-10-25T04:00+01"),
            ("2026-10-25T04:00+01", "2026-10-25T04:00+01", "2026-10-26T04:00+01"),
        ],
    );
    let late = days_from(23, 59);
    check("UTC", late, &[("2026-01-01T12:00Z", "2025-12-31T23:59Z", "2026-01-01T23:59Z")]);
    let kathmandu = [("2026-07-01T00:00Z", "2026-06-30T18:30+0545", "2026-07-01T18:30+0545")];
    check("Asia/Kathmandu", days_from(18, 30), &kathmandu);
}

#[test]
fn a_minute_that_a_change_of_the_clock_skips_is_the_first_instant_after_the_gap() {
    check(
        "Europe/Berlin",
        days_from(2, 30),
        &[
            ("2026-03-29T12:00+02", "2026-03-29T03:00+02", "2026-03-30T02:30+02"),
            ("2026-03-29T01:59+01", "2026-03-28T02:30+01", "2026-03-29T03:00+02"),
        ],
    );
    // A gap of half an hour, from 02:00 to 02:30.
    let howe = [("2024-10-06T12:00+11", "2024-10-06T02:30+11", "2024-10-07T02:15+11")];
    check("Australia/Lord_Howe", days_from(2, 15), &howe);
    // 23:00 of the 30th is followed by 00:00 of the 31st. The date was not left out, so the 30th begins then.
    check(
        "America/Nuuk",
        days_from(23, 30),
        &[
            ("2024-03-31T12:00-01", "2024-03-31T00:00-01", "2024-03-31T23:30-01"),
            ("2024-03-30T22:59-02", "2024-03-29T23:30-02", "2024-03-31T00:00-01"),
        ],
    );
}

#[test]
fn a_minute_that_a_change_of_the_clock_repeats_is_the_first() {
    check(
        "Europe/Berlin",
        days_from(2, 30),
        &[
            ("2026-10-25T02:29+02", "2026-10-24T02:30+02", "2026-10-25T02:30+02"),
            ("2026-10-25T02:30+02", "2026-10-25T02:30+02", "2026-10-26T02:30+01"),
            ("2026-10-25T02:00+01", "2026-10-25T02:30+02", "2026-10-26T02:30+01"),
        ],
    );
    let howe = [("2024-04-07T01:45+1030", "2024-04-07T01:45+11", "2024-04-08T01:45+1030")];
    check("Australia/Lord_Howe", days_from(1, 45), &howe);
    let chatham = [("2024-04-07T03:00+1245", "2024-04-07T03:30+1345", "2024-04-08T03:30+1245")];
    check("Pacific/Chatham", days_from(3, 30), &chatham);
}

#[test]
fn several_days_are_counted_from_the_origin() {
    let three = cycle(Period::Day, every(3));
    check(
        "UTC",
        three,
        &[
            ("1970-01-03T23:59Z", "1970-01-01T00:00Z", "1970-01-04T00:00Z"),
            ("1970-01-04T00:00Z", "1970-01-04T00:00Z", "1970-01-07T00:00Z"),
            ("1969-12-31T23:59Z", "1969-12-29T00:00Z", "1970-01-01T00:00Z"),
        ],
    );
    let ten = cycle(Period::Day, Anchors { origin_date: "2026-03-25", ..every(10) });
    check(
        "Europe/Berlin",
        ten,
        &[
            ("2026-03-29T12:00+02", "2026-03-25T00:00+01", "2026-04-04T00:00+02"),
            ("2026-03-24T12:00+01", "2026-03-15T00:00+01", "2026-03-25T00:00+01"),
        ],
    );
    let thousand = cycle(Period::Day, Anchors { origin_date: "2026-01-01", ..every(1_000) });
    check("UTC", thousand, &[("2028-09-26T12:00Z", "2026-01-01T00:00Z", "2028-09-27T00:00Z")]);
}
