//! Encodes an event for its row, as a protobuf message that only the store uses. Fields may be added; tags never
//! change their meaning.

use std::sync::Arc;

use prost::Message;

use crate::{
    domain::{
        counter::{Counter, CounterKey},
        event::{ChangeAction, ChangedKind, Event, Fact, Figures, LimitFigures, Settlement},
        event_kind::EventKind,
        id::{ReservationId, ResourceKey, TenantKey},
        lineage::Since,
        plan::Enforcement,
        webhook::WebhookState,
        window::{Millis, Window},
    },
    store::{StoreError, books::body},
};

#[derive(Clone, PartialEq, Message)]
struct EventBody {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<NameBody>,
    #[prost(message, repeated, tag = "3")]
    figures: Vec<FiguresBody>,
    #[prost(int32, tag = "4")]
    percent: i32,
    #[prost(int32, tag = "5")]
    generation: i32,
    #[prost(int64, tag = "6")]
    requested: i64,
    #[prost(sint64, tag = "7")]
    delta: i64,
    #[prost(string, tag = "8")]
    reason: String,
    #[prost(string, tag = "9")]
    operator: String,
    #[prost(bytes = "vec", tag = "10")]
    reservation_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "11")]
    reservation: Vec<u8>,
    #[prost(int32, tag = "12")]
    changed_kind: i32,
    #[prost(string, tag = "13")]
    changed_id: String,
    #[prost(int32, tag = "14")]
    action: i32,
    #[prost(string, tag = "15")]
    webhook: String,
    #[prost(int32, tag = "16")]
    webhook_state: i32,
    #[prost(int64, tag = "17")]
    faults: i64,
}

#[derive(Clone, PartialEq, Message)]
struct NameBody {
    #[prost(int32, tag = "1")]
    key: i32,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct FiguresBody {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    committed: i64,
    #[prost(int64, tag = "3")]
    reserved: i64,
    #[prost(sint64, tag = "4")]
    window_start: i64,
    #[prost(sint64, tag = "5")]
    window_end: i64,
    #[prost(sint64, tag = "6")]
    counted_since: i64,
    #[prost(int64, tag = "7")]
    refused: i64,
    #[prost(message, optional, tag = "8")]
    limit: Option<LimitBody>,
}

#[derive(Clone, PartialEq, Message)]
struct LimitBody {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int64, tag = "2")]
    quantity: i64,
    #[prost(int64, tag = "3")]
    allowance: i64,
    #[prost(int32, tag = "4")]
    enforcement: i32,
}

/// Encodes the part of an event for which its row has no columns.
pub(super) fn encode_event(event: &Event) -> Vec<u8> {
    let resources = event.resources.iter().map(|(key, name)| NameBody { key: key.0, name: name.clone() });
    let mut body = EventBody {
        tenant: event.tenant.to_string(),
        resources: resources.collect(),
        figures: event.figures().iter().map(encode_figures).collect(),
        ..EventBody::default()
    };
    match &event.fact {
        Fact::Reached { percent, generation, .. } | Fact::Cleared { percent, generation, .. } => {
            (body.percent, body.generation) = (*percent, *generation);
        }
        Fact::Refused { requested, .. } => body.requested = *requested,
        Fact::Expired(settlement) | Fact::Late(settlement) => {
            body.reservation_id = settlement.reservation.id.0.to_vec();
            body.reservation = body::encode_reservation(&settlement.reservation);
        }
        Fact::Closed(_) => {}
        Fact::Reset { delta, reason, operator, .. } => {
            (body.delta, body.reason, body.operator) = (*delta, reason.clone(), operator.clone());
        }
        Fact::Changed { kind, id, action } => {
            body.changed_kind = kind.code();
            (body.changed_id, body.action) = (id.clone(), action.code());
        }
        Fact::WebhookDisabled { id, state } => {
            (body.webhook, body.webhook_state) = (id.clone(), state.code().into());
        }
        Fact::BooksDisagree { faults } => body.faults = *faults,
        // An unknown event was read, and is never written.
        Fact::Unknown { .. } => {}
    }
    body.encode_to_vec()
}

