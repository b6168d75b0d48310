//! An independent model of the calendar: it looks at each date by itself, and walks through local time.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::*;

/// What a request says about the windows of a limit, in numbers with defaults applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) period: Period,
    pub(super) interval: i32,
    pub(super) day: i32,
    pub(super) weekday: i32,
    pub(super) month: i32,
    pub(super) minute: i32,
    pub(super) origin: NaiveDate,
}

impl Given {
    pub(super) fn cycle(self) -> Cycle {
        let Self { period, interval, .. } = self;
        let has = |periods: &[Period], number: i32| if periods.contains(&period) { number } else { 0 };
        let origin = self.origin.to_string();
        let anchors = Anchors {
            interval,
            anchor_day: has(&[Period::Month, Period::Year], self.day),
            anchor_weekday: has(&[Period::Week], self.weekday),
            anchor_month: has(&[Period::Year], self.month),
            anchor_minute: has(&[Period::Day, Period::Week, Period::Month, Period::Year], self.minute),
            origin_date: if interval > 1 { &origin } else { "" },
        };
        super::cycle(period, anchors)
    }

    /// Returns the length of a window of MINUTE or HOUR. `None` for other periods.
    fn fixed_length(self) -> Option<Millis> {
        let interval = Millis::from(self.interval);
        match self.period {
            Period::Minute => Some(interval * MINUTE),
            Period::Hour => Some(interval * HOUR),
            _ => None,
        }
    }

    pub(super) fn half_nominal(self) -> Millis {
        let days = match self.period {
            Period::Day => 1,
            Period::Week => 7,
            Period::Month => 30,
            Period::Year => 365,
            _ => return self.fixed_length().unwrap() / 2,
        };
        days * Millis::from(self.interval) * DAY / 2
    }

    /// Returns whether a window begins on this date.
    fn begins_on(self, date: NaiveDate) -> bool {
        let is_month_end = date.succ_opt().unwrap().month() != date.month();
        let day = i32::try_from(date.day()).unwrap();
        let is_day = day == self.day || (is_month_end && day < self.day);
        match self.period {
            Period::Day => (date - self.origin).num_days() % i64::from(self.interval) == 0,
            Period::Week => {
                let of_week = |date: NaiveDate| {
                    let is_first =
                        |date: &NaiveDate| date.weekday().number_from_monday() == self.weekday.unsigned_abs();
                    date.iter_days().rev().find(is_first).unwrap()
                };
                of_week(date) == date
                    && (date - of_week(self.origin)).num_days() % (7 * i64::from(self.interval)) == 0
            }
            Period::Month => {
                let years = date.year() - self.origin.year();
                let months = date.month0().cast_signed() - self.origin.month0().cast_signed();
                is_day && (12 * years + months) % self.interval == 0
            }
            Period::Year => {
                is_day
                    && date.month() == self.month.unsigned_abs()
                    && (date.year() - self.origin.year()) % self.interval == 0
            }
            _ => panic!("{:?} has no dates", self.period),
        }
    }

    /// Returns the first boundary at `from` or later.
    pub(super) fn boundary_from(self, zone: Tz, from: Millis) -> Millis {
        if let Some(length) = self.fixed_length() {
            let origin = self.origin.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
            return from + (origin - from).rem_euclid(length);
        }
        let mut date = wall_time(zone, from).date() - TimeDelta::days(2);
        loop {
            let boundary = self.begins_on(date).then(|| reached(zone, date, self.minute));
            if let Some(boundary) = boundary.filter(|boundary| *boundary >= from) {
                return boundary;
            }
            date = date.succ_opt().unwrap();
        }
    }

    /// Returns the last boundary at `until` or earlier.
    fn boundary_until(self, zone: Tz, until: Millis) -> Millis {
        if let Some(length) = self.fixed_length() {
            return self.boundary_from(zone, until + 1) - length;
        }
        let mut date = wall_time(zone, until).date() + TimeDelta::days(2);
        loop {
            let boundary = self.begins_on(date).then(|| reached(zone, date, self.minute));
            if let Some(boundary) = boundary.filter(|boundary| *boundary <= until) {
                return boundary;
            }
            date = date.pred_opt().unwrap();
        }
    }

    pub(super) fn window(self, zone: Tz, at: Millis) -> Window {
        Window { start: Time(self.boundary_until(zone, at)), end: Time(self.boundary_from(zone, at + 1)) }
    }
}

