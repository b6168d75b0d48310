//! Events. An event contains names and absolute figures, so it can be understood by itself, even after tenants, plans
//! and resources have changed or are gone (R5.1).

use std::{slice, sync::Arc};

use super::{
    alert::LIMIT_PERCENT,
    codes::codes,
    counter::{Balance, Counter, CounterKey},
    event_kind::EventKind,
    id::{ResourceKey, TenantKey},
    plan::{Enforcement, Policy, Source},
    reservation::Reservation,
    tenant::Tenant,
    time::Time,
    webhook::WebhookState,
};

/// The figures of one counter at the time of an event, with one limit or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The key of the counter.
    pub key: CounterKey,
    /// The limit for which these figures are. `None`: no limit reads the counter.
    pub limit: Option<LimitFigures>,
    /// The counter with committed and reserved quantities.
    pub counter: Counter,
    /// How many operations the limit refused in this window or, while it was OBSERVE, would have refused.
    pub refused: i64,
}

/// A limit at the time of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitFigures {
    /// The id of the limit.
    pub id: String,
    /// The quantity of the limit per window.
    pub quantity: i64,
    /// What the limit permits in this window.
    pub allowance: i64,
    /// The part of the allowance that was carried over from the window before.
    pub carried: i64,
    /// What the limit does when it is used up.
    pub enforcement: Enforcement,
    /// Where the limit comes from.
    pub source: SourceFigures,
}

/// Where a limit comes from, by name. An empty text stands for something that is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFigures {
    /// The id of the plan that has the limit. Empty in events of earlier versions.
    pub plan: String,
    /// The id of the agent that has the plan. Empty: the tenant has the plan.
    pub agent: String,
    /// The id of the override that applies to the limit.
    pub override_id: String,
    /// When the override ends. `None`: there is no override, or it has no end.
    pub override_end: Option<Time>,
}

impl From<&Source> for SourceFigures {
    fn from(source: &Source) -> Self {
        let replaced_by = source.replaced_by.as_ref();
        Self {
            plan: source.plan.to_string(),
            agent: source.agent.as_ref().map(|agent| agent.id.to_string()).unwrap_or_default(),
            override_id: replaced_by.map(|made| made.id.to_string()).unwrap_or_default(),
            override_end: replaced_by.map(|made| made.end).filter(|end| *end != Time::NEVER),
        }
    }
}

impl From<Balance> for Figures {
    fn from(balance: Balance) -> Self {
        let limit = balance.limit.as_ref().map(|limit| LimitFigures {
            id: limit.id.clone(),
            quantity: limit.quantity,
            allowance: balance.allowance().unwrap_or(limit.quantity),
            carried: balance.carried,
            enforcement: limit.enforcement,
            source: SourceFigures::from(&limit.source),
        });
        Self { key: balance.key, limit, counter: balance.counter, refused: balance.refused }
    }
}

/// The kind of thing that an operator changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangedKind {
    /// A resource of the policy.
    Resource,
    /// A plan of the policy.
    Plan,
    /// The tenant of the event.
    Tenant,
    /// An agent of the tenant.
    Agent,
    /// An override of the tenant.
    Override,
    /// The settings of the policy.
    Settings,
    /// A key of a caller.
    Key,
}

codes!(
    ChangedKind as i32:
    Resource = 1 "RESOURCE", Plan = 2 "PLAN", Tenant = 3 "TENANT", Agent = 4 "AGENT", Override = 5 "OVERRIDE",
    Settings = 6 "SETTINGS", Key = 7 "KEY"
);

/// What an operator did to the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeAction {
    /// The thing is new.
    Created,
    /// The thing has other values.
    Updated,
    /// The thing no longer exists.
    Deleted,
}

codes!(ChangeAction as i32: Created = 1 "CREATED", Updated = 2 "UPDATED", Deleted = 3 "DELETED");

