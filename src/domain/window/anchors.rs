//! The fields of a limit that decide where its windows begin, and what each of them may contain.

use std::ops::RangeInclusive;

use chrono::NaiveDate;

use super::period::Period;

/// A field at fault, and what it must be.
pub type Fault = (&'static str, &'static str);

/// What a request says about the windows of a limit, beside the period. 0 and the empty text mean the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anchors<'a> {
    /// The number of periods in one window. 0 means 1.
    pub interval: i32,
    /// Of MONTH and YEAR: the day of the month, 1-31; in a shorter month, its last day. 0 means 1.
    pub anchor_day: i32,
    /// Of WEEK: the weekday from 1, Monday, to 7, Sunday. 0 means 1.
    pub anchor_weekday: i32,
    /// Of YEAR: the month, 1-12. 0 means 1.
    pub anchor_month: i32,
    /// Of DAY and longer periods: the minute at which days begin, 0-1439.
    pub anchor_minute: i32,
    /// If the interval is 2 or more: the date from which intervals are counted, such as 2026-01-05. Empty means
    /// 1970-01-01, and 1970-01-05 for WEEK.
    pub origin_date: &'a str,
}

/// Anchors whose fields their period can have, with defaults applied. An anchor that the period does not have is 0.
pub(super) struct Checked {
    pub(super) interval: u16,
    pub(super) day: u8,
    pub(super) weekday: u8,
    pub(super) month: u8,
    pub(super) minute: u16,
    pub(super) origin: Option<NaiveDate>,
}

/// What one anchor may be, and the periods that have it.
pub(super) struct Rule {
    field: &'static str,
    periods: &'static [Period],
    /// The first number is the default.
    range: RangeInclusive<u16>,
    /// What the field must be if the period has the anchor.
    must_be: &'static str,
    /// What the field must be if the period does not have the anchor.
    must_be_absent: &'static str,
}

pub(super) const DAY: Rule = Rule {
    field: "anchor_day",
    periods: &[Period::Month, Period::Year],
    range: 1..=31,
    must_be: "must be 1 to 31; 0 means 1",
    must_be_absent: "must be 0 unless the period is PERIOD_MONTH or PERIOD_YEAR",
};

pub(super) const WEEKDAY: Rule = Rule {
    field: "anchor_weekday",
    periods: &[Period::Week],
    range: 1..=7,
    must_be: "must be 1 (Monday) to 7 (Sunday); 0 means 1",
    must_be_absent: "must be 0 unless the period is PERIOD_WEEK",
};

pub(super) const MONTH: Rule = Rule {
    field: "anchor_month",
    periods: &[Period::Year],
    range: 1..=12,
    must_be: "must be 1 to 12; 0 means 1",
    must_be_absent: "must be 0 unless the period is PERIOD_YEAR",
};

pub(super) const MINUTE: Rule = Rule {
    field: "anchor_minute",
    periods: &[Period::Day, Period::Week, Period::Month, Period::Year],
    range: 0..=1439,
    must_be: "must be 0 to 1,439",
    must_be_absent: "must be 0 unless the period is PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH or PERIOD_YEAR",
};

impl Rule {
    /// Returns whether a cycle of this period can have this number.
    pub(super) fn has(&self, period: Period, number: u16) -> bool {
        if self.periods.contains(&period) { self.range.contains(&number) } else { number == 0 }
    }

    /// Returns the anchor that a request gives, with the default applied.
    fn check(&self, period: Period, given: i32) -> Result<u16, Fault> {
        let is_there = self.periods.contains(&period);
        match u16::try_from(given) {
            Ok(0) if is_there => Ok(*self.range.start()),
            Ok(number) if self.has(period, number) => Ok(number),
            _ => Err((self.field, if is_there { self.must_be } else { self.must_be_absent })),
        }
    }
}

impl Anchors<'_> {
    /// Returns the anchors with defaults applied, or every field at fault.
    pub(super) fn check(&self, period: Period) -> Result<Checked, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut keep = |checked: Result<u16, Fault>| checked.map_err(|fault| faults.push(fault)).unwrap_or(0);
        let small = |number: u16| u8::try_from(number).expect("no weekday, day or month is above 31");
        let interval = keep(check_interval(period, self.interval));
        let mut checked = Checked {
            interval,
            day: small(keep(DAY.check(period, self.anchor_day))),
            weekday: small(keep(WEEKDAY.check(period, self.anchor_weekday))),
            month: small(keep(MONTH.check(period, self.anchor_month))),
            minute: keep(MINUTE.check(period, self.anchor_minute)),
            origin: None,
        };
        match check_origin(interval, self.origin_date) {
            Ok(origin) => checked.origin = origin,
            Err(must_be) => faults.push(("origin_date", must_be)),
        }
        if faults.is_empty() { Ok(checked) } else { Err(faults) }
    }
}

/// Returns the largest interval of a period. 1: the period has no interval.
pub(super) const fn interval_max(period: Period) -> u16 {
    match period {
        Period::Meter | Period::Lifetime | Period::Rolling => 1,
        Period::Minute => 1_440,
        Period::Hour | Period::Day => 1_000,
        Period::Week => 520,
        Period::Month => 120,
        Period::Year => 100,
    }
}

/// Returns the interval that a request gives, with the default applied.
pub(super) fn check_interval(period: Period, given: i32) -> Result<u16, Fault> {
    let must_be = match period {
        Period::Meter | Period::Lifetime => "must be 0 for PERIOD_LIFETIME, which has one window",
        Period::Rolling => "must be 0 for PERIOD_ROLLING, whose windows have the length `duration`",
        Period::Minute => "must be 1 to 1,440 for PERIOD_MINUTE; 0 means 1",
        Period::Hour => "must be 1 to 1,000 for PERIOD_HOUR; 0 means 1",
        Period::Day => "must be 1 to 1,000 for PERIOD_DAY; 0 means 1",
        Period::Week => "must be 1 to 520 for PERIOD_WEEK; 0 means 1",
        Period::Month => "must be 1 to 120 for PERIOD_MONTH; 0 means 1",
        Period::Year => "must be 1 to 100 for PERIOD_YEAR; 0 means 1",
    };
    match u16::try_from(given) {
        Ok(0) => Ok(1),
        Ok(interval) if interval <= interval_max(period) && interval_max(period) > 1 => Ok(interval),
        _ => Err(("interval", must_be)),
    }
}

/// Returns the origin that a request gives. `interval` is 0 if the interval is at fault: then nobody knows whether an
/// origin is allowed.
fn check_origin(interval: u16, text: &str) -> Result<Option<NaiveDate>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    if interval == 1 {
        return Err("must be empty unless `interval` is 2 or more");
    }
    find_date(text).map(Some).ok_or("must be a date such as 2026-01-05, or empty")
}

/// Reads a date of the years 0001 to 9999 in the form 2026-01-05. `None`: the text is no such date.
fn find_date(text: &str) -> Option<NaiveDate> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else { return None };
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0, |sum: u32, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
    };
    let year = number(&[y1, y2, y3, y4]).filter(|year| *year > 0)?;
    NaiveDate::from_ymd_opt(year.cast_signed(), number(&[m1, m2])?, number(&[d1, d2])?)
}
