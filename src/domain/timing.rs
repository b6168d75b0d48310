//! Timings: what decides which window of a limit contains an instant. A timing joins what the limit says with the
//! calendar of the tenant, and with what both said before.

use chrono_tz::Tz;

use super::{
    time::{Span, Time},
    window::{CALENDAR_LAST, Cycle, Entry, Period, WindowOfCycle, window_in},
};

/// Maximum number of calendars of a tenant, and of recurrences of a limit, with the present one.
pub const HISTORY_MAX: usize = 20;

/// Operations may still choose windows that contain an instant this long ago.
const NEEDED: Span = Span::days(35);

/// The zone of a tenant and the start of its subscription, since an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantCalendar {
    /// When the tenant got this calendar. Has no effect in the oldest calendar of a tenant.
    pub since: Time,
    /// The time zone whose local time windows of DAY and longer periods follow.
    pub zone: Tz,
    /// When the subscription of the tenant began.
    pub anchor_time: Time,
}

/// What a limit says about the beginnings of its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Recurrence {
    /// The limit itself gives the anchors.
    OfLimit(Cycle),
    /// The anchors follow from the start of the tenant's subscription.
    OfTenant {
        /// The unit in which the length of a window is given.
        period: Period,
        /// The number of periods in one window, 1 or more.
        interval: u16,
    },
}

impl Recurrence {
    /// Returns the unit in which the length of a window is given.
    pub fn period(self) -> Period {
        match self {
            Recurrence::OfLimit(cycle) => cycle.period(),
            Recurrence::OfTenant { period, .. } => period,
        }
    }

    /// Returns the cycle of the limit's windows for a tenant with this calendar.
    pub fn cycle(self, calendar: &TenantCalendar) -> Cycle {
        match self {
            Recurrence::OfLimit(cycle) => cycle,
            Recurrence::OfTenant { period, interval } => {
                Cycle::of_anchor_time(period, interval, calendar.zone, calendar.anchor_time)
            }
        }
    }

    /// Returns the nominal length of a window, see [`Cycle::nominal_length`].
    pub fn nominal_length(self) -> Span {
        match self {
            Recurrence::OfLimit(cycle) => cycle.nominal_length(),
            Recurrence::OfTenant { period, interval } => period.nominal_length(interval),
        }
    }
}

/// A recurrence that a limit had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PastRecurrence {
    /// When the limit got another recurrence.
    pub until: Time,
    /// What the limit said before.
    pub recurrence: Recurrence,
}

/// What a limit says about the beginnings of its windows, now and before. All recurrences have the same period.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timing {
    /// What the limit says now.
    pub present: Recurrence,
    /// What the limit said before, the oldest first.
    pub past: Vec<PastRecurrence>,
}

/// The timing of a meter, which has one window without an end.
pub static METER: Timing = Timing { present: Recurrence::OfLimit(Cycle::METER), past: Vec::new() };

impl From<Recurrence> for Timing {
    /// Makes the timing of a limit that has never changed its anchors.
    fn from(present: Recurrence) -> Self {
        Self { present, past: Vec::new() }
    }
}

impl From<Cycle> for Timing {
    /// Makes the timing of a limit that gives its anchors itself, and has never changed them.
    fn from(cycle: Cycle) -> Self {
        Recurrence::OfLimit(cycle).into()
    }
}

impl Timing {
    /// Returns the unit in which the length of a window is given.
    pub fn period(&self) -> Period {
        self.present.period()
    }

    /// Returns the window that contains the instant `at`, for a tenant with these calendars.
    pub fn window(&self, calendars: &[TenantCalendar], at: Time) -> WindowOfCycle {
        window_in(&self.history(calendars), at)
    }

    /// Returns whether a window with this cycle and this start is a window of the limit, for a tenant with these
    /// calendars. If neither the limit nor the tenant has a history, does not check the start: a window that begins
    /// elsewhere, after a change of somebody's calendar, has another cycle.
    pub fn has_window(&self, calendars: &[TenantCalendar], cycle: Cycle, start: Time) -> bool {
        match self.only_cycle(calendars) {
            // The windows of ROLLING are not the calendar's.
            _ if cycle.period() == Period::Rolling => self.present == Recurrence::OfLimit(cycle),
            Some((_, only)) => only == cycle,
            None => {
                let found = self.window(calendars, start);
                found.cycle == cycle && found.window.start == start
            }
        }
    }

    /// Returns the zone and the cycle of all windows. `None`: the limit or the tenant has a history.
    pub fn only_cycle(&self, calendars: &[TenantCalendar]) -> Option<(Tz, Cycle)> {
        match (calendars, self.past.as_slice()) {
            ([calendar], []) => Some((calendar.zone, self.present.cycle(calendar))),
            _ => None,
        }
    }