/// Reads the event of a row. An event that cannot be read keeps its place, as `Fact::Unknown`. While servers of a
/// later version replace others, they may write events that the others do not know; the rest of the log still reaches
/// subscribers.
pub(super) fn decode_event(tenant_key: TenantKey, code: i16, occurred_at: Millis, bytes: &[u8]) -> Event {
    let body = EventBody::decode(bytes).map_err(|_| corrupt("an event's body"));
    let mut event = Event {
        tenant_key,
        tenant: Arc::from(""),
        occurred_at,
        resources: Vec::new(),
        fact: Fact::Unknown { code },
    };
    let fact = body.and_then(|mut body| {
        event.tenant = Arc::from(std::mem::take(&mut body.tenant));
        let resources = std::mem::take(&mut body.resources);
        event.resources = resources.into_iter().map(|name| (ResourceKey(name.key), name.name)).collect();
        decode_fact(code, body)
    });
    match fact {
        Ok(fact) => event.fact = fact,
        Err(error) => {
            tracing::debug!(tope.kind = code, error = %error, "an event cannot be read; a later version of tope may have written it");
        }
    }
    event
}

fn decode_fact(code: i16, mut body: EventBody) -> Result<Fact, StoreError> {
    let kind = EventKind::from_code(code).ok_or_else(|| corrupt("an event's kind"))?;
    let mut figures: Vec<Figures> =
        std::mem::take(&mut body.figures).iter().map(decode_figures).collect::<Result<_, _>>()?;
    let (percent, generation) = (body.percent, body.generation);
    let first = |figures: &mut Vec<Figures>| figures.pop().ok_or_else(|| corrupt("an event's figures"));
    Ok(match kind {
        EventKind::ThresholdReached | EventKind::LimitReached => {
            Fact::Reached { percent, generation, figures: first(&mut figures)? }
        }
        EventKind::ThresholdCleared => Fact::Cleared { percent, generation, figures: first(&mut figures)? },
        EventKind::ReserveRefused => {
            Fact::Refused { requested: body.requested, figures: first(&mut figures)? }
        }
        EventKind::ReservationExpired => Fact::Expired(decode_settlement(&body, figures)?),
        EventKind::CommittedLate => Fact::Late(decode_settlement(&body, figures)?),
        EventKind::WindowClosed => Fact::Closed(figures),
        EventKind::UsageReset => {
            Fact::Reset { delta: body.delta, reason: body.reason, operator: body.operator, figures }
        }
        EventKind::PolicyChanged => Fact::Changed {
            kind: ChangedKind::from_code(body.changed_kind)
                .ok_or_else(|| corrupt("the kind of what an event says was changed"))?,
            id: body.changed_id,
            action: ChangeAction::from_code(body.action).ok_or_else(|| corrupt("the action of an event"))?,
        },
        EventKind::WebhookDisabled => {
            let state = i16::try_from(body.webhook_state).ok().and_then(WebhookState::from_code);
            Fact::WebhookDisabled {
                id: body.webhook,
                state: state.ok_or_else(|| corrupt("a webhook's state"))?,
            }
        }
        EventKind::BooksDisagree => Fact::BooksDisagree { faults: body.faults },
        EventKind::Later(code) => Fact::Unknown { code },
    })
}

fn decode_settlement(body: &EventBody, figures: Vec<Figures>) -> Result<Settlement, StoreError> {
    let id = body.reservation_id.as_slice().try_into().map_err(|_| corrupt("an event's reservation"))?;
    let reservation = Arc::new(body::decode_reservation(ReservationId(id), &body.reservation)?);
    Ok(Settlement { reservation, figures })
}

fn encode_figures(figures: &Figures) -> FiguresBody {
    FiguresBody {
        key: figures.key.as_bytes().to_vec(),
        committed: figures.counter.committed,
        reserved: figures.counter.reserved,
        window_start: figures.counter.window.start,
        window_end: figures.counter.window.end,
        counted_since: figures.counter.counted_since.at,
        refused: figures.refused,
        limit: figures.limit.as_ref().map(|limit| LimitBody {
            id: limit.id.clone(),
            quantity: limit.quantity,
            allowance: limit.allowance,
            enforcement: limit.enforcement.code(),
        }),
    }
}

