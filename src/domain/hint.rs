//! The retry hint: the instant at which a refused request would pass, if nothing else happens until then (R4.11).
//!
//! A Reserve passes when the deadlines of enough holds have come, or else in the next window. If the limit carries over,
//! the next window depends on this window, see [`super::outlook`]. An Extend counts in
//! the window of its hold, so a later window does not help. It can pass only while the hold is open.

pub use super::outlook::Freeing;
use super::{
    counter::Counter,
    outlook::Outlook,
    plan::{Enforcement, Limit},
    refusal::{Retry, Violation},
    time::{Span, Time},
};

/// What must happen before a refused request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The hint is known, because it does not depend on open holds.
    Known(Retry),
    /// The hint depends on the open holds that free units of the counter.
    Freed,
}

/// A version of a limit, and since when it applies. Overrides make versions.
struct Stage {
    from: Time,
    /// What the limit permits in a window. `None`: the limit refuses nothing.
    allowance: Option<i64>,
}

/// Returns the seconds from `now` to `at`: whole, rounded up, and at least 1.
pub fn wait_seconds(at: Time, now: Time) -> i64 {
    at.saturating_since(now).max(Span::MILLISECOND).0.saturating_add(999) / 1_000
}

impl Violation {
    /// Returns what must happen before the request passes, by the present figures of its counter.
    pub fn wait(&self, counter: &Counter, now: Time) -> Wait {
        let stages = self.stages(now);
        // Waiting does not give the plan a limit that covers the resource.
        let Some(present) = stages.first() else { return Wait::Known(Retry::Never) };
        // Later operations of the same batch have already made room.
        if self.missing(counter, present) <= 0 {
            return Wait::Known(self.at(now.saturating_add(Span::MILLISECOND), now));
        }
        let reserved = i128::from(counter.reserved);
        let is_freed = |stage| (1..=reserved).contains(&self.missing(counter, stage));
        if stages.iter().any(is_freed) || (reserved > 0 && self.carrying().is_some()) {
            return Wait::Freed;
        }
        Wait::Known(self.passes(counter, &[], None, now))
    }

    /// Returns the instant at which the request passes. `holds` are the holds that free units of the counter, in the
    /// order of their deadlines. If not all holds were read, `beyond` is the last deadline that was read. The hint may
    /// then be too early, but never too late.
    pub fn passes(&self, counter: &Counter, holds: &[Freeing], beyond: Option<Time>, now: Time) -> Retry {
        if let Some(limit) = self.carrying() {
            let outlook = Outlook { violation: self, limit, counter, holds, beyond, now };
            return outlook.first().map_or(Retry::Never, |at| self.at(at, now));
        }
        let stages = self.stages(now);
        for (place, stage) in stages.iter().enumerate() {
            let until = stages.get(place + 1).map_or(Time::NEVER, |next| next.from);
            let missing = self.missing(counter, stage);
            let freed = if missing <= 0 {
                Some(stage.from)
            } else if missing <= i128::from(counter.reserved) {
                self.freed(missing, holds).or(beyond)
            } else {
                None
            };
            let at = [freed, self.next_window(stage)].into_iter().flatten().min();
            match at.map(|at| at.max(stage.from)) {
                Some(at) if at < until => return self.at(at, now),
                Some(_) | None => {}
            }
        }
        Retry::Never
    }

    /// Returns the limit if it carries over to later windows, and the request can pass in them.
    fn carrying(&self) -> Option<&Limit> {
        let is_carrying = self.extends.is_none() && !self.calendars.is_empty();
        self.balance.limit.as_deref().filter(|limit| is_carrying && limit.carry.is_some())
    }

    /// Returns the versions of the limit that apply now and later. Empty: the balance has no limit.
    fn stages(&self, now: Time) -> Vec<Stage> {
        let stage = |from, limit: &Limit| {
            let is_hard = limit.enforcement == Enforcement::Hard;
            Stage { from, allowance: is_hard.then_some(limit.quantity.saturating_add(self.balance.carried)) }
        };
        let present =
            self.balance.allowance().map(|allowance| Stage { from: now, allowance: Some(allowance) });
        let present = present.into_iter();
        present.chain(self.later.iter().map(|(from, limit)| stage(*from, limit))).collect()
    }

    /// Returns the units that are missing before the request fits into the counter. 0 or less: the request fits.
    fn missing(&self, counter: &Counter, stage: &Stage) -> i128 {
        let [needed, committed, reserved] =
            [self.needed, counter.committed, counter.reserved].map(i128::from);
        stage.allowance.map_or(0, |allowance| needed + committed + reserved - i128::from(allowance))
    }

    /// Returns the instant at which holds have freed `missing` units. `None`: these holds free fewer units.
    fn freed(&self, mut missing: i128, holds: &[Freeing]) -> Option<Time> {
        let own = self.extends.map(|extended| extended.hold);
        let mut others = holds.iter().filter(|hold| Some(hold.hold) != own);
        others.find_map(|hold| {
            missing -= i128::from(hold.units);
            (missing <= 0).then_some(hold.deadline)
        })
    }

    /// Returns the hint for the instant `at`. Clients get whole seconds. So for an Extend, the rounded instant must be
    /// before `until`.
    fn at(&self, at: Time, now: Time) -> Retry {
        let rounded = now.saturating_add(Span(wait_seconds(at, now).saturating_mul(1_000)));
        match self.extends {
            Some(extended) if rounded >= extended.until => Retry::Never,
            Some(_) | None => Retry::At(at),
        }
    }

    /// Returns the hint for a tenant whose plan changes at `change`: that instant at the latest, since nobody knows now
    /// what the other plan will refuse then. An Extend that is refused for another reason by then is not helped.
    pub fn with_change_of_plan(&self, retry: Retry, change: Time, now: Time) -> Retry {
        let rounded = now.saturating_add(Span(wait_seconds(change, now).saturating_mul(1_000)));
        match (retry, self.extends) {
            (Retry::At(at), _) if at <= change => retry,
            (_, Some(extended)) if rounded >= extended.until => retry,
            (_, _) => Retry::At(change),
        }
    }

    /// Returns the start of the next window, if the request fits into it. An Extend counts in the window of its hold.
    fn next_window(&self, stage: &Stage) -> Option<Time> {
        let window = self.balance.counter.window;
        let fits = stage.allowance.is_none_or(|allowance| self.needed <= allowance);
        (self.extends.is_none() && fits && window.has_end()).then_some(window.end)
    }
}
