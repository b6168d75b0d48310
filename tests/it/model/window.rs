//! Implements the calendar a second time, in the simplest way: it checks the local time every quarter of an hour.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate};
use chrono_tz::Tz;

use crate::harness::{HOUR, MINUTE};

/// The kind of a counter's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// For ever, by a meter: no limit covers the resource.
    Meter,
    /// One day in the tenant's zone.
    Day,
    /// One month, beginning on this anchor day.
    Month(u32),
    /// For ever, by a LIFETIME limit.
    Lifetime,
}

/// Returns the start of the window that runs at an instant; 0 for counters without windows.
pub fn window_start(zone: Tz, span: Span, at: i64) -> i64 {
    let today = local_date(zone, at);
    let starts: Vec<NaiveDate> = match span {
        Span::Meter | Span::Lifetime => return 0,
        Span::Day => {
            (0..4).filter_map(|days| (today + Days::new(1)).checked_sub_days(Days::new(days))).collect()
        }
        Span::Month(anchor) => {
            (0..4).map(|months| anchored(today + Months::new(1) - Months::new(months), anchor)).collect()
        }
    };
    let begun = starts.into_iter().map(|date| first_instant(zone, date)).filter(|&start| start <= at);
    begun.max().expect("one of them has begun")
}

/// Returns the end of the window that runs at an instant; `None` for counters without windows.
pub fn window_end(zone: Tz, span: Span, at: i64) -> Option<i64> {
    let longest = match span {
        Span::Meter | Span::Lifetime => return None,
        Span::Day => 26 * HOUR,
        Span::Month(_) => 32 * 24 * HOUR,
    };
    let start = window_start(zone, span, at);
    let (mut within, mut after) = (at, at + longest);
    while after - within > 1 {
        let middle = within + (after - within) / 2;
        if window_start(zone, span, middle) == start { within = middle } else { after = middle }
    }
    Some(after)
}

fn anchored(month: NaiveDate, anchor: u32) -> NaiveDate {
    let day = (28..=anchor).rev().find(|&day| month.with_day(day).is_some()).unwrap_or(anchor);
    month.with_day(day).expect("every month has 28 days")
}

fn first_instant(zone: Tz, date: NaiveDate) -> i64 {
    let midnight = date.and_hms_opt(0, 0, 0).expect("a time").and_utc().timestamp_millis();
    let quarters = (0..).map(|quarter| midnight - 18 * HOUR + quarter * 15 * MINUTE);
    quarters.into_iter().find(|&instant| local_date(zone, instant) >= date).expect("it comes")
}

fn local_date(zone: Tz, at: i64) -> NaiveDate {
    DateTime::from_timestamp_millis(at).expect("in range").with_timezone(&zone).date_naive()
}
