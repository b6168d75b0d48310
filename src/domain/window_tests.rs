//! Tests of the calendar: a table of awkward dates, and a model that walks through local time.

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::{Period, Time, Window, window_at};
use crate::domain::time::Span;

const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;

/// From 1970-01-01 to 2100-12-31, in milliseconds.
const SPAN: std::ops::Range<i64> = 0..4_133_894_400_000;

/// Zone, period, anchor day, an instant, and the window that it falls into.
type Row = (&'static str, Period, u8, &'static str, &'static str, &'static str);

fn check(rows: &[Row]) {
    for (zone, period, anchor_day, at, start, end) in rows {
        let window = window_at(zone.parse().unwrap(), *period, *anchor_day, millis(at));
        let want = Window { start: millis(start), end: millis(end) };
        assert_eq!(window, want, "{zone} {period:?} {anchor_day} at {at}: {}", shown(window));
    }
}

fn millis(text: &str) -> Time {
    let instant = DateTime::parse_from_rfc3339(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    Time(instant.timestamp_millis())
}

fn shown(window: Window) -> String {
    let show = |at: Time| DateTime::from_timestamp_millis(at.0).map_or("none".to_owned(), |t| t.to_rfc3339());
    format!("{} to {}", show(window.start), show(window.end))
}

#[test]
fn a_day_runs_from_midnight_to_midnight() {
    use Period::Day;
    check(&[
        ("UTC", Day, 1, "2026-07-01T00:00:00Z", "2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z"),
        ("UTC", Day, 1, "2026-06-30T23:59:59.999Z", "2026-06-30T00:00:00Z", "2026-07-01T00:00:00Z"),
        ("UTC", Day, 1, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z"),
        ("UTC", Day, 1, "1969-12-31T23:59:59.999Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("Asia/Tokyo", Day, 1, "2026-07-01T14:59:59Z", "2026-06-30T15:00:00Z", "2026-07-01T15:00:00Z"),
        ("Asia/Kathmandu", Day, 1, "2026-07-01T00:00:00Z", "2026-06-30T18:15:00Z", "2026-07-01T18:15:00Z"),
        (
            "Pacific/Kiritimati",
            Day,
            1,
            "2026-07-01T10:00:00Z",
            "2026-07-01T10:00:00Z",
            "2026-07-02T10:00:00Z",
        ),
    ]);
}

#[test]
fn days_on_which_the_clock_changes_have_23_or_25_hours() {
    use Period::Day;
    check(&[
        ("Europe/Berlin", Day, 1, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("Europe/Berlin", Day, 1, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ("America/New_York", Day, 1, "2024-03-10T12:00:00Z", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"),
        ("America/New_York", Day, 1, "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
        // This zone moves its clock by half an hour.
        (
            "Australia/Lord_Howe",
            Day,
            1,
            "2024-04-06T20:00:00Z",
            "2024-04-06T13:00:00Z",
            "2024-04-07T13:30:00Z",
        ),
    ]);
}

#[test]
fn without_a_midnight_a_day_begins_at_the_first_instant_after_the_gap() {
    use Period::{Day, Month};
    check(&[
        ("America/Sao_Paulo", Day, 1, "2018-11-04T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
        ("America/Sao_Paulo", Day, 1, "2018-11-04T02:59:59Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"),
        (
            "America/Sao_Paulo",
            Month,
            4,
            "2018-11-20T00:00:00Z",
            "2018-11-04T03:00:00Z",
            "2018-12-04T02:00:00Z",
        ),
        ("America/Havana", Day, 1, "2024-03-10T05:00:00Z", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"),
        ("Africa/Cairo", Day, 1, "2024-04-26T12:00:00Z", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"),
        ("Asia/Beirut", Day, 1, "2024-03-31T12:00:00Z", "2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z"),
        ("Africa/Monrovia", Day, 1, "1972-01-07T12:00:00Z", "1972-01-07T00:44:30Z", "1972-01-08T00:00:00Z"),
    ]);
}

#[test]
fn with_two_midnights_a_day_begins_at_the_first() {
    use Period::Day;
    check(&[
        // 01:00 is followed by 00:00.
        ("America/Havana", Day, 1, "2024-11-03T04:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
        ("America/Havana", Day, 1, "2024-11-03T05:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
        // 00:01 is followed by 23:01 of the day before: the new day has begun, and goes on.
        ("America/St_Johns", Day, 1, "2006-10-29T02:30:30Z", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z"),
        ("America/St_Johns", Day, 1, "2006-10-29T03:00:00Z", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z"),
        ("America/St_Johns", Day, 1, "2006-10-29T02:29:59Z", "2006-10-28T02:30:00Z", "2006-10-29T02:30:00Z"),
        // 24:00 is followed by 23:00: midnight exists once, an hour later.
        ("America/Sao_Paulo", Day, 1, "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"),
    ]);
}

#[test]
fn a_day_that_a_zone_left_out_has_no_window() {
    use Period::{Day, Month};
    check(&[
        ("Pacific/Apia", Day, 1, "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", Day, 1, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        ("Pacific/Apia", Month, 30, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2012-01-29T10:00:00Z"),
        ("Pacific/Kwajalein", Day, 1, "1993-08-21T11:59:59Z", "1993-08-20T12:00:00Z", "1993-08-21T12:00:00Z"),
        ("Pacific/Kwajalein", Day, 1, "1993-08-21T12:00:00Z", "1993-08-21T12:00:00Z", "1993-08-22T12:00:00Z"),
    ]);
}

#[test]
fn a_month_begins_on_its_anchor_day_or_on_its_last_day_and_does_not_drift() {
    use Period::Month;
    check(&[
        ("UTC", Month, 1, "2026-02-14T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("UTC", Month, 15, "2026-01-14T23:59:59Z", "2025-12-15T00:00:00Z", "2026-01-15T00:00:00Z"),
        ("UTC", Month, 31, "2026-01-31T00:00:00Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"),
        ("UTC", Month, 31, "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
        ("UTC", Month, 31, "2026-03-30T23:59:59Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
        ("UTC", Month, 31, "2026-04-29T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z"),
        ("UTC", Month, 30, "2028-03-01T00:00:00Z", "2028-02-29T00:00:00Z", "2028-03-30T00:00:00Z"),
        ("UTC", Month, 29, "2100-03-01T00:00:00Z", "2100-02-28T00:00:00Z", "2100-03-29T00:00:00Z"),
        ("Europe/Berlin", Month, 1, "2024-03-15T00:00:00Z", "2024-02-29T23:00:00Z", "2024-03-31T22:00:00Z"),
        // An anchor day outside 1-31 counts as the nearest day inside.
        ("UTC", Month, 0, "2026-02-14T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("UTC", Month, 255, "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
    ]);
}

#[test]
fn lifetime_and_meter_have_one_window_without_end() {
    for period in [Period::Lifetime, Period::Meter] {
        for at in [Time::MIN, Time(-1), Time::EPOCH, Time(1), Time::NEVER] {
            let window = window_at(Tz::Asia__Tokyo, period, 1, at);
            assert_eq!(window, Window { start: Time::EPOCH, end: Time::NEVER });
            assert!(window.contains(at), "{period:?} at {at:?}");
        }
    }
}

#[test]
fn instants_beyond_the_calendar_share_its_first_and_last_windows() {
    for zone in TZ_VARIANTS {
        for period in [Period::Day, Period::Month] {
            let first = window_at(zone, period, 31, Time::MIN);
            assert_eq!(first.start, Time::MIN, "{zone}");
            assert!(first.contains(Time::MIN) && first.contains(millis("0001-01-01T00:00:00Z")), "{zone}");
            assert_eq!(window_at(zone, period, 31, first.end).start, first.end, "{zone}");

            let last = window_at(zone, period, 31, Time::NEVER);
            assert_eq!(last.end, Time::NEVER, "{zone}");
            assert!(last.contains(Time::NEVER) && last.contains(millis("9999-12-31T23:59:59Z")), "{zone}");
            assert_eq!(window_at(zone, period, 31, before(last.start)).end, last.start, "{zone}");
        }
    }
}

#[test]
fn a_code_stands_for_one_period() {
    let periods = [Period::Meter, Period::Day, Period::Month, Period::Lifetime];
    assert_eq!(periods.map(Period::code), [0, 3, 5, 7]);
    for code in 0..=u8::MAX {
        let want = periods.into_iter().find(|period| period.code() == code);
        assert_eq!(Period::from_code(code), want, "{code}");
    }
}

#[test]
fn wherever_a_zone_changes_its_clock_the_days_around_agree_with_the_model() {
    let mut changes = 0;
    for zone in TZ_VARIANTS {
        let mut offset = offset_seconds(zone, Time(SPAN.start));
        for at in SPAN.step_by(usize::try_from(DAY).unwrap()).map(Time) {
            if offset_seconds(zone, at) == offset {
                continue;
            }
            offset = offset_seconds(zone, at);
            changes += 1;
            let mut day = window_at(zone, Period::Day, 1, at.saturating_sub(Span(3 * DAY / 2)));
            for _ in 0..3 {
                let want = model(zone, Period::Day, 1, day.start);
                assert_eq!(day, want, "{zone}: {}, the model: {}", shown(day), shown(want));
                day = window_at(zone, Period::Day, 1, day.end);
            }
        }
    }
    assert!(changes > 10_000, "only {changes} changes of the clock were tried");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_agree_with_the_model(zone in zones(), period in periods(), anchor_day in 1..=31_u8, at in instants()) {
        prop_assert_eq!(window_at(zone, period, anchor_day, at), model(zone, period, anchor_day, at));
    }

    #[test]
    fn a_window_is_the_window_of_each_instant_in_it(
        zone in zones(), period in periods(), anchor_day in 1..=31_u8, at in any::<i64>(), share in 0.0..1.0_f64,
    ) {
        for at in [at, at % SPAN.end].map(Time) {
            let window = window_at(zone, period, anchor_day, at);
            prop_assert!(window.start < window.end && window.contains(at));
            let away = part(window, share);
            let other = if window.start == Time::MIN { before(window.end).saturating_sub(away) } else { window.start + away };
            prop_assert_eq!(window_at(zone, period, anchor_day, other), window);
        }
    }

    #[test]
    fn windows_have_no_gaps_or_overlaps(zone in zones(), period in periods(), anchor_day in 1..=31_u8, at in instants()) {
        let mut window = window_at(zone, period, anchor_day, at);
        for _ in 0..40 {
            let next = window_at(zone, period, anchor_day, window.end);
            prop_assert_eq!(next.start, window.end);
            prop_assert_eq!(window_at(zone, period, anchor_day, before(window.end)), window);
            prop_assert!(!window.contains(window.end) && !next.contains(before(window.end)));
            window = next;
        }
    }

    #[test]
    fn a_later_instant_never_has_an_earlier_window(
        zone in zones(), period in periods(), anchor_day in 1..=31_u8, at in instants(), later in 0..70 * DAY,
    ) {
        let window = window_at(zone, period, anchor_day, at);
        let next = window_at(zone, period, anchor_day, at + Span(later));
        prop_assert!(next == window || next.start >= window.end);
    }
}

fn instants() -> impl Strategy<Value = Time> {
    SPAN.prop_map(Time)
}

/// Returns the instant before another.
fn before(at: Time) -> Time {
    at.saturating_sub(Span::MILLISECOND)
}

fn zones() -> impl Strategy<Value = Tz> {
    proptest::sample::select(&TZ_VARIANTS[..])
}

fn periods() -> impl Strategy<Value = Period> {
    prop_oneof![Just(Period::Day), Just(Period::Month)]
}

/// Returns a share of the window's length, which counts as ten days at most.
fn part(window: Window, share: f64) -> Span {
    let length = window.end.saturating_since(window.start).0.min(10 * DAY);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "ten days are few")]
    let part = (length as f64 * share) as i64;
    Span(part)
}

/// Computes a window as the model does: walks through time in steps of a quarter of an hour and reads the local date. A
/// window is the time during which the latest period that local time has reached so far stays the same.
fn model(zone: Tz, period: Period, anchor_day: u8, at: Time) -> Window {
    const STEP: i64 = HOUR / 4;
    let reach = if period == Period::Day { 3 * DAY } else { 34 * DAY };
    let label = |at| label(period, anchor_day, wall_date(zone, Time(at)));
    // Nearly every midnight is at a full quarter of an hour. `refine` finds the other midnights.
    let from = (at.0 - reach).div_euclid(STEP) * STEP;
    let mut started = (label(from), from);
    let mut last = from;
    loop {
        let next = last + STEP;
        if label(next) > started.0 {
            let boundary = refine(last, next, |t| label(t) > started.0);
            if boundary > at.0 {
                return Window { start: Time(started.1), end: Time(boundary) };
            }
            started = (label(next), boundary);
        }
        last = next;
    }
}

/// Returns the first instant after `no`, up to `yes`, for which `answer` is true. It must stay true from there on.
fn refine(mut no: i64, mut yes: i64, answer: impl Fn(i64) -> bool) -> i64 {
    while yes - no > 1 {
        let middle = no + (yes - no) / 2;
        if answer(middle) { yes = middle } else { no = middle }
    }
    yes
}

/// Returns a number that grows from period to period: the number of the day, or of the month whose anchor day has come.
fn label(period: Period, anchor_day: u8, date: NaiveDate) -> i32 {
    if period == Period::Day {
        return date.num_days_from_ce();
    }
    let leap = date.year() % 4 == 0 && (date.year() % 100 != 0 || date.year() % 400 == 0);
    let days = [31, 28 + u32::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][date.month0() as usize];
    let begun = date.day() >= u32::from(anchor_day).min(days);
    date.year() * 12 + date.month0().cast_signed() - i32::from(!begun)
}

fn wall_date(zone: Tz, at: Time) -> NaiveDate {
    let seconds = at.0.div_euclid(1000) + i64::from(offset_seconds(zone, at));
    DateTime::from_timestamp_secs(seconds).unwrap().date_naive()
}

fn offset_seconds(zone: Tz, at: Time) -> i32 {
    let utc = DateTime::from_timestamp_millis(at.0).unwrap().naive_utc();
    zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()
}
