//! The calendar: which window of a period an instant falls into.
//!
//! A window begins at the instant at which local time first reaches its date. The rest follows from this rule. If a
//! midnight does not exist, the window begins at the first instant after the gap. If a midnight exists twice, the
//! window begins at the first of the two. A day that a zone left out has no window. An hour that is repeated across
//! midnight stays in the window that has begun. So the windows of a period have no gaps and no overlaps (R4.6).

use chrono::{
    DateTime, Datelike, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone,
};
use chrono_tz::Tz;

use super::{codes::codes, time::Time};

/// 0001-01-01T00:00:00Z, the earliest instant of a protobuf Timestamp. Earlier instants share its window.
const CALENDAR_FIRST: Time = Time(-62_135_596_800_000);

/// 9999-12-31T23:59:59.999Z, the latest instant of a protobuf Timestamp. Later instants share its window.
const CALENDAR_LAST: Time = Time(253_402_300_799_999);

/// More than the distance of any zone from UTC. Local mean times have the largest distances, below 16 hours.
const OFFSET_SECONDS_MAX: i64 = 24 * 60 * 60;

/// The length of a counter's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// The period of a meter, without an end. No limit reads the counter of a meter.
    Meter,
    /// From one local midnight to the next.
    Day,
    /// From the anchor day of one month to the anchor day of the next month.
    Month,
    /// One window without an end.
    Lifetime,
}

codes!(Period as u8: Meter = 0, Day = 3, Month = 5, Lifetime = 7);

/// One concrete period: from `start` up to `end`, `end` excluded.
///
/// `start` is negative before 1970. Only a clock that is far wrong leads to such a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// First instant of the window. [`Time::EPOCH`] if the window has no start.
    pub start: Time,
    /// First instant after the window. [`Time::NEVER`] if the window has no end.
    pub end: Time,
}

impl Window {
    /// The window of LIFETIME, which contains every instant.
    pub const ENDLESS: Window = Window { start: Time::EPOCH, end: Time::NEVER };

    /// Returns whether the instant `at` lies in the window.
    pub fn contains(self, at: Time) -> bool {
        self == Window::ENDLESS || (self.start <= at && (at < self.end || !self.has_end()))
    }

    /// Returns whether the window ends at some time.
    pub fn has_end(self) -> bool {
        self.end != Time::NEVER
    }
}

/// Returns the window of `period` that contains the instant `at`, in the calendar of `zone`.
///
/// `anchor_day` is the day of the month, 1-31, on which a MONTH begins. In a month without that day, the MONTH begins
/// on the last day. A value outside 1-31 counts as the nearest day inside. Other periods ignore it.
///
/// All instants before year 1 share one window, and so do all instants after year 9999.
pub fn window_at(zone: Tz, period: Period, anchor_day: u8, at: Time) -> Window {
    let boundaries = match period {
        Period::Meter | Period::Lifetime => return Window::ENDLESS,
        Period::Day => Boundaries::Daily,
        Period::Month => Boundaries::Monthly { anchor_day: u32::from(anchor_day.clamp(1, 31)) },
    };
    let inside = at.clamp(CALENDAR_FIRST, CALENDAR_LAST);
    let mut date = boundaries.on_or_before(local_date(zone, inside));
    let mut start = first_instant_of(zone, date);
    loop {
        let date_next = boundaries.after(date);
        let end = first_instant_of(zone, date_next);
        if inside < end {
            return Window {
                start: if start <= CALENDAR_FIRST { Time::MIN } else { start },
                end: if end > CALENDAR_LAST { Time::NEVER } else { end },
            };
        }
        // The next window has begun already: local time went back across its first midnight, or the zone left that
        // date out. Each step moves on by at least a day, so the loop ends.
        (date, start) = (date_next, end);
    }
}

/// The dates on which windows begin.
#[derive(Clone, Copy)]
enum Boundaries {
    Daily,
    Monthly { anchor_day: u32 },
}

impl Boundaries {
    fn on_or_before(self, date: NaiveDate) -> NaiveDate {
        match self {
            Boundaries::Daily => date,
            Boundaries::Monthly { anchor_day } => {
                let this_month = in_month_of(date, anchor_day);
                if this_month <= date { this_month } else { in_month_of(month_before(date), anchor_day) }
            }
        }
    }

    fn after(self, date: NaiveDate) -> NaiveDate {
        match self {
            Boundaries::Daily => date.succ_opt().expect(IN_RANGE),
            Boundaries::Monthly { anchor_day } => in_month_of(month_after(date), anchor_day),
        }
    }
}

/// The reason why date arithmetic in this file cannot fail.
const IN_RANGE: &str = "chrono's dates reach 260,000 years beyond the calendar's";

/// Returns the anchor day in the month of `date`, or the last day of a month that has no such day.
fn in_month_of(date: NaiveDate, anchor_day: u32) -> NaiveDate {
    (1..=anchor_day).rev().find_map(|day| date.with_day(day)).expect("every month has a first day")
}

fn month_before(date: NaiveDate) -> NaiveDate {
    date.checked_sub_months(Months::new(1)).expect(IN_RANGE)
}

fn month_after(date: NaiveDate) -> NaiveDate {
    date.checked_add_months(Months::new(1)).expect(IN_RANGE)
}

/// Returns the date of a local calendar at the instant `at`.
fn local_date(zone: Tz, at: Time) -> NaiveDate {
    let utc = DateTime::from_timestamp_millis(at.0).expect(IN_RANGE);
    utc.with_timezone(&zone).date_naive()
}

/// Returns the first instant at which local time reaches the midnight at which `date` begins.
fn first_instant_of(zone: Tz, date: NaiveDate) -> Time {
    let midnight = date.and_time(NaiveTime::MIN);
    match zone.from_local_datetime(&midnight) {
        LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => Time(instant.timestamp_millis()),
        LocalResult::None => end_of_gap(zone, midnight),
    }
}

/// Returns the first instant after the gap in local time that contains `missing`, which does not exist.
fn end_of_gap(zone: Tz, missing: NaiveDateTime) -> Time {
    let wanted = missing.and_utc().timestamp();
    // At `before` local time is before the gap, and at `after` it is after the gap.
    let (mut before, mut after) = (wanted - OFFSET_SECONDS_MAX, wanted + OFFSET_SECONDS_MAX);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if local_seconds(zone, middle) < wanted { before = middle } else { after = middle }
    }
    Time(after * 1000)
}

/// Returns the local time at a Unix time in seconds. The result is in seconds, too, counted as if local time were UTC.
fn local_seconds(zone: Tz, at_seconds: i64) -> i64 {
    let utc = DateTime::from_timestamp_secs(at_seconds).expect(IN_RANGE).naive_utc();
    at_seconds + i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
