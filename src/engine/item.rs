//! An operation on its way through a batch.

use std::sync::OnceLock;

use tokio::time::Instant;

use super::{Failure, Outcome, Request, load::Look};
use crate::{
    clock::mint,
    domain::{
        id::{ReservationId, TenantKey},
        window::Millis,
    },
};

/// One operation of a batch.
pub(super) struct Item {
    /// The id of the reservation, or the adjustments, that it may make: minted at the first decision, and kept, so that a repeat finds it.
    id: OnceLock<ReservationId>,
    /// What is asked.
    pub(super) request: Request,
    /// When the caller stops waiting.
    deadline: Option<Instant>,
    /// What came of it. One that is there before the batch keeps the operation out of it.
    pub(super) outcome: Option<Outcome>,
    /// The tenant, if its row is locked by somebody else: it keeps the operation out of the batch.
    pub(super) locked: Option<TenantKey>,
    /// Whether an earlier batch may have carried it out: the outcome of a COMMIT is unknown.
    pub(super) lost: bool,
}

impl Item {
    pub(super) fn new(request: Request, deadline: Option<Instant>) -> Self {
        Self { id: OnceLock::new(), request, deadline, outcome: None, locked: None, lost: false }
    }

    /// Leaves it undecided if nobody waits for it any more, unless it is owed, or may have been carried out.
    pub(super) fn drop_unless_owed(&mut self, gone: bool) {
        if gone && !self.lost && !self.request.operation.is_owed() {
            self.outcome = Some(Err(Failure::DeadlineExceeded));
        }
    }

    /// Whether the batch has still to decide it.
    pub(super) fn is_open(&self) -> bool {
        self.outcome.is_none() && self.locked.is_none()
    }

    /// The id of the reservation that it may make: the same at each repeat.
    pub(super) fn mint(&self, now: Millis) -> ReservationId {
        *self.id.get_or_init(|| mint(now))
    }

    /// The id that was minted, if it was ever decided.
    pub(super) fn minted(&self) -> Option<ReservationId> {
        self.id.get().copied()
    }

    /// Whether nobody waits for a decision any more, and none is owed: one that may have counted is told as it was.
    pub(super) fn is_late(&self, look: Look) -> bool {
        let may_have_counted = look == Look::AtOwn && self.minted().is_some();
        !may_have_counted
            && !self.request.operation.is_owed()
            && self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}