/// Walks through time in steps of a quarter of an hour, until local time has reached the minute of the date. If local
/// time shows no instant of the date, the date after it stands for it.
fn reached(zone: Tz, date: NaiveDate, minute: i32) -> Millis {
    const STEP: Millis = HOUR / 4;
    let wanted = date.and_time(chrono::NaiveTime::MIN) + TimeDelta::minutes(minute.into());
    let middle = wanted.and_utc().timestamp_millis();
    // Before this instant local time cannot have reached the minute, whichever of the offsets around it holds.
    let offset = |away: Millis| Millis::from(offset_seconds(zone, middle + away)) * 1000;
    let mut last = middle - offset(-36 * HOUR).max(offset(0)).max(offset(36 * HOUR)) - 2 * HOUR;
    while wall_time(zone, last) < wanted {
        last += STEP;
    }
    let instant = refine(last - STEP, last, |at| wall_time(zone, at) >= wanted);
    // It was reached by a leap of a day, which may have left the date out.
    if wall_time(zone, instant).date() > date {
        let noon = date.and_hms_opt(12, 0, 0).unwrap().and_utc().timestamp_millis();
        let mut instants = (noon - 40 * HOUR..noon + 40 * HOUR).step_by(usize::try_from(STEP).unwrap());
        if instants.all(|at| wall_time(zone, at).date() != date) {
            return reached(zone, date.succ_opt().unwrap(), minute);
        }
    }
    instant
}

/// Returns the first instant after `no`, up to `yes`, for which `answer` is true. It must stay true from there on.
fn refine(mut no: Millis, mut yes: Millis, answer: impl Fn(Millis) -> bool) -> Millis {
    while yes - no > 1 {
        let middle = no + (yes - no) / 2;
        if answer(middle) { yes = middle } else { no = middle }
    }
    yes
}

fn wall_time(zone: Tz, at: Millis) -> NaiveDateTime {
    let seconds = at.div_euclid(1000) + i64::from(offset_seconds(zone, at));
    DateTime::from_timestamp_secs(seconds).unwrap().naive_utc()
}

pub(super) fn offset_seconds(zone: Tz, at: Millis) -> i32 {
    let utc = DateTime::from_timestamp_millis(at).unwrap().naive_utc();
    zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()
}

/// Follows the windows of a calendar with a history one by one, from the window that contains `from`. The history's
/// changes come after that window's start.
pub(super) fn windows(history: &[(Millis, Tz, Given)], from: Millis, until: Millis) -> Vec<Window> {
    let (_, mut zone, mut given) = history[0];
    let mut window = given.window(zone, from);
    let mut windows = Vec::new();
    while window.start.0 < until {
        windows.push(window);
        let within = history[1..].iter().rfind(|(since, ..)| window.contains(Time(*since)));
        let earliest = match within {
            Some(change) => {
                (_, zone, given) = *change;
                window.end.0 + given.half_nominal()
            }
            None => window.end.0 + 1,
        };
        window = Window { start: window.end, end: Time(given.boundary_from(zone, earliest)) };
    }
    windows
}

pub(super) fn zones() -> impl Strategy<Value = Tz> {
    proptest::sample::select(&TZ_VARIANTS[..])
}

pub(super) fn periods() -> impl Strategy<Value = Period> {
    use Period::{Day, Hour, Minute, Month, Week, Year};
    proptest::sample::select(&[Minute, Hour, Day, Week, Month, Year][..])
}

pub(super) fn given_of(period: Period) -> impl Strategy<Value = Given> {
    let most = match period {
        Period::Minute => 1_440,
        Period::Hour | Period::Day => 1_000,
        Period::Week => 520,
        Period::Month => 120,
        _ => 100,
    };
    let interval = prop_oneof![3 => Just(1), 2 => 2..=7, 1 => 1..=most];
    // Most changes of the clock are between midnight and four.
    let minute = prop_oneof![3 => Just(0), 2 => 0..=240, 1 => 0..=1_439];
    // From 1925 to 2106.
    let origin = (-16_436..50_000).prop_map(|days| NaiveDate::from_epoch_days(days).unwrap());
    (interval, 1..=31, 1..=7, 1..=12, minute, origin).prop_map(
        move |(interval, day, weekday, month, minute, origin)| Given {
            period,
            interval,
            day,
            weekday,
            month,
            minute,
            origin,
        },
    )
}

pub(super) fn givens() -> impl Strategy<Value = Given> {
    periods().prop_flat_map(given_of)
}
