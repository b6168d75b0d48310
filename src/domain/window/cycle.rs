//! Cycles: what decides where the windows of a limit begin, apart from the zone.

use std::ops::RangeInclusive;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use chrono_tz::Tz;

use super::{
    super::time::{Span, Time},
    CALENDAR_FIRST, CALENDAR_LAST,
    anchors::{self, Anchors, Fault},
    boundaries::{Beginnings, Dates, local_time},
    period::Period,
};

/// What decides where windows begin, apart from the zone: a period, an interval, and the anchors of the period.
///
/// A cycle of ROLLING has a duration instead of an interval and anchors, and its windows begin with the first use.
///
/// Two cycles are equal if and only if their bytes are equal. An origin is kept as the `phase`, which is the origin's
/// distance from 1970 modulo the interval. So origins that are whole intervals apart make equal cycles.
///
/// The bytes are the period's code, the anchor, and nothing else if the rest says what it says by default. Otherwise
/// they are the period's code, [`LONG_FORM`] or [`LONG_FORM_OF_TRANSITION`], the anchor (1 byte), the month (1), and the
/// minute, the interval and the phase (2 each, big-endian). A cycle of ROLLING has [`LONG_FORM`] and its duration in
/// milliseconds (8, big-endian) after the period's code. An anchor is at most 31, so the second byte says how many bytes follow, and no cycle's
/// bytes begin with another cycle's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cycle {
    period: Period,
    /// Of MONTH and YEAR the day of the month, 1-31; of WEEK the weekday, 1-7 from Monday; otherwise 0.
    anchor: u8,
    /// Of YEAR the month, 1-12; otherwise 0.
    month: u8,
    /// The minute of the day at which days begin; 0 for periods shorter than DAY and for those without an end.
    minute: u16,
    /// The number of periods in one window, 1 or more.
    interval: u16,
    /// Whether the window is the first one after a change of the calendar, and no window of the calendar itself.
    transition: bool,
    /// The place of the origin within an interval: in minutes for MINUTE and HOUR, otherwise in periods.
    phase: u16,
    /// Of ROLLING the length of a window; otherwise 0.
    duration: Span,
}

/// The second byte of a cycle in the long form. In the short form this byte is the anchor.
const LONG_FORM: u8 = 0x80;

/// The second byte of a cycle's bytes if the window is the first one after a change of the calendar.
const LONG_FORM_OF_TRANSITION: u8 = 0x81;

/// Length of the short form of a cycle's bytes.
const SHORT_LENGTH: usize = 2;

/// Length of the long form of a cycle's bytes.
const LONG_LENGTH: usize = 10;

/// How long a window of ROLLING may last.
const DURATION: RangeInclusive<Span> = Span::minutes(1)..=Span::days(400);

/// 1970-01-05, the first Monday, in days since 1970-01-01.
const FIRST_MONDAY: i32 = 4;

impl Cycle {
    /// The cycle of a meter, which has one window without an end.
    pub const METER: Cycle = Cycle::plain(Period::Meter);

    /// Returns the cycle that the period has by default: an interval of 1, and the first day of the period from
    /// midnight on.
    pub const fn plain(period: Period) -> Self {
        let (anchor, month) = match period {
            Period::Meter
            | Period::Minute
            | Period::Hour
            | Period::Day
            | Period::Lifetime
            | Period::Rolling => (0, 0),
            Period::Week | Period::Month => (1, 0),
            Period::Year => (1, 1),
        };
        Self {
            period,
            anchor,
            month,
            minute: 0,
            interval: 1,
            transition: false,
            phase: 0,
            duration: Span::ZERO,
        }
    }

    /// Makes the cycle of windows that begin with the first use, and last as long as `duration`.
    ///
    /// # Errors
    ///
    /// Returns what the duration must be if it is at fault.
    pub fn rolling(duration: Span) -> Result<Self, Fault> {
        let cycle = Self { duration, ..Self::plain(Period::Rolling) };
        let must_be = "must be 1 minute to 400 days, in whole seconds, such as 18000s";
        if cycle.is_valid() { Ok(cycle) } else { Err(("duration", must_be)) }
    }

