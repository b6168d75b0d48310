//! What a subscriber wants to hear. An event stands for itself: it says whom it is about and gives absolute figures, so it
//! can be read when tenants, plans and resources have changed or are gone.

use std::sync::Arc;

use super::{
    alert::LIMIT_PERCENT,
    counter::{Balance, Counter, CounterKey},
    id::{ReservationId, ResourceKey, TenantKey},
    plan::{Enforcement, Policy},
    reservation::Reservation,
    tenant::Tenant,
    webhook::WebhookState,
    window::Millis,
};

/// What kind of event it is. The numbers are stored, and those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// Committed has come to a threshold.
    ThresholdReached,
    /// Committed is below a threshold, or the allowance, again.
    ThresholdCleared,
    /// Committed has come to the allowance.
    LimitReached,
    /// A limit has refused for the first time in a window.
    ReserveRefused,
    /// A hold's deadline came before it was settled.
    ReservationExpired,
    /// A reservation was settled after its deadline, and that changed what is charged.
    CommittedLate,
    /// A window is over, and its figures are final.
    WindowClosed,
    /// ResetUsage corrected a counter.
    UsageReset,
    /// An operator changed a resource, a plan or a tenant.
    PolicyChanged,
    /// A webhook is told nothing more: of no tenant.
    WebhookDisabled,
    /// The books do not add up: of no tenant.
    BooksDisagree,
    /// One that a later version writes, by its number.
    Later(i16),
}

impl EventKind {
    /// All that this version writes.
    pub const ALL: [EventKind; 11] = [
        EventKind::ThresholdReached,
        EventKind::ThresholdCleared,
        EventKind::LimitReached,
        EventKind::ReserveRefused,
        EventKind::ReservationExpired,
        EventKind::CommittedLate,
        EventKind::WindowClosed,
        EventKind::UsageReset,
        EventKind::PolicyChanged,
        EventKind::WebhookDisabled,
        EventKind::BooksDisagree,
    ];

    /// The number that stands for it. Never changes its meaning.
    pub fn code(self) -> i16 {
        match self {
            EventKind::ThresholdReached => 1,
            EventKind::ThresholdCleared => 2,
            EventKind::LimitReached => 3,
            EventKind::ReserveRefused => 4,
            EventKind::ReservationExpired => 5,
            EventKind::CommittedLate => 6,
            EventKind::WindowClosed => 7,
            EventKind::UsageReset => 8,
            EventKind::PolicyChanged => 9,
            EventKind::WebhookDisabled => 10,
            EventKind::BooksDisagree => 11,
            EventKind::Later(code) => code,
        }
    }

    /// The kind that a number from [`EventKind::code`] stands for.
    pub fn from_code(code: i16) -> Option<EventKind> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Its name in the contract, which does not know UNKNOWN.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::ThresholdReached => "THRESHOLD_REACHED",
            EventKind::ThresholdCleared => "THRESHOLD_CLEARED",
            EventKind::LimitReached => "LIMIT_REACHED",
            EventKind::ReserveRefused => "RESERVE_REFUSED",
            EventKind::ReservationExpired => "RESERVATION_EXPIRED",
            EventKind::CommittedLate => "COMMITTED_LATE",
            EventKind::WindowClosed => "WINDOW_CLOSED",
            EventKind::UsageReset => "USAGE_RESET",
            EventKind::PolicyChanged => "POLICY_CHANGED",
            EventKind::WebhookDisabled => "WEBHOOK_DISABLED",
            EventKind::BooksDisagree => "BOOKS_DISAGREE",
            EventKind::Later(_) => "UNKNOWN",
        }
    }
}

/// One limit and one counter at the time of an event; without a limit, a counter alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Whose figures these are.
    pub key: CounterKey,
    /// In terms of which limit.
    pub limit: Option<LimitFigures>,
    /// What was spent and is held.
    pub counter: Counter,
    /// How often the limit has refused in this window, or would have.
    pub refused: i64,
}

/// A limit at the time of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitFigures {
    /// Its id.
    pub id: String,
    /// Its own quantity per window.
    pub quantity: i64,
    /// What it permits in this window.
    pub allowance: i64,
    /// What happens at it.
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

/// What an operator changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangedKind {
    /// A resource.
    Resource,
    /// A plan.
    Plan,
    /// The tenant of the event.
    Tenant,
}

