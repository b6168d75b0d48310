//! Lineages: since when the counters of a shape have counted without a gap (R4.25, R4.26).

use super::{
    shape::Shape,
    window::{Millis, Window},
};

/// Room in [`Since::order`] for changes of one tenant's plan within one policy revision and one millisecond.
const ORDERS_PER_REVISION: i64 = 1 << 20;

/// An instant, and a number that orders the changes of one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Since {
    /// Milliseconds since 1970-01-01 UTC.
    pub at: Millis,
    /// Of two changes at one instant, the later change has the larger number. 0: the order is not known.
    pub order: i64,
}

impl Since {
    /// The policy change that made this revision.
    pub fn of_revision(at: Millis, revision: i64) -> Self {
        Self { at, order: revision.saturating_mul(ORDERS_PER_REVISION) }
    }

    /// A change of a tenant's plan at this policy revision. `before` is the tenant's change of plan before it.
    pub fn of_tenant(at: Millis, revision: i64, before: Since) -> Self {
        let last = if before.at == at { before.order } else { 0 };
        Self { at, order: last.max(revision.saturating_mul(ORDERS_PER_REVISION)).saturating_add(1) }
    }

    /// Since when a counter of `window` counts, if its limit counts since this change. Not before the window's start,
    /// and not after its end.
    pub fn in_window(self, window: Window) -> Since {
        let begun = if self.at < window.start { Since { at: window.start, order: 1 } } else { self };
        // A hold counts in the window in which it was made. A limit that was added after that window may count it.
        Since { at: begun.at.min(window.end), ..begun }
    }

    /// Whether this change came before another change. At one instant, a change of unknown order came before none.
    pub fn is_before(self, other: Since) -> bool {
        let known = self.order != 0;
        self.at < other.at || (self.at == other.at && known && self.order < other.order)
    }
}

/// A shape, with since when all its counters have counted without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The shape of the counters.
    pub shape: Shape,
    /// The change since which they count.
    pub since: Since,
}
