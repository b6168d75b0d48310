//! Events. An event contains names and absolute figures, so it can be understood by itself, even after tenants, plans
//! and resources have changed or are gone (R5.1).

use std::sync::Arc;

use super::{
    alert::LIMIT_PERCENT,
    codes::codes,
    counter::{Balance, Counter, CounterKey},
    event_kind::EventKind,
    id::{ReservationId, ResourceKey, TenantKey},
    plan::{Enforcement, Policy},
    reservation::Reservation,
    tenant::Tenant,
    webhook::WebhookState,
    window::Millis,
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
    /// How often the limit refused in this window or, while OBSERVE, would have refused.
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
    /// What the limit does when it is used up.
    pub enforcement: Enforcement,
}

impl From<Balance> for Figures {
    fn from(balance: Balance) -> Self {
        let limit = balance.limit.as_ref().map(|limit| LimitFigures {
            id: limit.id.clone(),
            quantity: limit.quantity,
            allowance: balance.allowance().unwrap_or(limit.quantity),
            enforcement: limit.enforcement,
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
}

codes!(ChangedKind as i32: Resource = 1, Plan = 2, Tenant = 3);

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

codes!(ChangeAction as i32: Created = 1, Updated = 2, Deleted = 3);

/// What an event reports. Figures are those after the change, unless the variant says otherwise.
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
    /// A limit refused for the first time in a window.
    Refused {
        /// Units that the request asked of the limit.
        requested: i64,
        /// The figures that led to the refusal.
        figures: Figures,
    },
    /// The deadline came before the hold was settled.
    Expired(Settlement),
    /// The reservation was settled after its deadline.
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
    },
    /// A webhook is no longer notified of events.
    WebhookDisabled {
        /// The id of the webhook.
        id: String,
        /// The reason: GONE or FAILED.
        state: WebhookState,
    },
    /// Verification found rows that do not add up.
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

/// A fact for subscribers, without its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key of the event's tenant, or [`NO_TENANT`].
    pub tenant_key: TenantKey,
    /// The tenant's id at that time; empty without a tenant.
    pub tenant: Arc<str>,
    /// The instant of the decision that caused the event.
    pub occurred_at: Millis,
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
    pub fn of_no_tenant(occurred_at: Millis, fact: Fact) -> Self {
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

    /// Returns the percentage of the allowance, if the event is about a percentage.
    pub fn percent(&self) -> Option<i32> {
        match &self.fact {
            Fact::Reached { percent, .. } | Fact::Cleared { percent, .. } => Some(*percent),
            _ => None,
        }
    }

    /// Returns the figures of the event; empty for some kinds.
    pub fn figures(&self) -> &[Figures] {
        self.fact.figures()
    }

    /// Returns the reservation of the event, if the event is about a reservation.
    pub fn reservation(&self) -> Option<&Reservation> {
        match &self.fact {
            Fact::Expired(settlement) | Fact::Late(settlement) => Some(&settlement.reservation),
            _ => None,
        }
    }

    /// Returns whether the event says that its tenant was deleted. It is then the tenant's last event.
    pub fn is_end_of_tenant(&self) -> bool {
        matches!(self.fact, Fact::Changed { kind: ChangedKind::Tenant, action: ChangeAction::Deleted, .. })
    }

    /// Returns the tenant's key and the reservation's id, if the event is about a reservation.
    pub fn reservation_id(&self) -> Option<(TenantKey, ReservationId)> {
        self.reservation().map(|reservation| (self.tenant_key, reservation.id))
    }

    /// Returns the id that a resource had when the event occurred. Empty: the event is not about this resource.
    pub fn resource_id(&self, key: ResourceKey) -> &str {
        self.resources.iter().find(|(known, _)| *known == key).map_or("", |(_, name)| name)
    }
}

impl Fact {
    /// Returns the figures of the fact; empty for some kinds.
    pub fn figures(&self) -> &[Figures] {
        match self {
            Fact::Reached { figures, .. } | Fact::Cleared { figures, .. } | Fact::Refused { figures, .. } => {
                std::slice::from_ref(figures)
            }
            Fact::Expired(Settlement { figures, .. })
            | Fact::Late(Settlement { figures, .. })
            | Fact::Closed(figures)
            | Fact::Reset { figures, .. } => figures,
            Fact::Changed { .. }
            | Fact::WebhookDisabled { .. }
            | Fact::BooksDisagree { .. }
            | Fact::Unknown { .. } => &[],
        }
    }

    /// Returns the resources of the figures and of the reservation, each once.
    pub fn resources(&self) -> Vec<ResourceKey> {
        let mut keys: Vec<_> = self.figures().iter().map(|figures| figures.key.resource()).collect();
        if let Fact::Expired(settlement) | Fact::Late(settlement) = self {
            keys.extend(settlement.reservation.amounts.iter().map(|amount| amount.resource));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// Chooses events. Each empty field lets all events pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The id of the tenant whose events pass.
    pub tenant: Option<String>,
    /// The key of that tenant, if known. Tenants that had the same id before do not match it.
    pub tenant_key: Option<TenantKey>,
    /// Lets pass the reservations of this agent, and counters that count only this agent.
    pub agent: Option<String>,
    /// Lets pass events about at least one of these resources.
    pub resources: Vec<String>,
    /// Lets pass events of these kinds.
    pub kinds: Vec<EventKind>,
    /// The smallest percentage that passes. Events without a percentage pass.
    pub percent_min: i32,
}

impl EventFilter {
    /// Returns whether the event passes the filter.
    pub fn wants(&self, event: &Event) -> bool {
        self.is_of_tenant(event)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind()))
            && event.percent().is_none_or(|percent| percent >= self.percent_min)
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
    match event.reservation() {
        Some(reservation) => reservation.subject.agent == agent,
        None => event.figures().iter().any(|figures| figures.key.dimensions()[0] == Some(agent)),
    }
}