    /// Makes the cycle that a request describes, of any period but ROLLING.
    ///
    /// # Errors
    ///
    /// Returns every field at fault, with what the field must be.
    pub fn new(period: Period, anchors: &Anchors<'_>) -> Result<Self, Vec<Fault>> {
        let checked = anchors.check(period)?;
        let weekday_or_day = checked.weekday.max(checked.day);
        let cycle = Self {
            period,
            anchor: weekday_or_day,
            month: checked.month,
            minute: checked.minute,
            interval: checked.interval,
            transition: false,
            phase: 0,
            duration: Span::ZERO,
        };
        let origin = checked.origin.unwrap_or(match period {
            Period::Week => date_of(FIRST_MONDAY),
            _ => NaiveDate::default(),
        });
        Ok(cycle.with_origin(origin, i64::from(origin.to_epoch_days()) * 24 * 60))
    }

    /// Makes the cycle of a tenant whose subscription began at `instant`. All anchors are those of local
    /// time at the instant. MINUTE and HOUR count from the instant itself, to
    /// the whole minute in UTC. `interval` is one that [`interval_of`] returned.
    pub fn of_anchor_time(period: Period, interval: u16, zone: Tz, instant: Time) -> Self {
        let instant = instant.clamp(CALENDAR_FIRST, CALENDAR_LAST);
        let local = local_time(zone, instant);
        let small = |number: u32| u8::try_from(number).expect("no weekday, day or month is above 31");
        let plain = Self::plain(period);
        let cycle = Self {
            interval,
            anchor: match period {
                Period::Week => small(local.weekday().number_from_monday()),
                Period::Month | Period::Year => small(local.day()),
                _ => plain.anchor,
            },
            month: if period == Period::Year { small(local.month()) } else { plain.month },
            minute: if period.is_local() { minute_of_day(local) } else { plain.minute },
            ..plain
        };
        cycle.with_origin(local.date(), instant.0.div_euclid(Span::minutes(1).0))
    }

    /// Returns the cycle with the phase of an origin: `date` for DAY and longer periods, and `minutes` since
    /// 1970-01-01 UTC for MINUTE and HOUR.
    fn with_origin(self, date: NaiveDate, minutes: i64) -> Self {
        let periods = match self.period {
            Period::Meter | Period::Lifetime | Period::Rolling => 0,
            Period::Minute | Period::Hour => minutes,
            Period::Day => i64::from(date.to_epoch_days()),
            Period::Week => i64::from((date.to_epoch_days() - self.first_weekday()).div_euclid(7)),
            Period::Month => i64::from(date.year() - 1970) * 12 + i64::from(date.month0()),
            Period::Year => i64::from(date.year() - 1970),
        };
        let phase = periods.rem_euclid(i64::from(self.phases()));
        Self { phase: u16::try_from(phase).expect("there are at most 60,000 phases"), ..self }
    }

    /// Returns the cycle for the key of a window that is the first one after a change to this cycle, and none of its own
    /// windows. So no limit that has always had this cycle reads the window's counters.
    pub(super) fn of_transition(self) -> Self {
        Self { transition: true, ..self }
    }

    /// Returns the unit in which the length of a window is given.
    pub fn period(self) -> Period {
        self.period
    }

    /// Returns the number of periods in one window, 1 or more.
    pub fn interval(self) -> u16 {
        self.interval
    }