/// How an operator changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeAction {
    /// It is new.
    Created,
    /// It is another one.
    Updated,
    /// It is gone.
    Deleted,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Committed has come to a percentage of the allowance: [`EventKind::LimitReached`] when it is 100.
    Reached {
        /// Which.
        percent: i32,
        /// How often the limit was cleared in this window before, and one.
        generation: i32,
        /// By then.
        figures: Figures,
    },
    /// Committed is below a percentage of the allowance again.
    Cleared {
        /// Which.
        percent: i32,
        /// The generation that this ends.
        generation: i32,
        /// By then.
        figures: Figures,
    },
    /// The first refusal.
    Refused {
        /// Units that were asked of the limit.
        requested: i64,
        /// By then.
        figures: Figures,
    },
    /// The deadline came first.
    Expired(Settlement),
    /// Settled after the deadline.
    Late(Settlement),
    /// Final, one per limit that reads the counter.
    Closed(Vec<Figures>),
    /// What was committed became zero.
    Reset {
        /// What was added to committed: below 0.
        delta: i64,
        /// Why.
        reason: String,
        /// Who.
        operator: String,
        /// After it, one per limit that reads the counter.
        figures: Vec<Figures>,
    },
    /// A change to what applies.
    Changed {
        /// Of what.
        kind: ChangedKind,
        /// Which.
        id: String,
        /// How.
        action: ChangeAction,
    },
    /// A webhook is told nothing more.
    WebhookDisabled {
        /// Which.
        id: String,
        /// Why: GONE or FAILED.
        state: WebhookState,
    },
    /// Rows that do not add up.
    BooksDisagree {
        /// How many.
        faults: i64,
    },
    /// What this version cannot read: a later one wrote it. It keeps its place, and whose it is.
    Unknown {
        /// Number of its kind, which this version may know or not.
        code: i16,
    },
}

/// What became of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// As it is now.
    pub reservation: Arc<Reservation>,
    /// Of its counters, after it.
    pub figures: Vec<Figures>,
}

/// Something that a subscriber wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose rows it is about; 0 when it is about no tenant.
    pub tenant_key: TenantKey,
    /// The tenant's id by then; empty when it is about no tenant.
    pub tenant: Arc<str>,
    /// When it was decided.
    pub occurred_at: Millis,
    /// The names of the resources that it is about, by then.
    pub resources: Vec<(ResourceKey, String)>,
    /// What happened.
    pub fact: Fact,
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Place in the log: 1, 2, 3 and so on.
    pub sequence: i64,
    /// Place among the events of its tenant: 1, 2, 3 and so on; 0 when it is about no tenant.
    pub number: i64,
    /// The event.
    pub event: Event,
}

/// Whose events of no tenant are.
pub const NO_TENANT: TenantKey = TenantKey(0);

impl Event {
    /// An event of no tenant.
    pub fn of_no_tenant(occurred_at: Millis, fact: Fact) -> Self {
        Self { tenant_key: NO_TENANT, tenant: Arc::from(""), occurred_at, resources: Vec::new(), fact }
    }

    /// An event of a tenant, at the latest instant at which something was decided for it.
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

    /// What kind of event it is.
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

    /// The percentage of the allowance, of an event that is about one.
    pub fn percent(&self) -> Option<i32> {
        match &self.fact {
            Fact::Reached { percent, .. } | Fact::Cleared { percent, .. } => Some(*percent),
            _ => None,
        }
    }

    /// The figures.
    pub fn figures(&self) -> &[Figures] {
        self.fact.figures()
    }

    /// The reservation that it is about.
    pub fn reservation(&self) -> Option<&Reservation> {
        match &self.fact {
            Fact::Expired(settlement) | Fact::Late(settlement) => Some(&settlement.reservation),
            _ => None,
        }
    }

    /// Whether the tenant that it is about was deleted: no other event of the tenant comes behind it.
    pub fn is_end_of_tenant(&self) -> bool {
        matches!(self.fact, Fact::Changed { kind: ChangedKind::Tenant, action: ChangeAction::Deleted, .. })
    }

    /// The name of the reservation that it is about, in parts.
    pub fn reservation_id(&self) -> Option<(TenantKey, ReservationId)> {
        self.reservation().map(|reservation| (self.tenant_key, reservation.id))
    }

    /// The name of a resource by then.
    pub fn resource_id(&self, key: ResourceKey) -> &str {
        self.resources.iter().find(|(known, _)| *known == key).map_or("", |(_, name)| name)
    }
}

impl Fact {
    /// The figures.
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

    /// The resources that it is about, each once.
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

/// Which events are wanted. Empty is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Id of the tenant.
    pub tenant: Option<String>,
    /// Its key, when it is there: others that had the id before are not meant.
    pub tenant_key: Option<TenantKey>,
    /// Only of counters that count this agent apart, and of its reservations.
    pub agent: Option<String>,
    /// Only about one of these.
    pub resources: Vec<String>,
    /// Only of these.
    pub kinds: Vec<EventKind>,
    /// Of events about a percentage, only those at or above.
    pub percent_min: i32,
}

impl EventFilter {
    /// Whether the event is wanted.
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
