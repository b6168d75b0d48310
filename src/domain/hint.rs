//! The retry hint: when a refused request would pass, if nothing else happens until then.
//!
//! A Reserve passes when enough of what is held has been given back, and at the latest in the next window. An Extend
//! counts in the window of its hold, so no later window helps, and it is of use only as long as the hold is open.

use super::{
    counter::Counter,
    id::ReservationId,
    refusal::Violation,
    window::{Millis, WINDOW_END_NONE},
};

/// When to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Waiting never helps.
    Never,
    /// From this instant on the request passes.
    At(Millis),
}

/// The hold that a refused request would have extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// The hold, whose own quantity is no help to it.
    pub hold: ReservationId,
    /// From this instant on the same Extend is refused for another reason: the hold's deadline has come, or the new one
    /// would be too far away.
    pub until: Millis,
}

/// What a refused request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing that open holds could give back.
    Over(Retry),
    /// So many units of the counter, which open holds have.
    Freed(i64),
}

/// A hold that gives back at its deadline what it holds of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeing {
    /// The hold.
    pub hold: ReservationId,
    /// When it ends.
    pub deadline: Millis,
    /// The units that are free then.
    pub units: i64,
}

/// Whole seconds to wait for an instant: rounded up, and at least 1.
pub fn wait_seconds(at: Millis, now: Millis) -> i64 {
    at.saturating_sub(now).max(1).saturating_add(999) / 1_000
}

impl Violation {
    /// What the request waits for, by the figures of its counter.
    pub fn wait(&self, counter: &Counter, now: Millis) -> Wait {
        let allowance = self.balance.allowance().unwrap_or(i64::MAX);
        let [needed, committed, reserved] =
            [self.needed, counter.committed, counter.reserved].map(i128::from);
        let missing = needed + committed + reserved - i128::from(allowance);
        match i64::try_from(missing) {
            // What came after it in the batch has made room.
            Ok(missing) if missing <= 0 => Wait::Over(self.at(now.saturating_add(1), now)),
            Ok(missing) if missing <= counter.reserved => Wait::Freed(missing),
            Ok(_) | Err(_) => Wait::Over(self.next_window()),
        }
    }

    /// When holds have given back so many units. The holds are in the order of their deadlines; `beyond` is the last
    /// deadline that was looked at when there are more holds, and then the hint may be too early, and is never too late.
    pub fn freed(&self, mut missing: i64, holds: &[Freeing], beyond: Option<Millis>, now: Millis) -> Retry {
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

    /// At an instant, or in the next window if that comes first. The hint is told in whole seconds, so it is these that
    /// must not be too late.
    fn at(&self, at: Millis, now: Millis) -> Retry {
        match self.extends {
            None => Retry::At(at.min(self.balance.counter.window.end)),
            Some(extended) => {
                let told = now.saturating_add(wait_seconds(at, now).saturating_mul(1_000));
                if told < extended.until { Retry::At(at) } else { Retry::Never }
            }
        }
    }

    fn next_window(&self) -> Retry {
        let end = self.balance.counter.window.end;
        let fits = self.balance.allowance().is_none_or(|allowance| self.needed <= allowance);
        if self.extends.is_none() && fits && end != WINDOW_END_NONE { Retry::At(end) } else { Retry::Never }
    }
}
