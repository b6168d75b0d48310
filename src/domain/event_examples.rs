//! An example of each kind of event, for the tests of the code that stores, sends or shows events.

use std::sync::Arc;

use super::{
    counter::{Counter, CounterKey},
    event::{
        ChangeAction, ChangedKind, Event, Fact, Figures, LimitFigures, LoggedEvent, Settlement, SourceFigures,
    },
    event_kind::EventKind,
    id::{ReservationId, ResourceKey, TenantKey},
    lineage::Since,
    plan::Enforcement,
    reservation::{Line, OnExpiry, Reservation, ReservationState, ReservedAmount},
    shape::Subject,
    time::Time,
    webhook::WebhookState,
    window::Window,
};

const TOKENS: ResourceKey = ResourceKey(3);

/// Returns one event of each kind that this version emits.
pub(crate) fn events() -> Vec<LoggedEvent> {
    EventKind::ALL.map(|kind| logged(fact(kind))).into()
}

/// Returns the tenant's second event, at the seventh place of the log.
pub(crate) fn logged(fact: Fact) -> LoggedEvent {
    let resources = vec![(TOKENS, "tokens".to_owned())];
    let event =
        Event { tenant_key: TenantKey(5), tenant: Arc::from("acme"), occurred_at: Time(11), resources, fact };
    LoggedEvent { sequence: 7, number: 2, event }
}

/// Returns an example of a kind. The match names every kind, so no kind can be forgotten here.
fn fact(kind: EventKind) -> Fact {
    let (reason, operator, id) = ("a test".to_owned(), "ada".to_owned(), "free".to_owned());
    match kind {
        EventKind::ThresholdReached => Fact::Reached { percent: 80, generation: 2, figures: figures() },
        EventKind::LimitReached => Fact::Reached { percent: 100, generation: 1, figures: figures() },
        EventKind::ThresholdCleared => Fact::Cleared { percent: 100, generation: 1, figures: figures() },
        EventKind::ReserveRefused => Fact::Refused { requested: 9, figures: figures() },
        EventKind::ReservationExpired => Fact::Expired(settlement()),
        EventKind::CommittedLate => Fact::Late(settlement()),
        EventKind::WindowClosed => Fact::Closed(vec![figures(), figures()]),
        EventKind::UsageReset => {
            let caller = "key:k".to_owned();
            Fact::Reset { delta: -7, reason, operator, caller, figures: vec![figures()] }
        }
        EventKind::PolicyChanged => {
            let fields = vec!["display_name".to_owned(), "limits".to_owned()];
            let caller = "local".to_owned();
            Fact::Changed { kind: ChangedKind::Plan, id, action: ChangeAction::Updated, fields, caller }
        }
        EventKind::WebhookDisabled => Fact::WebhookDisabled { id, state: WebhookState::Gone },
        EventKind::BooksDisagree => Fact::BooksDisagree { faults: 3 },
        EventKind::Later(code) => Fact::Unknown { code },
    }
}

fn figures() -> Figures {
    let enforcement = Enforcement::Observe;
    let source = SourceFigures {
        plan: "free".into(),
        agent: "planner".into(),
        override_id: "friday".into(),
        override_end: Some(Time(9_000)),
    };
    let limit =
        LimitFigures { id: "daily".into(), quantity: 10, allowance: 12, carried: 2, enforcement, source };
    let window = Window { start: Time(-5), end: Time::NEVER };
    let since = Since { at: Time(-1), order: 0 };
    let counter = Counter { committed: 7, reserved: 2, ..Counter::fresh(window, since) };
    Figures { key: CounterKey::of_meter(TOKENS), limit: Some(limit), counter, refused: 4 }
}

fn settlement() -> Settlement {
    let reservation = Reservation {
        id: ReservationId([7; 16]),
        subject: Subject { agent: "planner".into(), ..Subject::default() },
        state: ReservationState::Expired,
        late: false,
        record: false,
        on_expiry: OnExpiry::Charge,
        created_at: Time(1),
        occurred_at: None,
        deadline: Time(2),
        settled_at: Some(Time(2)),
        amounts: vec![ReservedAmount { resource: TOKENS, reserved: 5, committed: 5 }],
        lines: vec![Line { charged: 5, ..Line::new(CounterKey::of_meter(TOKENS), 5) }],
        request_id: String::new(),
        first: None,
        served: None,
        amended: None,
    };
    let without = Figures { limit: None, ..figures() };
    Settlement { reservation: Arc::new(reservation), figures: vec![figures(), without] }
}