/// What an event reports. The figures are from after the change, unless the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `committed` has reached a percentage of the allowance: [`EventKind::LimitReached`] at 100.
    Reached {
        /// The percentage that was reached.
        percent: i32,
        /// 1, and one more for each operation that cleared a percentage in this window.
        generation: i32,
        /// The figures that reached the percentage.
        figures: Figures,
    },
    /// `committed` is below a percentage of the allowance again.
    Cleared {
        /// The percentage that was cleared.
        percent: i32,
        /// The generation that ends with this event.
        generation: i32,
        /// The figures below the percentage.
        figures: Figures,
    },
    /// A limit refused an operation for the first time in a window, or would have refused it if the limit were HARD.
    Refused {
        /// Units that the request asked of the limit.
        requested: i64,
        /// The figures that led to the refusal.
        figures: Figures,
    },
    /// The deadline came before the hold was settled.
    Expired(Settlement),
    /// The reservation was settled after its deadline, or changed counters of windows that are over. If an Amend was
    /// the cause, it is the only amendment of the reservation here.
    Late(Settlement),
    /// The window is over: its final figures, one entry per limit that reads the counter.
    Closed(Vec<Figures>),
    /// `committed` was set to zero.
    Reset {
        /// The quantity that was added to `committed`, below 0.
        delta: i64,
        /// The reason that the operator gave.
        reason: String,
        /// The operator, or `tope` if the server did it.
        operator: String,
        /// The caller of the ResetUsage. Empty: the server did it, or an earlier version wrote the event.
        caller: String,
        /// The figures afterwards, one entry per limit that reads the counter.
        figures: Vec<Figures>,
    },
    /// An operator changed a resource, a plan or a tenant.
    Changed {
        /// The kind of thing that changed.
        kind: ChangedKind,
        /// The id of the thing.
        id: String,
        /// What was done to the thing.
        action: ChangeAction,
        /// The fields that an update changed, as in `update_mask`, sorted. Empty for other actions.
        fields: Vec<String>,
        /// The caller who made the change. Empty: the server did it, or an earlier version wrote the event.
        caller: String,
    },
    /// A webhook is no longer notified of events.
    WebhookDisabled {
        /// The id of the webhook.
        id: String,
        /// The reason: GONE or FAILED.
        state: WebhookState,
    },
    /// Verification found rows of the books that are wrong.
    BooksDisagree {
        /// The number of faults found.
        faults: i64,
    },
    /// An event that a later version wrote and this version cannot read. Its place, tenant and time can be read.
    Unknown {
        /// The number of the kind, which this version may know.
        code: i16,
    },
}

/// The end of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The reservation after it was settled or expired.
    pub reservation: Arc<Reservation>,
    /// The figures of the reservation's counters afterwards.
    pub figures: Vec<Figures>,
}

/// The details of a fact, as separate parts. Rows, messages and webhooks copy each part, whatever the kind of the fact.
/// If facts of a kind do not have a part, the part is `None`, or the figures are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The percentage of the allowance that was reached or cleared.
    pub percent: Option<i32>,
    /// The generation of that percentage.
    pub generation: Option<i32>,
    /// Units that the request asked of the limit.
    pub requested: Option<i64>,
    /// The quantity that was added to `committed`.
    pub adjusted: Option<i64>,
    /// The reason of the operator.
    pub reason: Option<&'a str>,
    /// The name of the operator.
    pub operator: Option<&'a str>,
    /// The caller who made the change. `None`: it is not known.
    pub caller: Option<&'a str>,
    /// The reservation after it was settled or expired.
    pub reservation: Option<&'a Arc<Reservation>>,
    /// The thing that an operator changed.
    pub change: Option<ChangePart<'a>>,
    /// The webhook that is no longer notified.
    pub webhook: Option<WebhookPart<'a>>,
    /// The number of rows that are wrong.
    pub faults: Option<i64>,
    /// The number of the kind, if this version cannot read the event.
    pub unknown_kind: Option<i16>,
    /// The figures of the event: one for each counter and limit.
    pub figures: &'a [Figures],
}

/// A change that an operator made, as a part of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangePart<'a> {
    /// The kind of thing that changed.
    pub kind: ChangedKind,
    /// The id of the thing.
    pub id: &'a str,
    /// What was done to the thing.
    pub action: ChangeAction,
    /// The fields that an update changed, as in `update_mask`, sorted. Empty for other actions.
    pub fields: &'a [String],
}

/// A webhook, as a part of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookPart<'a> {
    /// The id of the webhook.
    pub id: &'a str,
    /// The state of the webhook.
    pub state: WebhookState,
}

/// A fact for subscribers, without its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key of the event's tenant, or [`NO_TENANT`].
    pub tenant_key: TenantKey,
    /// The tenant's id at that time; empty without a tenant.
    pub tenant: Arc<str>,
    /// The instant of the decision that caused the event.
    pub occurred_at: Time,
    /// The keys and ids that the event's resources had at that time.
    pub resources: Vec<(ResourceKey, String)>,
    /// What the event reports.
    pub fact: Fact,
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Place in the log: 1, 2, 3 and so on.
    pub sequence: i64,
    /// Place among the tenant's events: 1, 2, 3 and so on; 0 without a tenant.
    pub number: i64,
    /// The event at this place.
    pub event: Event,
}

