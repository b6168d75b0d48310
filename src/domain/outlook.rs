//! The outlook of a limit that carries over (R4.46): when a refused request would pass, if nothing else happens.
//!
//! The allowance of the next window depends on what is left of the present window, and a later window gets the
//! carry-over of a window without usage. Between two of the instants that [`Outlook::instants`] returns nothing
//! changes, so the request passes first at one of them.

use super::{
    counter::Counter,
    id::ReservationId,
    plan::{Enforcement, Limit},
    refusal::Violation,
    time::{Span, Time},
    window::Window,
};

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

/// What is known of the future of a violation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook<'a> {
    pub(super) violation: &'a Violation,
    /// The limit of the violation, as it applies now.
    pub(super) limit: &'a Limit,
    /// The counter as it is now.
    pub(super) counter: &'a Counter,
    /// The holds that free units of the counter, in the order of their deadlines.
    pub(super) holds: &'a [Freeing],
    /// If not all holds were read, the last deadline that was read. From then on all holds count as freed.
    pub(super) beyond: Option<Time>,
    pub(super) now: Time,
}

impl Outlook<'_> {
    /// Returns the first instant at which the request passes. `None`: it never passes.
    pub(super) fn first(&self) -> Option<Time> {
        self.instants().into_iter().find(|at| self.passes(*at))
    }

    /// Returns the instants from now on at which the limit, the holds or the window change, ascending. Once a version
    /// of the limit has applied for two whole windows, later windows are like the second of them.
    fn instants(&self) -> Vec<Time> {
        let mut instants: Vec<Time> =
            self.holds.iter().map(|hold| hold.deadline).chain(self.beyond).collect();
        let versions = self.violation.later.iter().map(|(from, _)| *from);
        for from in std::iter::once(self.now).chain(versions) {
            let end = self.window(from).end;
            instants.extend([from, end, self.window(end).end]);
        }
        instants.retain(|at| *at >= self.now && *at != Time::NEVER);
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// Returns whether the request passes at an instant.
    fn passes(&self, at: Time) -> bool {
        let limit = self.limit_at(at);
        if limit.enforcement != Enforcement::Hard {
            return true;
        }
        let (used, carried) = if at < self.counter.window.end {
            (self.used_at(at), self.violation.balance.carried)
        } else {
            (0, self.carried_to(self.window(at), at))
        };
        i128::from(self.violation.needed) + used <= i128::from(limit.quantity.saturating_add(carried))
    }

    /// Returns the units that are carried over to a later window, if it is first used at `at`.
    fn carried_to(&self, window: Window, at: Time) -> i64 {
        let quantity = self.limit_at(window.start.saturating_sub(Span::MILLISECOND)).quantity;
        let used = if window.start == self.counter.window.end { self.used_at(at) } else { 0 };
        self.limit.carry.map_or(0, |carry| carry.units(quantity, used))
    }

    /// Returns the units of the present window that are still committed or held at an instant.
    fn used_at(&self, at: Time) -> i128 {
        let committed = i128::from(self.counter.committed);
        if self.beyond.is_some_and(|beyond| beyond <= at) {
            return committed;
        }
        let freed = self.holds.iter().filter(|hold| hold.deadline <= at).map(|hold| i128::from(hold.units));
        committed + i128::from(self.counter.reserved) - freed.sum::<i128>()
    }

    fn limit_at(&self, at: Time) -> &Limit {
        let later = self.violation.later.iter().rev().find(|(from, _)| *from <= at);
        later.map_or(self.limit, |(_, limit)| limit)
    }

    fn window(&self, at: Time) -> Window {
        self.limit.shape.timing.window(&self.violation.calendars, at).window
    }
}
