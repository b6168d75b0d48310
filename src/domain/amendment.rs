//! The corrections of a reservation by Amend, which are kept with it (R4.44).

use super::{bounds::AMENDMENTS_MAX, id::ResourceKey, time::Time};

/// What Amend has changed about a reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amended {
    /// The figures that the Commit or Record charged, for its retries. `None`: no Amend has changed them since.
    pub first: Option<FirstCharge>,
    /// The latest corrections, at most [`AMENDMENTS_MAX`], the oldest one first.
    pub latest: Vec<Amendment>,
}

/// The figures of a reservation before its first correction. Amend appends amounts and lines, and keeps their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstCharge {
    /// Units that were charged of each of the first amounts.
    pub committed: Vec<i64>,
    /// Units that were charged to the counter of each of the first lines.
    pub charged: Vec<i64>,
}

/// One correction: who made it, why, and what it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// The instant of the correction.
    pub at: Time,
    /// The operator who made the correction.
    pub operator: String,
    /// The reason that the operator gave.
    pub reason: String,
    /// The figures that the correction changed.
    pub changes: Vec<AmendedAmount>,
}

/// The figure of one resource, before a correction and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmendedAmount {
    /// The key of the resource.
    pub resource: ResourceKey,
    /// Units that were charged before. Below 0 only if a Record had a negative quantity.
    pub before: i64,
    /// Units that are charged now, 0 or more.
    pub after: i64,
}

impl Amended {
    /// Notes a correction. `first` returns the figures before the first correction.
    pub fn note(&mut self, first: impl FnOnce() -> FirstCharge, amendment: Amendment) {
        self.first.get_or_insert_with(first);
        if self.latest.len() >= AMENDMENTS_MAX {
            self.latest.remove(0);
        }
        self.latest.push(amendment);
    }
}
