//! Every no that the rules can say, with its name.

use super::{
    counter::Balance,
    hint::{Extended, Retry},
    reservation::ReservationState,
};

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path in the request, such as `amounts[1].quantity`.
    pub field: String,
    /// What is wrong with it: "must be …".
    pub description: String,
}

impl Fault {
    /// A fault.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// What one limit refused.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Units that were asked of it.
    pub requested: i64,
    /// The least that would have been of use.
    pub needed: i64,
    /// What it had left.
    pub balance: Balance,
    /// The hold that was to be extended, if it was an Extend.
    pub extends: Option<Extended>,
    /// When to ask again. Decisions say never: the engine finds out at the end of the batch, from [`Violation::wait`].
    pub retry: Retry,
}

/// A no.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// Fields at fault, all of them.
    #[error("the request has {} field(s) at fault", .0.len())]
    Invalid(Vec<Fault>),
    /// No tenant of this name.
    #[error("tenant {0:?} does not exist")]
    TenantNotFound(String),
    /// No such reservation; the text is what the client gave.
    #[error("reservation {0:?} does not exist")]
    ReservationNotFound(String),
    /// No reservation was made by this request_id.
    #[error("no Reserve or Record came with request_id {0:?}")]
    RequestNotFound(String),
    /// No resource of this name.
    #[error("resource {0:?} does not exist")]
    ResourceNotFound(String),
    /// No plan of this name.
    #[error("plan {0:?} does not exist")]
    PlanNotFound(String),
    /// No webhook of this name.
    #[error("webhook {0:?} does not exist")]
    WebhookNotFound(String),
    /// The webhook was not to be told of this event, or that was pruned.
    #[error("webhook {webhook:?} has no delivery {sequence}")]
    DeliveryNotFound {
        /// The webhook.
        webhook: String,
        /// The event's place in the log.
        sequence: i64,
    },
    /// There is a bound.
    #[error("there are {0} webhooks already, which is the most")]
    TooManyWebhooks(u64),
    /// The tenant may only settle what it holds.
    #[error("tenant {0:?} is suspended: it can settle what it holds, and take no new holds")]
    TenantSuspended(String),
    /// The request_id came with another payload before.
    #[error("request_id {0:?} was used before with another payload")]
    RequestIdReused(String),
    /// Something of this name is there.
    #[error("{kind} {id:?} exists already")]
    NameTaken {
        /// "resource", "plan", "tenant" or "webhook".
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// Settled otherwise.
    #[error("the reservation is {} already", .0.name())]
    ReservationSettled(ReservationState),
    /// Too late to extend it.
    #[error("the reservation's deadline has passed: it can be committed or released, and not extended")]
    ReservationExpired,
    /// A limit of a plan counts it.
    #[error("resource {id:?} is limited by plan {plan:?}")]
    ResourceInUse {
        /// The resource.
        id: String,
        /// A plan that limits it.
        plan: String,
    },
    /// A tenant has it.
    #[error("plan {id:?} is the plan of {tenants} tenant(s), such as {tenant:?}")]
    PlanInUse {
        /// The plan.
        id: String,
        /// A tenant that has it.
        tenant: String,
        /// How many have it.
        tenants: u64,
    },
    /// It has open holds.
    #[error("tenant {id:?} has {holds} open hold(s); settle them, or force the deletion")]
    TenantHasHolds {
        /// The tenant.
        id: String,
        /// How many.
        holds: u64,
    },
    /// ResetUsage would change more counters than one transaction should.
    #[error("more than {0} counters match; narrow the filter")]
    TooManyCounters(usize),
    /// No quota.
    #[error("{}", quota_text(.0))]
    QuotaExceeded(Vec<Violation>),
}

/// Says which limit refused what, for a person. The names of resources are with the caller.
fn quota_text(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations
        .iter()
        .map(|violation| {
            let limit = violation.balance.limit.as_ref().map_or("", |limit| limit.id.as_str());
            format!(
                "limit {limit:?} has {} left of {}, {} requested",
                violation.balance.remaining().unwrap_or(0).max(0),
                violation.balance.allowance().unwrap_or(0),
                violation.requested,
            )
        })
        .collect();
    format!("quota exceeded: {}", parts.join("; "))
}
