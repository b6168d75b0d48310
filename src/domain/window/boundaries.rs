//! The dates on which windows begin, and the instants at which local time first reaches them.

use chrono::{
    DateTime, Datelike, Days, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta,
    TimeZone,
};
use chrono_tz::Tz;

use super::super::time::{Span, Time};

/// A bound on the distance of any zone from UTC. Local mean times are the farthest, and stay below 16 hours.
const OFFSET_SECONDS_MAX: i64 = 24 * 60 * 60;

/// The reason why date arithmetic in this file cannot fail.
const IN_RANGE: &str = "chrono's dates reach 260,000 years beyond the calendar's";

/// The number of months from the start of year 0 to 1970-01, where months are counted from.
const MONTHS_TO_1970: i32 = 1970 * 12;

/// Where the windows of a cycle begin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beginnings {
    /// There is one window, which has no boundaries.
    Never,
    /// At `first`, and each `step` before and after it.
    Utc { first: Time, step: Span },
    /// On these dates of local time, at this minute of the day.
    Local { dates: Dates, minute: u16 },
}

/// The dates on which windows begin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dates {
    /// On the day `first`, counted from 1970-01-01, and each `step` days before and after it.
    Days { first: i32, step: i32 },
    /// On `day` of the month `first`, counted from 1970-01, and of each month that is `step` months away from another
    /// one. In a month without that day, on its last day.
    Months { first: i32, step: i32, day: u8 },
}

impl Dates {
    /// Returns the last of the dates that is not after `date`.
    fn on_or_before(self, date: NaiveDate) -> NaiveDate {
        match self {
            Dates::Days { first, step } => {
                let past = (date.to_epoch_days() - first).rem_euclid(step);
                date.checked_sub_days(Days::new(u64::from(past.unsigned_abs()))).expect(IN_RANGE)
            }
            Dates::Months { first, step, day } => {
                let month = date.year() * 12 + date.month0().cast_signed() - MONTHS_TO_1970;
                let past = (month - first).rem_euclid(step).unsigned_abs();
                let begun = on_day_of_month(date.checked_sub_months(Months::new(past)).expect(IN_RANGE), day);
                if begun <= date { begun } else { moved_back(begun, step, day) }
            }
        }
    }

    /// Returns the first of the dates after `date`, which is one of them.
    fn after(self, date: NaiveDate) -> NaiveDate {
        match self {
            Dates::Days { step, .. } => {
                date.checked_add_days(Days::new(u64::from(step.unsigned_abs()))).expect(IN_RANGE)
            }
            Dates::Months { step, day, .. } => {
                let next = date.checked_add_months(Months::new(step.unsigned_abs())).expect(IN_RANGE);
                on_day_of_month(next, day)
            }
        }
    }
}

/// Returns the day of the month `step` months before the month of `date`, or the last day of that month.
fn moved_back(date: NaiveDate, step: i32, day: u8) -> NaiveDate {
    on_day_of_month(date.checked_sub_months(Months::new(step.unsigned_abs())).expect(IN_RANGE), day)
}

/// Returns the day in the month of `date`, or the last day of a month that has no such day.
fn on_day_of_month(date: NaiveDate, day: u8) -> NaiveDate {
    date.with_day(u32::from(day.min(date.num_days_in_month()))).expect("every month has this day")
}

/// Returns the last boundary that is not after `at`, and the first boundary after `at`.
pub(super) fn around(zone: Tz, dates: Dates, minute: u16, at: Time) -> (Time, Time) {
    let today = (local_time(zone, at) - time_of_day(minute)).date();
    let mut date = dates.on_or_before(today);
    let mut start = first_instant_of(zone, date, minute);
    // Local time is past a date that the zone left out, but not yet past the minute of the date that stands for it.
    while start > at {
        date = dates.on_or_before(date.pred_opt().expect(IN_RANGE));
        start = first_instant_of(zone, date, minute);
    }
    loop {
        let date_next = dates.after(date);
        let end = first_instant_of(zone, date_next, minute);
        if at < end {
            return (start, end);
        }
        // The next window has begun already: local time went back across its first instant, or the zone left that
        // date out. Each step moves on by at least a day, so the loop ends.
        (date, start) = (date_next, end);
    }
}

/// Returns the first instant at which local time reaches this minute of the date. A date that the zone left out counts
/// as the date after it.
fn first_instant_of(zone: Tz, date: NaiveDate, minute: u16) -> Time {
    let wanted = date.and_time(NaiveTime::MIN) + time_of_day(minute);
    match zone.from_local_datetime(&wanted) {
        LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => Time(instant.timestamp_millis()),
        LocalResult::None => {
            let after = end_of_gap(zone, wanted);
            let before = after.saturating_sub(Span::seconds(1));
            let is_left_out = local_time(zone, before).date() < date && date < local_time(zone, after).date();
            if is_left_out { first_instant_of(zone, date.succ_opt().expect(IN_RANGE), minute) } else { after }
        }
    }
}

/// Returns the first instant after the gap in local time that contains `missing`, which does not exist.
fn end_of_gap(zone: Tz, missing: NaiveDateTime) -> Time {
    let wanted = missing.and_utc().timestamp();
    // At `before` local time is before the gap, and at `after` it is after the gap.
    let (mut before, mut after) = (wanted - OFFSET_SECONDS_MAX, wanted + OFFSET_SECONDS_MAX);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if local_time(zone, Time(middle * 1000)) < missing { before = middle } else { after = middle }
    }
    Time(after * 1000)
}

/// Returns what clocks of the zone show at the instant `at`.
pub(super) fn local_time(zone: Tz, at: Time) -> NaiveDateTime {
    let utc = DateTime::from_timestamp_millis(at.0).expect(IN_RANGE).naive_utc();
    utc + TimeDelta::seconds(i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()))
}

fn time_of_day(minute: u16) -> TimeDelta {
    TimeDelta::minutes(i64::from(minute))
}
