//! The results of operations that were not refused.

use std::sync::Arc;

use super::super::{counter::Balance, id::ResourceKey, refusal::Violation, reservation::Reservation};

/// What one limit decides about a Check. Or the refusal of a resource that no limit covers; its balance has no limit.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Units that the Check asks of the limit.
    pub requested: i64,
    /// Whether the quantity fits.
    pub outcome: Outcome,
    /// The balance of the limit.
    pub balance: Balance,
}

/// Whether a quantity fits into the remaining units of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The quantity fits in full.
    Pass,
    /// The quantity fits in part, at least `minimum`.
    Partial,
    /// The quantity does not fit, and the limit is HARD. Or the plan refuses the resource, because no limit covers it.
    Refuse,
    /// The quantity does not fit. The limit is SOFT or OBSERVE and lets it pass.
    Exceed,
}

/// A reservation, and the balances of its counters.
#[derive(Clone, Debug)]
pub struct Held {
    /// The present reservation. For a retry: the reservation as in the first reply.
    pub reservation: Arc<Reservation>,
    /// The present balances of the reservation's counters.
    pub balances: Vec<Balance>,
}

/// The result of a Check.
#[derive(Clone, Debug)]
pub struct Checked {
    /// One verdict per amount and limit that applies, and per amount that no limit covers if the plan refuses it.
    pub verdicts: Vec<Verdict>,
    /// The quantities that would be granted. Empty: the Reserve would be refused.
    pub granted: Vec<(ResourceKey, i64)>,
    /// The violations that would refuse the Reserve, as in QUOTA_EXCEEDED.
    pub violations: Vec<Violation>,
    /// Whether the tenant or the agent is suspended.
    pub suspended: bool,
    /// Whether the Reserve would make counters of new subjects beyond the tenant's bound.
    pub too_many_counters: bool,
}

/// The result of an operation that was not refused.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The reply to Reserve.
    Reserved(Held),
    /// The reply to Commit.
    Committed(Held),
    /// The reply to Release.
    Released(Held),
    /// The reply to Extend.
    Extended(Held),
    /// The reply to Record.
    Recorded {
        /// The reservation that was born COMMITTED.
        held: Held,
        /// The quantity that was added to each balance's counter.
        applied: Vec<i64>,
    },
    /// The reply to Amend.
    Amended(Held),
    /// The reply to Check.
    Checked(Checked),
    /// The reply to ResetUsage.
    Reset {
        /// The balances of the counters that were reset.
        balances: Vec<Balance>,
        /// The quantity that was added to each balance's counter.
        adjusted: Vec<i64>,
    },
}