fn decode_figures(body: &FiguresBody) -> Result<Figures, StoreError> {
    let limit = body.limit.as_ref().map(|limit| {
        let enforcement = Enforcement::from_code(limit.enforcement);
        enforcement.ok_or_else(|| corrupt("the enforcement of an event's limit")).map(|enforcement| {
            let id = limit.id.clone();
            LimitFigures { id, quantity: limit.quantity, allowance: limit.allowance, enforcement }
        })
    });
    Ok(Figures {
        key: CounterKey::from_bytes(&body.key).ok_or_else(|| corrupt("the counter's key of an event"))?,
        limit: limit.transpose()?,
        counter: Counter {
            committed: body.committed,
            reserved: body.reserved,
            window: Window { start: body.window_start, end: body.window_end },
            counted_since: Since { at: body.counted_since, order: 0 },
            forgiven_until: 0,
        },
        refused: body.refused,
    })
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        reservation::{Line, OnExpiry, Reservation, ReservationState, ReservedAmount},
        shape::Subject,
    };

    fn figures() -> Figures {
        let limit = LimitFigures {
            id: "daily".into(),
            quantity: 10,
            allowance: 12,
            enforcement: Enforcement::Observe,
        };
        let window = Window { start: -5, end: i64::MAX };
        let counter =
            Counter { committed: 7, reserved: 2, ..Counter::fresh(window, Since { at: -1, order: 0 }) };
        Figures { key: CounterKey::of_meter(ResourceKey(3), 0), limit: Some(limit), counter, refused: 4 }
    }

    fn settlement() -> Settlement {
        let reservation = Reservation {
            id: ReservationId([7; 16]),
            subject: Subject { agent: "planner".into(), ..Subject::default() },
            state: ReservationState::Expired,
            late: false,
            record: false,
            on_expiry: OnExpiry::Charge,
            created_at: 1,
            deadline: 2,
            settled_at: 2,
            amounts: vec![ReservedAmount { resource: ResourceKey(3), reserved: 5, committed: 5 }],
            lines: vec![Line { key: CounterKey::of_meter(ResourceKey(3), 0), held: 5, charged: 5 }],
            labels: Vec::new(),
            request_id: String::new(),
            first: None,
        };
        let without = Figures { limit: None, ..figures() };
        Settlement { reservation: Arc::new(reservation), figures: vec![figures(), without] }
    }

    #[test]
    fn an_event_comes_back_as_it_was_stored() {
        let (reason, operator, id) = ("r".to_owned(), "o".to_owned(), "free".to_owned());
        let facts = [
            Fact::Reached { percent: 80, generation: 2, figures: figures() },
            Fact::Reached { percent: 100, generation: 1, figures: figures() },
            Fact::Cleared { percent: 100, generation: 1, figures: figures() },
            Fact::Refused { requested: 9, figures: figures() },
            Fact::Expired(settlement()),
            Fact::Late(settlement()),
            Fact::Closed(vec![figures(), figures()]),
            Fact::Reset { delta: -7, reason, operator, figures: vec![figures()] },
            Fact::Changed { kind: ChangedKind::Plan, id: id.clone(), action: ChangeAction::Deleted },
            Fact::Changed { kind: ChangedKind::Tenant, id: id.clone(), action: ChangeAction::Created },
            Fact::WebhookDisabled { id, state: WebhookState::Gone },
            Fact::BooksDisagree { faults: 3 },
        ];
        for fact in facts {
            let resources = vec![(ResourceKey(3), "tokens".to_owned())];
            let (tenant_key, tenant) = (TenantKey(5), Arc::from("acme"));
            let event = Event { tenant_key, tenant, occurred_at: 11, resources, fact };
            let bytes = encode_event(&event);
            assert_eq!(decode_event(tenant_key, event.kind().code(), 11, &bytes), event);
        }
    }

    #[test]
    fn what_cannot_be_read_keeps_its_place() {
        for (code, bytes) in [(1, &b"\xff"[..]), (1, &b""[..]), (99, &b""[..]), (9, &b"\x0a\x04acme"[..])] {
            let event = decode_event(TenantKey(1), code, 7, bytes);
            assert_eq!((event.tenant_key, event.occurred_at), (TenantKey(1), 7));
            assert_eq!((event.fact.clone(), event.kind().code()), (Fact::Unknown { code }, code));
            assert_eq!(&*event.tenant, if code == 9 { "acme" } else { "" });
        }
    }
}
