//! A lineage says since which change the counters of a shape have counted without a gap (R4.25, R4.26).

use super::{shape::Shape, time::Time, window::Window};

/// Number of values of [`Since::order`] that each policy revision has. They order the changes of one tenant's plan that
/// are made at the same revision and in the same millisecond.
const ORDERS_PER_REVISION: i64 = 1 << 20;

/// When a change happened: an instant, and a number that orders the changes of that instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Since {
    /// The instant of the change.
    pub at: Time,
    /// Of two changes at the same instant, the later change has the larger number. 0: the order is not known.
    pub order: i64,
}

impl Since {
    /// Returns the position of the policy change that made this revision.
    pub fn of_revision(at: Time, revision: i64) -> Self {
        Self { at, order: revision.saturating_mul(ORDERS_PER_REVISION) }
    }

    /// Returns the position of a change of a tenant's plan at this policy revision. `before` is the tenant's previous
    /// change of plan.
    pub fn of_tenant(at: Time, revision: i64, before: Since) -> Self {
        let last = if before.at == at { before.order } else { 0 };
        Self { at, order: last.max(revision.saturating_mul(ORDERS_PER_REVISION)).saturating_add(1) }
    }

    /// Returns the position of a change of an agent's plan at this policy revision. `event_number` is the number of the
    /// tenant's event for the change.
    pub fn of_agent(at: Time, revision: i64, event_number: i64) -> Self {
        let within = event_number.rem_euclid(ORDERS_PER_REVISION - 1) + 1;
        Self { at, order: revision.saturating_mul(ORDERS_PER_REVISION).saturating_add(within) }
    }

    /// Returns since when a counter of `window` counts, if its limit counts since this change. The result is never
    /// before the window's start and never after the window's end.
    pub fn in_window(self, window: Window) -> Since {
        let begun = if self.at < window.start { Since { at: window.start, order: 1 } } else { self };
        // A hold counts in the window in which it was made. A limit that is added after the end of that window may
        // still count the hold, so the result is cut at the window's end.
        Since { at: begun.at.min(window.end), ..begun }
    }

    /// Returns whether this change came before another change. If the order of this change is not known, it did not
    /// come before any other change of the same instant.
    pub fn is_before(self, other: Since) -> bool {
        let known = self.order != 0;
        self.at < other.at || (self.at == other.at && known && self.order < other.order)
    }
}

/// A shape, with the change since which all of its counters have counted without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The shape of the counters.
    pub shape: Shape,
    /// The change since which the counters count.
    pub since: Since,
}

impl Lineage {
    /// Returns the part of the lineage that limits of an agent's plan count for the agent, see
    /// [`Shape::of_agents_plan`]. `None`: the shape selects another agent.
    pub fn of_agents_plan(&self, agent: &str) -> Option<Lineage> {
        Some(Lineage { shape: self.shape.of_agents_plan(agent)?, since: self.since })
    }
}
