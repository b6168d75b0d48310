//! The interface of the engine: the requests of callers, and the outcomes of their operations.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};

use crate::{
    domain::{
        access::{Forbidden, Permit},
        audit::Author,
        decide::{Reply, not_found},
        id::{ReservationId, TenantKey, name_hash},
        operation::{Operation, Target},
        plan::Policy,
        refusal::Refusal,
        time::Time,
    },
    store::StoreError,
    traces::CallTrace,
};

/// The tenant of an operation, as the client named it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantRef {
    /// The tenant's id, from the request.
    Id(String),
    /// The tenant's key, from the name of a reservation.
    Key(TenantKey),
}

impl TenantRef {
    pub(super) fn hash(&self) -> u32 {
        match self {
            TenantRef::Id(id) => name_hash(id),
            TenantRef::Key(key) => key.hash(),
        }
    }

    /// Makes the failure of a call whose tenant does not exist, or was deleted after the reservation was made.
    pub(super) fn unknown(&self, target: Option<&Target>) -> Failure {
        let refusal = match (self, target) {
            (TenantRef::Id(id), _) => Refusal::TenantNotFound(id.clone()),
            (TenantRef::Key(tenant), Some(target)) => not_found(*tenant, target),
            // Only a sweep of due holds names a tenant by its key and names no reservation. A sweep does not report
            // refusals.
            (TenantRef::Key(tenant), None) => Refusal::TenantNotFound(tenant.0.to_string()),
        };
        Failure::Refused { refusal, frame: None }
    }
}

/// An operation, and its tenant.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tenant of the operation.
    pub tenant: TenantRef,
    /// The operation to decide.
    pub operation: Operation,
    /// What the caller may name.
    pub permit: Permit,
    /// Who makes the correction, if the audit has to show the operation. Boxed, because few operations have one.
    pub author: Option<Box<Author>>,
    /// The id that an earlier attempt minted, if the caller's key had to be compared again after it. The attempt may
    /// have taken effect.
    pub earlier: Option<ReservationId>,
    /// The call, if it is traced.
    pub trace: Option<Arc<CallTrace>>,
}

impl Request {
    /// Makes the request of a caller who may name everything.
    pub fn new(tenant: TenantRef, operation: Operation) -> Self {
        Self { tenant, operation, permit: Permit::default(), author: None, earlier: None, trace: None }
    }

    /// Makes the failure of the request if its tenant does not exist, or was deleted after the reservation was made.
    pub(super) fn unknown_tenant(&self) -> Failure {
        match &self.tenant {
            // Whether a name of another tenant's reservation is genuine must stay a secret.
            TenantRef::Key(_) if self.permit.has_tenants() || self.permit.has_agents() => {
                let forbidden = if self.permit.has_tenants() { Forbidden::Tenant } else { Forbidden::Agent };
                Failure::Refused { refusal: Refusal::NotPermitted(forbidden), frame: None }
            }
            tenant => tenant.unknown(self.operation.target()),
        }
    }
}

/// The context that a reply needs in addition to its content: the tenant's id, the names of resources, and the instant
/// of the decision.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The internal key of the tenant.
    pub tenant_key: TenantKey,
    /// The id of the tenant.
    pub tenant: Arc<str>,
    /// The resources and plans by which the engine decided.
    pub policy: Arc<Policy>,
    /// The instant of the decision.
    pub now: Time,
}

/// The outcome of an operation that was not refused.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The result of the operation.
    pub reply: Reply,
    /// The context that the reply needs in addition to the result.
    pub frame: Frame,
}

/// Why an operation was not carried out.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The rules refuse the operation.
    Refused {
        /// The reason, with its details.
        refusal: Refusal,
        /// The context that the error needs in addition to the reason. `None`: there is no such tenant.
        frame: Option<Box<Frame>>,
    },
    /// The queue of the lane is full.
    Overloaded,
    /// The server is shutting down, and takes no more operations.
    Draining,
    /// The database cannot be reached.
    DatabaseUnavailable,
    /// The caller's time ran out before the decision. Nothing was decided.
    DeadlineExceeded,
    /// Keys were changed since the caller's key was compared with them. The caller compares the key again, and submits
    /// the request again. The request remembers an attempt that may have taken effect.
    KeysChanged(Box<Request>),
    /// A defect, or an error of the database that would occur again if the operation were repeated. The error was
    /// logged.
    Internal,
}

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        match error {
            // The errors after `Unreachable` mean that other transactions prevented every repeat.
            StoreError::Unavailable(_)
            | StoreError::Unreachable(_)
            | StoreError::Serialization(_)
            | StoreError::Locked(_)
            | StoreError::TenantMoved
            | StoreError::Outdated => Failure::DatabaseUnavailable,
            StoreError::Permanent(_)
            | StoreError::Conflict(_)
            | StoreError::KnownRequest
            | StoreError::Unusable(_)
            | StoreError::Corrupt(_) => Failure::Internal,
        }
    }
}

/// The outcome of one operation.
pub type Outcome = Result<Answer, Failure>;

/// Operations of one caller for one lane, answered together.
pub(super) struct Submission {
    pub(super) asked: Asked,
    /// When the caller's time runs out.
    pub(super) deadline: Option<Instant>,
    /// When the operations were put into the queue of the lane.
    pub(super) queued_at: Instant,
}

/// The operations, and the channel for their outcomes.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all submissions are `One`, and a box would be one more allocation"
)]
pub(super) enum Asked {
    /// One operation, and the channel for its outcome.
    One(Request, oneshot::Sender<Outcome>),
    /// Several operations in their order, and the channel for their outcomes.
    Several(Vec<Request>, oneshot::Sender<Vec<Outcome>>),
}

impl Submission {
    /// Makes a submission that is queued now.
    pub(super) fn new(asked: Asked, deadline: Option<Instant>) -> Self {
        let made = Self { asked, deadline, queued_at: Instant::now() };
        if let Some(trace) = made.requests().first().and_then(|request| request.trace.as_ref()) {
            trace.note_queued(made.queued_at.into_std());
        }
        made
    }

    /// Returns the operations, in their order.
    pub(super) fn requests(&self) -> &[Request] {
        match &self.asked {
            Asked::One(request, _) => std::slice::from_ref(request),
            Asked::Several(requests, _) => requests,
        }
    }

    /// Returns the number of operations.
    pub(super) fn count(&self) -> usize {
        self.requests().len()
    }
}
