//! Every refusal of the rules, by name.

use std::sync::Arc;

use super::{
    access::{BadKey, Forbidden},
    counter::Balance,
    id::{ReservationId, ReservationName},
    plan::Limit,
    reservation::ReservationState,
    time::Time,
    timing::TenantCalendar,
};

/// A field of a request, and the fault of the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path in the request, such as `amounts[1].quantity`.
    pub field: String,
    /// What is wrong with the field, in the form "must be …".
    pub description: String,
}

impl Fault {
    /// Makes the fault of one field.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// The refusal of one limit, or of a resource that no limit covers (R4.42).
#[derive(Clone, Debug)]
pub struct Violation {
    /// Units that the request asked of the limit.
    pub requested: i64,
    /// The smallest grant that would have been accepted: `minimum` with `allow_partial`, and `requested` otherwise.
    pub needed: i64,
    /// The balance that the limit had. A balance without a limit: no limit covers the resource.
    pub balance: Balance,
    /// Later versions of the limit, because overrides begin or end: when each begins to apply.
    pub later: Vec<(Time, Arc<Limit>)>,
    /// The calendars of the tenant if the limit carries over, since the retry hint then needs later windows. Otherwise
    /// empty.
    pub calendars: Vec<TenantCalendar>,
    /// The hold of a refused Extend. `None`: the request was no Extend.
    pub extends: Option<Extended>,
    /// The retry hint. `decide` sets it to never. The engine computes it after the batch, from [`Violation::wait`].
    pub retry: Retry,
}

/// When a repeated request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No later repeat of the request passes.
    Never,
    /// From this instant on the request passes.
    At(Time),
}

/// The hold that a refused Extend named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// The id of the hold. The end of this hold cannot make its own Extend pass.
    pub hold: ReservationId,
    /// From this instant on the same Extend is refused for another reason: the hold's deadline has come, or the new
    /// deadline would exceed the longest life of a hold.
    pub until: Time,
}

impl From<Forbidden> for Refusal {
    fn from(forbidden: Forbidden) -> Self {
        Refusal::NotPermitted(forbidden)
    }
}

