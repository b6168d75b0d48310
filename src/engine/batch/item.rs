//! The state of an operation in a batch.

use std::sync::OnceLock;

use tokio::time::Instant;

use super::{
    super::ask::{Failure, Outcome, Request, TenantRef},
    search::Search,
};
use crate::{
    clock::mint,
    domain::{
        id::{ReservationId, TenantKey},
        refusal::Refusal,
        time::Time,
    },
};

/// An operation with its state. An operation may pass through several batches.
pub(in super::super) struct Item {
    /// The id for the reservation or the adjustments that the operation makes. The first decision mints the id. A
    /// repeat uses the same id, and so finds the rows of an earlier attempt.
    id: OnceLock<ReservationId>,
    /// The operation, and its tenant.
    pub(in super::super) request: Request,
    /// The instant at which the caller stops waiting.
    deadline: Option<Instant>,
    /// The outcome, once it is known. A batch does not decide an operation that already has its outcome.
    pub(in super::super) outcome: Option<Outcome>,
    /// The tenant whose row another transaction has locked. The operation is then not decided in this batch.
    pub(in super::super) locked: Option<TenantKey>,
    /// Whether the operation waits until its tenant is created. It waits at most once.
    pub(in super::super) newcomer: Newcomer,
    /// Whether an earlier COMMIT with an unknown outcome may have carried the operation out.
    pub(super) in_doubt: bool,
}

/// Whether an operation waits until its tenant is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Newcomer {
    /// The operation did not wait for its tenant.
    No,
    /// The operation waits at present.
    Waits,
    /// The operation waited. If its tenant does not exist now, the tenant was deleted meanwhile.
    Waited,
}

impl Item {
    pub(in super::super) fn new(request: Request, deadline: Option<Instant>) -> Self {
        let (id, in_doubt) = (OnceLock::new(), request.earlier.is_some());
        if let Some(earlier) = request.earlier {
            id.get_or_init(|| earlier);
        }
        Self { id, request, deadline, outcome: None, locked: None, newcomer: Newcomer::No, in_doubt }
    }

    /// Gives the operation DEADLINE_EXCEEDED if its caller is gone. Does nothing if the operation must take effect in
    /// any case (R4.10), or may have taken effect.
    pub(in super::super) fn drop_if_gone(&mut self, gone: bool) {
        if gone && !self.in_doubt && !self.request.operation.must_take_effect() {
            self.outcome = Some(Err(Failure::DeadlineExceeded));
        }
    }

    /// Returns the id of the operation's tenant, if the operation failed because there is no such tenant, and did not
    /// wait for the tenant before.
    pub(in super::super) fn lacks_tenant(&self) -> Option<&str> {
        match (&self.outcome, &self.request.tenant) {
            (
                Some(Err(Failure::Refused { refusal: Refusal::TenantNotFound(_), frame: None })),
                TenantRef::Id(id),
            ) if self.newcomer == Newcomer::No && self.request.permit.may_create_tenants() => Some(id),
            _ => None,
        }
    }

    /// Makes the failure of an operation whose caller's key must be compared again.
    pub(super) fn keys_changed(&self) -> Failure {
        let earlier = self.minted();
        Failure::KeysChanged(Box::new(Request { earlier, ..self.request.clone() }))
    }

    /// Returns whether the batch still has to decide the operation.
    pub(super) fn is_open(&self) -> bool {
        self.outcome.is_none() && self.locked.is_none()
    }

    /// Returns the id for the rows that the operation makes. Each repeat gets the same id.
    pub(super) fn mint(&self, now: Time) -> ReservationId {
        *self.id.get_or_init(|| mint(now))
    }

    /// Returns the minted id, if the operation was ever decided.
    pub(super) fn minted(&self) -> Option<ReservationId> {
        self.id.get().copied()
    }

    /// Returns whether the caller's time has run out, so that the operation is not decided. An operation is never late
    /// if it must take effect in any case (R4.10), or may have taken effect: its outcome is reported.
    pub(super) fn is_late(&self, search: Search) -> bool {
        let may_have_counted = search == Search::Own && self.minted().is_some();
        !may_have_counted
            && !self.request.operation.must_take_effect()
            && self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}
