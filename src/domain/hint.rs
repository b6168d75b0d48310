//! The retry hint: the instant at which a refused request would pass, if nothing else happens until then (R4.11).
//!
//! A Reserve passes when the deadlines of enough holds have come, or else in the next window. An Extend counts in the
//! window of its hold, so a later window does not help. It can pass only while the hold is open.

use super::{
    counter::Counter,
    id::ReservationId,
    refusal::{Retry, Violation},
    time::{Span, Time},
};

/// What must happen before a refused request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The hint is known, because it does not depend on open holds.
    Known(Retry),
    /// Open holds must free this number of units of the counter.
    Freed(i64),
}

/// A RELEASE hold, which frees its units of one counter at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeing {
    /// The id of the hold.
    pub hold: ReservationId,
    /// The deadline of the hold.
    pub deadline: Time,
    /// The units that the hold frees at its deadline.
    pub units: i64,
}

/// Returns the seconds from `now` to `at`: whole, rounded up, and at least 1.
pub fn wait_seconds(at: Time, now: Time) -> i64 {
    at.saturating_since(now).max(Span::MILLISECOND).0.saturating_add(999) / 1_000
}

impl Violation {
    /// Returns what must happen before the request passes, by the present figures of its counter.
    pub fn wait(&self, counter: &Counter, now: Time) -> Wait {
        // Waiting does not give the plan a limit that covers the resource.
        let Some(allowance) = self.balance.allowance() else { return Wait::Known(Retry::Never) };
        let [needed, committed, reserved] =
            [self.needed, counter.committed, counter.reserved].map(i128::from);
        let missing = needed + committed + reserved - i128::from(allowance);
        match i64::try_from(missing) {
            // Later operations of the same batch have already made room.
            Ok(missing) if missing <= 0 => Wait::Known(self.at(now.saturating_add(Span::MILLISECOND), now)),
            Ok(missing) if missing <= counter.reserved => Wait::Freed(missing),
            Ok(_) | Err(_) => Wait::Known(self.next_window()),
        }
    }

    /// Returns the instant at which holds have freed `missing` units. `holds` are in the order of their deadlines. If
    /// not all holds were read, `beyond` is the last deadline that was read. The hint may then be too early, but never
    /// too late.
    pub fn freed(&self, mut missing: i64, holds: &[Freeing], beyond: Option<Time>, now: Time) -> Retry {
        let own = self.extends.map(|extended| extended.hold);
        for hold in holds.iter().filter(|hold| Some(hold.hold) != own) {
            missing = missing.saturating_sub(hold.units);
            if missing <= 0 {
                return self.at(hold.deadline, now);
            }
        }
        match beyond {
            Some(deadline) => self.at(deadline, now),
            None => self.next_window(),
        }
    }

    /// Returns the instant `at`, or the end of the window if that comes first. Clients get whole seconds. So for an
    /// Extend, the rounded instant must be before `until`.
    fn at(&self, at: Time, now: Time) -> Retry {
        match self.extends {
            None => Retry::At(at.min(self.balance.counter.window.end)),
            Some(extended) => {
                let rounded = now.saturating_add(Span(wait_seconds(at, now).saturating_mul(1_000)));
                if rounded < extended.until { Retry::At(at) } else { Retry::Never }
            }
        }
    }

    fn next_window(&self) -> Retry {
        let window = self.balance.counter.window;
        let fits = self.balance.allowance().is_none_or(|allowance| self.needed <= allowance);
        if self.extends.is_none() && fits && window.has_end() { Retry::At(window.end) } else { Retry::Never }
    }
}