/// Why an operation or a change is refused. Its text is the error's message.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// Some fields have faults. The list contains all of the faults.
    #[error("the request has {} wrong field(s)", .0.len())]
    Invalid(Vec<Fault>),
    /// No tenant has this id.
    #[error("tenant {0:?} does not exist")]
    TenantNotFound(String),
    /// No reservation has this name.
    #[error("reservation {:?} does not exist", .0.to_string())]
    ReservationNotFound(ReservationName),
    /// No reservation can have this name, because Reserve never returns such a text.
    #[error("reservation {0:?} does not exist")]
    ReservationNameMalformed(String),
    /// No reservation was made with this `request_id`.
    #[error("no reservation was found for request_id {0:?}")]
    RequestNotFound(String),
    /// No resource has this id.
    #[error("resource {0:?} does not exist")]
    ResourceNotFound(String),
    /// No plan has this id.
    #[error("plan {0:?} does not exist")]
    PlanNotFound(String),
    /// No webhook has this id.
    #[error("webhook {0:?} does not exist")]
    WebhookNotFound(String),
    /// The webhook was not to be notified of this event, or the event was pruned.
    #[error("webhook {webhook:?} has no delivery {sequence}")]
    DeliveryNotFound {
        /// The id of the webhook.
        webhook: String,
        /// The event's place in the log.
        sequence: i64,
    },
    /// The number of webhooks has reached its bound.
    #[error("there are {0} webhooks already, and more are not allowed")]
    TooManyWebhooks(u64),
    /// The tenant is suspended, so it takes no new holds.
    #[error("tenant {0:?} is suspended: it can settle its holds, but it can take no new holds")]
    TenantSuspended(String),
    /// The agent is suspended, so it takes no new holds.
    #[error("agent {agent:?} is suspended: it can settle its holds, but it can take no new holds")]
    AgentSuspended {
        /// The id of the tenant.
        tenant: String,
        /// The id of the agent.
        agent: String,
    },
    /// The tenant has no agent of this id.
    #[error("agent {0:?} does not exist")]
    AgentNotFound(String),
    /// The tenant has no override of this id.
    #[error("override {0:?} does not exist")]
    OverrideNotFound(String),
    /// No key has this id.
    #[error("key {0:?} does not exist")]
    KeyNotFound(String),
    /// The number of keys has reached its bound.
    #[error("there are {0} keys already, and more are not allowed; delete those that are not used")]
    TooManyKeys(u64),
    /// The caller has no valid key (R7.2).
    #[error(transparent)]
    Unauthenticated(BadKey),
    /// The caller's key does not permit the call (R7.5).
    #[error("{0}")]
    NotPermitted(Forbidden),
    /// The number of the tenant's agents has reached its bound.
    #[error("the tenant has {0} agents already, and more are not allowed")]
    TooManyAgents(u64),
    /// The number of the tenant's overrides has reached its bound.
    #[error("the tenant has {0} overrides already, and more are not allowed; delete those that have ended")]
    TooManyOverrides(u64),
    /// The `request_id` came with another payload before.
    #[error("request_id {0:?} was used before with another payload")]
    RequestIdReused(String),
    /// Another thing of this kind has the id.
    #[error("{kind} {id:?} exists already")]
    NameTaken {
        /// "resource", "plan", "tenant" or "webhook".
        kind: &'static str,
        /// The id that is taken.
        id: String,
    },
    /// The thing has another etag than the request (R4.37).
    #[error("{kind} {id:?} was changed since its etag was read; read it again, and repeat the change")]
    EtagMismatch {
        /// "resource", "plan", "tenant" or "webhook".
        kind: &'static str,
        /// The id of the thing.
        id: String,
    },
    /// The reservation was settled in another way before.
    #[error("the reservation is {} already", .0.name())]
    ReservationSettled(ReservationState),
    /// Nothing was charged that an Amend could correct.
    #[error("{}", not_charged_text(*.0))]
    ReservationNotCharged(ReservationState),
    /// The deadline has passed, so the reservation cannot be extended.
    #[error("the reservation's deadline has passed: it can be committed or released, but not extended")]
    ReservationExpired,
    /// A limit of a plan counts the resource.
    #[error("resource {id:?} is in use: plan {plan:?} limits it")]
    ResourceInUse {
        /// The id of the resource.
        id: String,
        /// The id of a plan that limits it.
        plan: String,
    },
    /// A tenant has the plan.
    #[error("plan {id:?} is in use by {tenants} tenant(s), such as {tenant:?}")]
    PlanInUse {
        /// The id of the plan.
        id: String,
        /// The id of a tenant that has the plan.
        tenant: String,
        /// The number of tenants that have the plan.
        tenants: u64,
    },
    /// An agent has the plan.
    #[error("plan {id:?} is in use by {agents} agent(s), such as {agent:?} of tenant {tenant:?}")]
    PlanOfAgents {
        /// The id of the plan.
        id: String,
        /// The id of the tenant of such an agent.
        tenant: String,
        /// The id of an agent that has the plan.
        agent: String,
        /// The number of agents that have the plan.
        agents: u64,
    },
    /// The plan is the default plan of the policy (R4.38).
    #[error("plan {0:?} is in use: it is the default plan; change the policy settings first")]
    PlanIsDefault(String),
    /// The tenant has open holds.
    #[error("tenant {id:?} has {holds} open hold(s); settle them, or set force")]
    TenantHasHolds {
        /// The id of the tenant.
        id: String,
        /// The number of its open holds.
        holds: u64,
    },
    /// ResetUsage matches more counters than one transaction may change.
    #[error("more than {0} counters match; name resources, an agent or labels")]
    TooManyCounters(usize),
    /// The operation would make counters of a new subject, and the tenant has as many as it may have (R4.48).
    #[error(
        "tenant {tenant:?} may have {most} counters, and this call would make counters of a new subject; known subjects \
         can go on"
    )]
    TenantHasTooManyCounters {
        /// The id of the tenant.
        tenant: String,
        /// The bound of the tenant's counters.
        most: i64,
    },
    /// HARD limits refused the operation, or the plan, because no limit covers a resource. There is one violation for
    /// each of these limits and resources.
    #[error("{}", quota_text(.0))]
    QuotaExceeded(Vec<Violation>),
}

/// Returns the message of RESERVATION_NOT_CHARGED, with what the caller can do instead.
fn not_charged_text(state: ReservationState) -> &'static str {
    match state {
        ReservationState::Reserved => "the reservation is RESERVED: charge its usage with Commit",
        ReservationState::Expired => {
            "the reservation is EXPIRED without a charge: charge its usage with a late Commit"
        }
        ReservationState::Committed | ReservationState::Released => {
            "the reservation is RELEASED, so nothing was charged: charge its usage with Record"
        }
    }
}

/// Returns the message of QUOTA_EXCEEDED. It names limits, but no resources, because the ids of resources are not known
/// here.
fn quota_text(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations
        .iter()
        .map(|violation| match &violation.balance.limit {
            Some(limit) => format!(
                "limit {:?} has {} of {} left, and {} were requested",
                limit.id,
                violation.balance.remaining().unwrap_or(0).max(0),
                violation.balance.allowance().unwrap_or(limit.quantity),
                violation.requested,
            ),
            None => format!(
                "no limit of the plan covers a resource of which {} were requested",
                violation.requested
            ),
        })
        .collect();
    format!("quota exceeded: {}", parts.join("; "))
}
