//! An operation on its way through a batch.

use std::sync::OnceLock;

use tokio::time::Instant;

use super::{
    super::ask::{Failure, Outcome, Request},
    look::Look,
};
use crate::{
    clock::mint,
    domain::{
        id::{ReservationId, TenantKey},
        window::Millis,
    },
};

/// An operation on its way through one batch or several.
pub(in super::super) struct Item {
    /// The id for the reservation or the adjustments that the operation makes. It is minted at the first decision. A
    /// repeat keeps it, so that it finds what the first attempt made.
    id: OnceLock<ReservationId>,
    /// The operation, and its tenant.
    pub(in super::super) request: Request,
    /// When the caller's time runs out.
    deadline: Option<Instant>,
    /// The outcome, if there is one. An operation that has its outcome before the batch is not decided.
    pub(in super::super) outcome: Option<Outcome>,
    /// The tenant whose row another transaction has locked. The operation is then not decided in this batch.
    pub(in super::super) locked: Option<TenantKey>,
    /// Whether an earlier COMMIT with an unknown outcome may have carried the operation out.
    pub(super) lost: bool,
}

impl Item {
    pub(in super::super) fn new(request: Request, deadline: Option<Instant>) -> Self {
        Self { id: OnceLock::new(), request, deadline, outcome: None, locked: None, lost: false }
    }

    /// Gives the operation DEADLINE_EXCEEDED if its caller is gone, unless it is owed or may have been carried out.
    pub(in super::super) fn drop_unless_owed(&mut self, gone: bool) {
        if gone && !self.lost && !self.request.operation.is_owed() {
            self.outcome = Some(Err(Failure::DeadlineExceeded));
        }
    }

    /// Whether the batch still has to decide the operation.
    pub(super) fn is_open(&self) -> bool {
        self.outcome.is_none() && self.locked.is_none()
    }

    /// The id for what the operation makes: the same at each repeat.
    pub(super) fn mint(&self, now: Millis) -> ReservationId {
        *self.id.get_or_init(|| mint(now))
    }

    /// The minted id, if the operation was ever decided.
    pub(super) fn minted(&self) -> Option<ReservationId> {
        self.id.get().copied()
    }

    /// Whether the caller's time has run out and nothing is owed. An operation that may have been carried out is
    /// never late: its outcome is reported.
    pub(super) fn is_late(&self, look: Look) -> bool {
        let may_have_counted = look == Look::AtOwn && self.minted().is_some();
        !may_have_counted
            && !self.request.operation.is_owed()
            && self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}
