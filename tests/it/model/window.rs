//! Implements the calendar a second time, in the simplest way: it checks the local time every quarter of an hour.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;

use crate::harness::{DAY, HOUR, MINUTE};

/// The end of a window that has no end.
pub const FOR_EVER: i64 = i64::MAX;

/// The kind of a counter's windows, with the anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// For ever, by a meter: no limit covers the resource.
    Meter,
    /// One day in the tenant's zone, beginning at this minute.
    Day(u32),
    /// One month, beginning on this day at this minute.
    Month(u32, u32),
    /// For ever, by a LIFETIME limit.
    Lifetime,
}

impl Span {
    /// Returns whether windows have no end.
    pub fn is_endless(self) -> bool {
        matches!(self, Span::Meter | Span::Lifetime)
    }

    /// Returns half of the nominal length, in milliseconds (R4.30).
    fn half(self) -> i64 {
        match self {
            Span::Day(_) => 12 * HOUR,
            Span::Month(..) => 15 * DAY,
            Span::Meter | Span::Lifetime => 0,
        }
    }
}

/// A window, and the kind of its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// The kind, with the anchors by which the window was made.
    pub span: Span,
    /// First instant of the window; 0 if it has no end.
    pub start: i64,
    /// First instant after the window.
    pub end: i64,
}

/// A calendar of a limit, and since when the limit has the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Era {
    /// When the calendar was changed to this one. Has no effect in the oldest era.
    pub since: i64,
    /// The zone of the tenant.
    pub zone: Tz,
    /// The kind of the limit's windows.
    pub span: Span,
}

/// Returns the window that runs at an instant, by R4.30: a change keeps the running window to its end. Of several
/// changes within the window the last one counts.
pub fn window_at(eras: &[Era], at: i64) -> Window {
    let mut place = 0;
    let mut first = (i64::MIN, i64::MIN);
    loop {
        let Era { zone, span, .. } = eras[place];
        let running = |at: i64| if at < first.1 { first } else { own_window(zone, span, at) };
        let last = eras.get(place + 1).map_or(FOR_EVER, |change| running(change.since).1);
        if at < last {
            let (start, end) = running(at);
            return Window { span, start, end };
        }
        place += eras[place + 1..].iter().take_while(|change| change.since < last).count();
        first = (last, boundary_after(eras[place], last));
    }
}

/// Returns the first boundary at least half a nominal period after an instant.
fn boundary_after(era: Era, at: i64) -> i64 {
    let earliest = at + era.span.half();
    let (start, end) = own_window(era.zone, era.span, earliest);
    if start == earliest { start } else { end }
}

/// Returns start and end of the calendar's own window that runs at an instant. Remembers the windows found so far.
fn own_window(zone: Tz, span: Span, at: i64) -> (i64, i64) {
    thread_local! {
        static FOUND: RefCell<HashMap<(Tz, Span), BTreeMap<i64, i64>>> = RefCell::default();
    }
    FOUND.with_borrow_mut(|found| {
        let windows = found.entry((zone, span)).or_default();
        let last = windows.range(..=at).next_back().filter(|(_, end)| at < **end);
        let (start, end) = last.map_or_else(|| search(zone, span, at), |(start, end)| (*start, *end));
        windows.insert(start, end);
        (start, end)
    })
}

/// Searches start and end of the calendar's own window that runs at an instant.
fn search(zone: Tz, span: Span, at: i64) -> (i64, i64) {
    let today = local(zone, at).date();
    let (dates, minute): (Vec<NaiveDate>, u32) = match span {
        Span::Meter | Span::Lifetime => return (0, FOR_EVER),
        Span::Day(minute) => ((0..5).map(|days| today - Days::new(2) + Days::new(days)).collect(), minute),
        Span::Month(day, minute) => {
            let months = (0..5).map(|months| today - Months::new(2) + Months::new(months));
            (months.map(|month| anchored(month, day)).collect(), minute)
        }
    };
    let starts: Vec<i64> = dates.into_iter().map(|date| first_instant(zone, date, minute)).collect();
    let start = starts.iter().filter(|start| **start <= at).max().expect("one of them has begun");
    let end = starts.iter().filter(|start| **start > at).min().expect("one of them has not begun");
    (*start, *end)
}

fn anchored(month: NaiveDate, anchor: u32) -> NaiveDate {
    let day = (28..=anchor).rev().find(|&day| month.with_day(day).is_some()).unwrap_or(anchor);
    month.with_day(day).expect("every month has 28 days")
}

/// Returns when local time first reaches a minute of a date.
fn first_instant(zone: Tz, date: NaiveDate, minute: u32) -> i64 {
    thread_local! {
        static FOUND: RefCell<HashMap<(Tz, NaiveDate, u32), i64>> = RefCell::default();
    }
    FOUND.with_borrow_mut(|found| {
        *found.entry((zone, date, minute)).or_insert_with(|| {
            let wanted = date.and_hms_opt(minute / 60, minute % 60, 0).expect("a time");
            let utc = wanted.and_utc().timestamp_millis();
            let quarters = (0..).map(|quarter| utc - 18 * HOUR + quarter * 15 * MINUTE);
            quarters.into_iter().find(|&instant| local(zone, instant) >= wanted).expect("it comes")
        })
    })
}

/// Returns the local time at an instant.
pub fn local(zone: Tz, at: i64) -> NaiveDateTime {
    DateTime::from_timestamp_millis(at).expect("in range").with_timezone(&zone).naive_local()
}
