//! Claims about the calendar: tables of awkward dates, and models that walk through local time.

mod days;
mod encoding;
mod faults;
mod history;
mod long;
mod model;
mod properties;
mod short;
mod tenant;

use chrono::DateTime;
use chrono_tz::Tz;

use super::super::time::{Span, Time};
use super::{Anchors, Cycle, Period, Window, window_at};

/// An instant or a span in plain milliseconds, in which the model computes.
type Millis = i64;

const MINUTE: Millis = 60 * 1000;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;

/// From 1970-01-01 to 2100-12-31, in milliseconds.
const SPAN: std::ops::Range<Millis> = 0..4_133_894_400_000;

/// What a request without any anchor says.
const NO_ANCHORS: Anchors<'_> = Anchors {
    interval: 0,
    anchor_day: 0,
    anchor_weekday: 0,
    anchor_month: 0,
    anchor_minute: 0,
    origin_date: "",
};

/// An instant, and the start and the end of its window, in local time with the offset that local time has then.
type Row<'a> = (&'a str, &'a str, &'a str);

#[track_caller]
fn check(zone: &str, cycle: Cycle, rows: &[Row]) {
    for (at, start, end) in rows {
        let window = window_at(zone.parse().unwrap(), cycle, time(at));
        let want = Window { start: time(start), end: time(end) };
        assert_eq!(window, want, "{zone} {cycle:?} at {at}: {}", shown(window));
    }
}

/// Makes the cycle of a request that must be valid.
#[track_caller]
fn cycle(period: Period, anchors: Anchors) -> Cycle {
    Cycle::new(period, &anchors).unwrap_or_else(|faults| panic!("{period:?} {anchors:?}: {faults:?}"))
}

fn every(interval: i32) -> Anchors<'static> {
    Anchors { interval, ..NO_ANCHORS }
}

/// Days that begin at this hour and minute.
fn days_from(hour: i32, minute: i32) -> Cycle {
    cycle(Period::Day, Anchors { anchor_minute: hour * 60 + minute, ..NO_ANCHORS })
}

fn weeks_from(anchor_weekday: i32) -> Cycle {
    cycle(Period::Week, Anchors { anchor_weekday, ..NO_ANCHORS })
}

fn months_from(anchor_day: i32) -> Cycle {
    cycle(Period::Month, Anchors { anchor_day, ..NO_ANCHORS })
}

fn years_from(anchor_month: i32, anchor_day: i32) -> Cycle {
    cycle(Period::Year, Anchors { anchor_month, anchor_day, ..NO_ANCHORS })
}

/// Reads an instant such as 2026-03-29T00:00+01 or 2026-03-29T00:00:59.999Z.
#[track_caller]
fn time(text: &str) -> Time {
    let instant = ["%Y-%m-%dT%H:%M%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"]
        .iter()
        .find_map(|format| DateTime::parse_from_str(text, format).ok())
        .unwrap_or_else(|| panic!("{text} is no instant"));
    Time(instant.timestamp_millis())
}

/// Returns the last instant before `at`.
fn just_before(at: Time) -> Time {
    at.saturating_sub(Span::MILLISECOND)
}

fn shown(window: Window) -> String {
    let show = |at: Time| DateTime::from_timestamp_millis(at.0).map_or("none".to_owned(), |t| t.to_rfc3339());
    format!("{} to {}", show(window.start), show(window.end))
}

#[test]
fn lifetime_and_meter_have_one_window_without_end() {
    for cycle in [Cycle::plain(Period::Lifetime), Cycle::METER] {
        for at in [Millis::MIN, -1, 0, 1, Millis::MAX].map(Time) {
            let window = window_at(Tz::Asia__Tokyo, cycle, at);
            assert_eq!(window, Window { start: Time::EPOCH, end: Time::NEVER });
            assert!(window.contains(at), "{cycle:?} at {at:?}");
        }
    }
}

#[test]
fn instants_beyond_the_calendar_share_its_first_and_last_windows() {
    let periods = [Period::Minute, Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];
    let cycles = periods.map(Cycle::plain).into_iter().chain([
        months_from(31),
        days_from(23, 59),
        cycle(Period::Year, every(100)),
        cycle(Period::Minute, every(7)),
    ]);
    for cycle in cycles {
        for zone in chrono_tz::TZ_VARIANTS {
            let first = window_at(zone, cycle, Time::MIN);
            assert_eq!(first.start, Time::MIN, "{zone} {cycle:?}");
            assert!(first.contains(Time::MIN) && first.contains(time("0001-01-01T00:00Z")), "{zone}");
            assert_eq!(window_at(zone, cycle, first.end).start, first.end, "{zone} {cycle:?}");

            let last = window_at(zone, cycle, Time::NEVER);
            assert_eq!(last.end, Time::NEVER, "{zone} {cycle:?}");
            assert!(last.contains(Time::NEVER) && last.contains(time("9999-12-31T23:59:59Z")), "{zone}");
            assert_eq!(window_at(zone, cycle, just_before(last.start)).end, last.start, "{zone} {cycle:?}");
        }
    }
}

#[test]
fn a_code_stands_for_one_period() {
    use Period::{Day, Hour, Lifetime, Meter, Minute, Month, Rolling, Week, Year};
    let periods = [Meter, Minute, Hour, Day, Week, Month, Year, Lifetime, Rolling];
    assert_eq!(periods.map(Period::code), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for code in 0..=u8::MAX {
        let want = periods.into_iter().find(|period| period.code() == code);
        assert_eq!(Period::from_code(code), want, "{code}");
    }
}