    /// Returns the anchors of the cycle as a request gives them, with defaults applied. The origin is not among them.
    pub fn anchors(self) -> Anchors<'static> {
        let (weekday, day) = if self.period == Period::Week { (self.anchor, 0) } else { (0, self.anchor) };
        Anchors {
            interval: if anchors::interval_max(self.period) == 1 { 0 } else { i32::from(self.interval) },
            anchor_day: i32::from(day),
            anchor_weekday: i32::from(weekday),
            anchor_month: i32::from(self.month),
            anchor_minute: i32::from(self.minute),
            origin_date: "",
        }
    }

    /// Returns the nominal length of a window, see [`Period::nominal_length`]. Of ROLLING, the length of a window.
    pub fn nominal_length(self) -> Span {
        self.rolling_length().unwrap_or_else(|| self.period.nominal_length(self.interval))
    }

    /// Returns the length of a window of ROLLING. `None`: the cycle has another period.
    pub fn rolling_length(self) -> Option<Span> {
        (self.period == Period::Rolling).then_some(self.duration)
    }

    /// Returns where windows begin.
    pub(super) fn beginnings(self) -> Beginnings {
        let (interval, phase) = (i32::from(self.interval), i32::from(self.phase));
        let dates = match self.period {
            Period::Meter | Period::Lifetime | Period::Rolling => return Beginnings::Never,
            Period::Minute | Period::Hour => {
                let first = Time::EPOCH + Span::minutes(i64::from(self.phase));
                return Beginnings::Utc { first, step: self.nominal_length() };
            }
            Period::Day => Dates::Days { first: phase, step: interval },
            Period::Week => Dates::Days { first: self.first_weekday() + 7 * phase, step: 7 * interval },
            Period::Month => Dates::Months { first: phase, step: interval, day: self.anchor },
            Period::Year => {
                let first = 12 * phase + i32::from(self.month) - 1;
                Dates::Months { first, step: 12 * interval, day: self.anchor }
            }
        };
        Beginnings::Local { dates, minute: self.minute }
    }

    /// Returns the first of the anchor weekdays since 1970-01-05, in days since 1970-01-01.
    fn first_weekday(self) -> i32 {
        FIRST_MONDAY + i32::from(self.anchor) - 1
    }

    /// Returns how many different phases the cycle may have.
    fn phases(self) -> u16 {
        if self.period == Period::Hour { self.interval * 60 } else { self.interval }
    }

    /// Appends the bytes that stand for the cycle in keys: 2 or 10.
    pub fn encode(self, bytes: &mut Vec<u8>) {
        bytes.push(self.period.code());
        if self.period == Period::Rolling {
            bytes.push(LONG_FORM);
            bytes.extend_from_slice(&self.duration.0.to_be_bytes());
            return;
        }
        if self == (Self { anchor: self.anchor, ..Self::plain(self.period) }) {
            bytes.push(self.anchor);
            return;
        }
        let form = if self.transition { LONG_FORM_OF_TRANSITION } else { LONG_FORM };
        bytes.extend_from_slice(&[form, self.anchor, self.month]);
        for number in [self.minute, self.interval, self.phase] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Reads the cycle whose bytes these bytes begin with. Returns the cycle and the bytes after it. `None`: no cycle
    /// has such bytes.
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let &[code, second, ..] = bytes else { return None };
        let plain = Self::plain(Period::from_code(code)?);
        if plain.period == Period::Rolling {
            let (duration, rest) = bytes.get(SHORT_LENGTH..)?.split_first_chunk()?;
            let cycle = Self { duration: Span(i64::from_be_bytes(*duration)), ..plain };
            return (second == LONG_FORM && cycle.is_valid()).then_some((cycle, rest));
        }
        if second != LONG_FORM && second != LONG_FORM_OF_TRANSITION {
            let cycle = Self { anchor: second, ..plain };
            return cycle.is_valid().then_some((cycle, &bytes[SHORT_LENGTH..]));
        }
        let (long, rest) = bytes.split_at_checked(LONG_LENGTH)?;
        let number = |place: usize| u16::from_be_bytes([long[place], long[place + 1]]);
        let cycle = Self {
            period: plain.period,
            anchor: long[2],
            month: long[3],
            minute: number(4),
            interval: number(6),
            transition: second == LONG_FORM_OF_TRANSITION,
            phase: number(8),
            duration: Span::ZERO,
        };
        let is_short = cycle == Self { anchor: cycle.anchor, ..plain };
        (cycle.is_valid() && !is_short).then_some((cycle, rest))
    }

    /// Returns whether each part of the cycle is one that its period can have.
    fn is_valid(self) -> bool {
        if self.period == Period::Rolling {
            let is_whole = self.duration.0 % Span::seconds(1).0 == 0;
            return is_whole && DURATION.contains(&self.duration) && !self.transition;
        }
        let (weekday, day) = if self.period == Period::Week { (self.anchor, 0) } else { (0, self.anchor) };
        anchors::DAY.has(self.period, day.into())
            && anchors::WEEKDAY.has(self.period, weekday.into())
            && anchors::MONTH.has(self.period, self.month.into())
            && anchors::MINUTE.has(self.period, self.minute)
            && (1..=anchors::interval_max(self.period)).contains(&self.interval)
            && self.phase < self.phases()
            && (!self.transition || self.nominal_length() != Span::MAX)
    }
}

/// Returns the interval that a request gives, with the default applied.
///
/// # Errors
///
/// Returns what the interval must be if it is at fault.
pub fn interval_of(period: Period, given: i32) -> Result<u16, Fault> {
    anchors::check_interval(period, given)
}

fn date_of(days: i32) -> NaiveDate {
    NaiveDate::from_epoch_days(days).expect("chrono's dates reach far beyond 1970")
}

fn minute_of_day(local: NaiveDateTime) -> u16 {
    u16::try_from(local.hour() * 60 + local.minute()).expect("a day has 1,440 minutes")
}