    /// Returns the history of the limit's windows for a tenant with these calendars: one entry for each combination of a
    /// recurrence and a calendar, the oldest first.
    pub fn history(&self, calendars: &[TenantCalendar]) -> Vec<Entry> {
        let changes = self.past.iter().map(|past| past.until);
        let mut instants: Vec<Time> =
            changes.chain(calendars.iter().skip(1).map(|calendar| calendar.since)).collect();
        instants.sort_unstable();
        instants.dedup();
        let first = std::iter::once(Time::MIN);
        let entry = |since: Time| {
            let begun = calendars.iter().skip(1).take_while(|calendar| calendar.since <= since).count();
            let over = self.past.iter().take_while(|past| past.until <= since).count();
            let recurrence = self.past.get(over).map_or(self.present, |past| past.recurrence);
            let calendar = &calendars[begun];
            Entry { since, zone: calendar.zone, cycle: recurrence.cycle(calendar) }
        };
        let mut history: Vec<Entry> = first.chain(instants).map(entry).collect();
        // The zone does not matter to periods of UTC.
        history.dedup_by_key(|entry| (entry.cycle, entry.cycle.period().is_local().then_some(entry.zone)));
        history
    }

    /// Returns the longest nominal length of a window, now and before.
    fn longest(&self) -> Span {
        let past = self.past.iter().map(|past| past.recurrence.nominal_length());
        past.fold(self.present.nominal_length(), Span::max)
    }

    /// Returns this timing after a change of the recurrence at `now`.
    ///
    /// # Errors
    ///
    /// Refuses the change if the history is full.
    pub fn changed(mut self, present: Recurrence, now: Time) -> Result<Self, FullHistory> {
        if present != self.present {
            let untils: Vec<Time> = self.past.iter().map(|past| past.until).chain([now]).collect();
            let dropped = settled(&untils, self.longest().max(present.nominal_length()))?;
            self.past.push(PastRecurrence { until: now, recurrence: self.present });
            self.past.drain(..dropped);
            self.present = present;
        }
        Ok(self)
    }
}

/// Returns the calendars of a tenant after a change at `now`. `limits` are the timings of the limits of the tenant's
/// plan. The new calendar begins at `now`, whatever it says itself.
///
/// # Errors
///
/// Refuses the change if the history is full.
pub fn changed_calendars<'a>(
    calendars: &[TenantCalendar],
    present: TenantCalendar,
    limits: impl Iterator<Item = &'a Timing>,
    now: Time,
) -> Result<Vec<TenantCalendar>, FullHistory> {
    // The windows of ROLLING do not depend on a calendar.
    let ended = limits.filter(|limit| limit.period() != Period::Rolling);
    let ended = ended.map(Timing::longest).filter(|length| *length != Span::MAX);
    let untils: Vec<Time> = calendars.iter().skip(1).map(|calendar| calendar.since).chain([now]).collect();
    let dropped = settled(&untils, ended.max().unwrap_or_default())?;
    let present = TenantCalendar { since: now, ..present };
    Ok(calendars[dropped..].iter().copied().chain([present]).collect())
}

/// A history is full, and windows can depend on its oldest entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullHistory {
    /// When the change will be possible. [`Time::NEVER`]: never.
    pub until: Time,
}

/// Returns how many of the oldest entries of a history can be dropped, so that no window of the last 35 days or of the
/// future changes. Drops none from a history that is not full.
///
/// `untils` are the ends of the entries: the last one is that of the present entry, which ends now. No window is
/// nominally longer than `longest`. A window that runs when an entry begins, and the window after it, have at most 1.5
/// times the nominal length and a day or a sixteenth more. After both the windows of the entry are those of its own
/// calendar, if the entry lasts as long. From then on nothing depends on the entries before.
fn settled(untils: &[Time], longest: Span) -> Result<usize, FullHistory> {
    let now = untils.last().copied().unwrap_or_default();
    if untils.len() < HISTORY_MAX {
        return Ok(0);
    }
    let bound = Span(longest.0.saturating_mul(25) / 8).saturating_add(Span::days(1));
    let mut until = Time::NEVER;
    for dropped in (1..untils.len()).rev() {
        let own = untils[dropped - 1].saturating_add(bound);
        let is_last = dropped + 1 == untils.len();
        if is_last || own <= untils[dropped] {
            let possible = own.saturating_add(NEEDED);
            if possible <= now {
                return Ok(dropped);
            }
            until = until.min(possible);
        }
    }
    Err(FullHistory { until })
}

impl std::fmt::Display for FullHistory {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("must not change again")?;
        // Rounded up: before the whole second the change would be refused again.
        let until = chrono::DateTime::from_timestamp_secs(self.until.0.saturating_add(999).div_euclid(1000));
        if let Some(until) = until.filter(|_| self.until < CALENDAR_LAST) {
            write!(to, " before {}", until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))?;
        }
        write!(to, ", because windows can depend on the oldest of the last {HISTORY_MAX} calendars")
    }
}

#[cfg(test)]
#[path = "timing_tests.rs"]
mod tests;