/// The tenant key of events without a tenant.
pub const NO_TENANT: TenantKey = TenantKey(0);

impl Event {
    /// Makes an event without a tenant.
    pub fn of_no_tenant(occurred_at: Time, fact: Fact) -> Self {
        Self { tenant_key: NO_TENANT, tenant: Arc::from(""), occurred_at, resources: Vec::new(), fact }
    }

    /// Makes an event of a tenant. It occurred at the tenant's `decided_at`.
    pub fn of_tenant(tenant: &Tenant, policy: &Policy, fact: Fact) -> Self {
        let name = |key: ResourceKey| (key, policy.resource_id(key).to_owned());
        Self {
            tenant_key: tenant.key,
            tenant: Arc::clone(&tenant.id),
            occurred_at: tenant.decided_at,
            resources: fact.resources().into_iter().map(name).collect(),
            fact,
        }
    }

    /// Returns the kind of the event.
    pub fn kind(&self) -> EventKind {
        match &self.fact {
            Fact::Reached { percent: LIMIT_PERCENT, .. } => EventKind::LimitReached,
            Fact::Reached { .. } => EventKind::ThresholdReached,
            Fact::Cleared { .. } => EventKind::ThresholdCleared,
            Fact::Refused { .. } => EventKind::ReserveRefused,
            Fact::Expired(_) => EventKind::ReservationExpired,
            Fact::Late(_) => EventKind::CommittedLate,
            Fact::Closed(_) => EventKind::WindowClosed,
            Fact::Reset { .. } => EventKind::UsageReset,
            Fact::Changed { .. } => EventKind::PolicyChanged,
            Fact::WebhookDisabled { .. } => EventKind::WebhookDisabled,
            Fact::BooksDisagree { .. } => EventKind::BooksDisagree,
            Fact::Unknown { code } => EventKind::from_code(*code).unwrap_or(EventKind::Later(*code)),
        }
    }

    /// Returns whether the event says that its tenant was deleted. It is then the tenant's last event.
    pub fn is_end_of_tenant(&self) -> bool {
        matches!(self.fact, Fact::Changed { kind: ChangedKind::Tenant, action: ChangeAction::Deleted, .. })
    }

    /// Returns the id that a resource had when the event occurred. Empty: the event is not about this resource.
    pub fn resource_id(&self, key: ResourceKey) -> &str {
        self.resources.iter().find(|(known, _)| *known == key).map_or("", |(_, name)| name)
    }
}

impl Fact {
    /// Returns the details of the fact, side by side.
    pub fn parts(&self) -> Parts<'_> {
        let none = Parts::default();
        match self {
            Fact::Reached { percent, generation, figures }
            | Fact::Cleared { percent, generation, figures } => {
                let (percent, generation) = (Some(*percent), Some(*generation));
                Parts { percent, generation, figures: slice::from_ref(figures), ..none }
            }
            Fact::Refused { requested, figures } => {
                Parts { requested: Some(*requested), figures: slice::from_ref(figures), ..none }
            }
            Fact::Expired(Settlement { reservation, figures }) => {
                Parts { reservation: Some(reservation), figures, ..none }
            }
            Fact::Late(Settlement { reservation, figures }) => {
                let amendment = reservation.amendments().last();
                let reason = amendment.map(|amendment| amendment.reason.as_str());
                let operator = amendment.map(|amendment| amendment.operator.as_str());
                Parts { reason, operator, reservation: Some(reservation), figures, ..none }
            }
            Fact::Closed(figures) => Parts { figures, ..none },
            Fact::Reset { delta, reason, operator, caller, figures } => {
                let (reason, operator) = (Some(reason.as_str()), Some(operator.as_str()));
                Parts { adjusted: Some(*delta), reason, operator, caller: known(caller), figures, ..none }
            }
            Fact::Changed { kind, id, action, fields, caller } => {
                let change = Some(ChangePart { kind: *kind, id, action: *action, fields });
                Parts { change, caller: known(caller), ..none }
            }
            Fact::WebhookDisabled { id, state } => {
                Parts { webhook: Some(WebhookPart { id, state: *state }), ..none }
            }
            Fact::BooksDisagree { faults } => Parts { faults: Some(*faults), ..none },
            Fact::Unknown { code } => Parts { unknown_kind: Some(*code), ..none },
        }
    }

    /// Makes a fact of a kind from its details. It ignores parts that the kind does not have.
    ///
    /// # Errors
    ///
    /// The name of a part that the kind has, and that is missing.
    pub fn from_parts(kind: EventKind, parts: Parts<'_>) -> Result<Self, &'static str> {
        let percent = || parts.percent.ok_or("percentage");
        let generation = || parts.generation.ok_or("generation");
        let one = || parts.figures.first().cloned().ok_or("figures");
        let all = || parts.figures.to_vec();
        let caller = || parts.caller.unwrap_or_default().to_owned();
        let settlement = || {
            let reservation = Arc::clone(parts.reservation.ok_or("reservation")?);
            Ok::<_, &'static str>(Settlement { reservation, figures: all() })
        };
        Ok(match kind {
            EventKind::ThresholdReached | EventKind::LimitReached => {
                Fact::Reached { percent: percent()?, generation: generation()?, figures: one()? }
            }
            EventKind::ThresholdCleared => {
                Fact::Cleared { percent: percent()?, generation: generation()?, figures: one()? }
            }
            EventKind::ReserveRefused => {
                Fact::Refused { requested: parts.requested.ok_or("requested units")?, figures: one()? }
            }
            EventKind::ReservationExpired => Fact::Expired(settlement()?),
            EventKind::CommittedLate => Fact::Late(settlement()?),
            EventKind::WindowClosed => Fact::Closed(all()),
            EventKind::UsageReset => Fact::Reset {
                delta: parts.adjusted.ok_or("adjustment")?,
                reason: parts.reason.ok_or("reason")?.to_owned(),
                operator: parts.operator.ok_or("operator")?.to_owned(),
                caller: caller(),
                figures: all(),
            },
            EventKind::PolicyChanged => {
                let ChangePart { kind, id, action, fields } = parts.change.ok_or("change")?;
                Fact::Changed { kind, id: id.to_owned(), action, fields: fields.to_vec(), caller: caller() }
            }
            EventKind::WebhookDisabled => {
                let WebhookPart { id, state } = parts.webhook.ok_or("webhook")?;
                Fact::WebhookDisabled { id: id.to_owned(), state }
            }
            EventKind::BooksDisagree => Fact::BooksDisagree { faults: parts.faults.ok_or("faults")? },
            EventKind::Later(code) => Fact::Unknown { code },
        })
    }

    /// Returns the resources of the figures and of the reservation, each once.
    pub fn resources(&self) -> Vec<ResourceKey> {
        let parts = self.parts();
        let mut keys: Vec<_> = parts.figures.iter().map(|figures| figures.key.resource()).collect();
        if let Some(reservation) = parts.reservation {
            keys.extend(reservation.amounts.iter().map(|amount| amount.resource));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// Returns the name of a caller, if it is known.
fn known(caller: &str) -> Option<&str> {
    Some(caller).filter(|caller| !caller.is_empty())
}

/// Chooses events. Each empty field lets all events pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The id of the tenant whose events pass.
    pub tenant: Option<String>,
    /// The key of that tenant, if known. Tenants that had the same id before do not match it.
    pub tenant_key: Option<TenantKey>,
    /// Events pass if they are about a reservation of this agent, or about a counter that counts only this agent.
    pub agent: Option<String>,
    /// Events pass if they are about at least one of these resources.
    pub resources: Vec<String>,
    /// The kinds of events that pass.
    pub kinds: Vec<EventKind>,
    /// The smallest percentage that passes. Events without a percentage pass.
    pub percent_min: i32,
}

impl EventFilter {
    /// Returns whether the event passes the filter.
    pub fn wants(&self, event: &Event) -> bool {
        self.is_of_tenant(event)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind()))
            && event.fact.parts().percent.is_none_or(|percent| percent >= self.percent_min)
            && (self.resources.is_empty()
                || event.resources.iter().any(|(_, name)| self.resources.contains(name)))
            && self.agent.as_deref().is_none_or(|agent| is_of_agent(event, agent))
    }

    fn is_of_tenant(&self, event: &Event) -> bool {
        match (self.tenant_key, self.tenant.as_deref()) {
            (Some(key), _) => event.tenant_key == key,
            (None, Some(tenant)) => *event.tenant == *tenant,
            (None, None) => true,
        }
    }
}

fn is_of_agent(event: &Event, agent: &str) -> bool {
    let parts = event.fact.parts();
    match parts.reservation {
        Some(reservation) => reservation.subject.agent == agent,
        None => parts.figures.iter().any(|figures| figures.key.dimensions().agent == Some(agent)),
    }
}
