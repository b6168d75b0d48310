//! Encodes an event for its row, as a protobuf message that only the store uses. Fields may be added; tags never
//! change their meaning.

use std::sync::Arc;

use prost::Message;

use crate::{
    domain::{
        counter::{Counter, CounterKey},
        event::{
            ChangeAction, ChangePart, ChangedKind, Event, Fact, Figures, LimitFigures, Parts, SourceFigures,
            WebhookPart,
        },
        event_kind::EventKind,
        id::{ReservationId, ResourceKey, TenantKey},
        lineage::Since,
        plan::Enforcement,
        reservation::Reservation,
        time::Time,
        webhook::WebhookState,
        window::Window,
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
    #[prost(string, repeated, tag = "18")]
    changed_fields: Vec<String>,
    #[prost(string, tag = "19")]
    caller: String,
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
    #[prost(string, tag = "5")]
    plan: String,
    #[prost(string, tag = "6")]
    agent: String,
    #[prost(string, tag = "7")]
    override_id: String,
    #[prost(int64, optional, tag = "8")]
    override_end: Option<i64>,
    #[prost(int64, tag = "9")]
    carried: i64,
}

/// Encodes the part of an event for which its row has no columns.
pub(super) fn encode_event(event: &Event) -> Vec<u8> {
    let resources = event.resources.iter().map(|(key, name)| NameBody { key: key.0, name: name.clone() });
    let parts = event.fact.parts();
    let (reservation, change, webhook) = (parts.reservation, parts.change, parts.webhook);
    let body = EventBody {
        tenant: event.tenant.to_string(),
        resources: resources.collect(),
        figures: parts.figures.iter().map(encode_figures).collect(),
        percent: parts.percent.unwrap_or_default(),
        generation: parts.generation.unwrap_or_default(),
        requested: parts.requested.unwrap_or_default(),
        delta: parts.adjusted.unwrap_or_default(),
        reason: parts.reason.unwrap_or_default().to_owned(),
        operator: parts.operator.unwrap_or_default().to_owned(),
        reservation_id: reservation.map(|reservation| reservation.id.0.to_vec()).unwrap_or_default(),
        reservation: reservation.map(|reservation| body::encode_reservation(reservation)).unwrap_or_default(),
        changed_kind: change.map(|change| change.kind.code()).unwrap_or_default(),
        changed_id: change.map(|change| change.id.to_owned()).unwrap_or_default(),
        action: change.map(|change| change.action.code()).unwrap_or_default(),
        webhook: webhook.map(|webhook| webhook.id.to_owned()).unwrap_or_default(),
        webhook_state: webhook.map(|webhook| webhook.state.code().into()).unwrap_or_default(),
        faults: parts.faults.unwrap_or_default(),
        changed_fields: change.map(|change| change.fields.to_vec()).unwrap_or_default(),
        caller: parts.caller.unwrap_or_default().to_owned(),
    };
    body.encode_to_vec()
}

/// Reads the event of a row. An event that cannot be read keeps its place, as `Fact::Unknown`. While servers of a later
/// version replace older servers, they may write events that the older servers do not know. The rest of the log must
/// still reach subscribers.
pub(super) fn decode_event(tenant_key: TenantKey, code: i16, occurred_at: Time, bytes: &[u8]) -> Event {
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

/// Makes the parts of a body, and the fact from the parts that its kind has. A part that this version cannot read is
/// absent.
fn decode_fact(code: i16, mut body: EventBody) -> Result<Fact, StoreError> {
    let kind = EventKind::from_code(code).ok_or_else(|| corrupt("an event's kind"))?;
    let figures = std::mem::take(&mut body.figures).into_iter().map(decode_figures);
    let figures: Vec<Figures> = figures.collect::<Result<_, _>>()?;
    let reservation = decode_reservation(&body)?;
    let state = i16::try_from(body.webhook_state).ok().and_then(WebhookState::from_code);
    let parts = Parts {
        percent: Some(body.percent),
        generation: Some(body.generation),
        requested: Some(body.requested),
        adjusted: Some(body.delta),
        reason: Some(&body.reason),
        operator: Some(&body.operator),
        caller: Some(&body.caller),
        reservation: reservation.as_ref(),
        change: decode_change(&body),
        webhook: state.map(|state| WebhookPart { id: &body.webhook, state }),
        faults: Some(body.faults),
        unknown_kind: None,
        figures: &figures,
    };
    Fact::from_parts(kind, parts).map_err(|part| corrupt(&format!("an event's {part}")))
}

fn decode_reservation(body: &EventBody) -> Result<Option<Arc<Reservation>>, StoreError> {
    if body.reservation_id.is_empty() {
        return Ok(None);
    }
    let id = body.reservation_id.as_slice().try_into().map_err(|_| corrupt("an event's reservation"))?;
    Ok(Some(Arc::new(body::decode_reservation(ReservationId(id), &body.reservation)?)))
}

fn decode_change(body: &EventBody) -> Option<ChangePart<'_>> {
    let (kind, action) = (ChangedKind::from_code(body.changed_kind)?, ChangeAction::from_code(body.action)?);
    Some(ChangePart { kind, id: &body.changed_id, action, fields: &body.changed_fields })
}

fn encode_figures(figures: &Figures) -> FiguresBody {
    FiguresBody {
        key: figures.key.as_bytes().to_vec(),
        committed: figures.counter.committed,
        reserved: figures.counter.reserved,
        window_start: figures.counter.window.start.0,
        window_end: figures.counter.window.end.0,
        counted_since: figures.counter.counted_since.at.0,
        refused: figures.refused,
        limit: figures.limit.as_ref().map(|limit| LimitBody {
            id: limit.id.clone(),
            quantity: limit.quantity,
            allowance: limit.allowance,
            carried: limit.carried,
            enforcement: limit.enforcement.code(),
            plan: limit.source.plan.clone(),
            agent: limit.source.agent.clone(),
            override_id: limit.source.override_id.clone(),
            override_end: limit.source.override_end.map(|end| end.0),
        }),
    }
}

fn decode_figures(body: FiguresBody) -> Result<Figures, StoreError> {
    let limit = body.limit.map(|limit| {
        let enforcement = Enforcement::from_code(limit.enforcement)
            .ok_or_else(|| corrupt("the enforcement of an event's limit"))?;
        let LimitBody { id, quantity, allowance, carried, plan, agent, override_id, .. } = limit;
        let override_end = limit.override_end.map(Time);
        let source = SourceFigures { plan, agent, override_id, override_end };
        Ok::<_, StoreError>(LimitFigures { id, quantity, allowance, carried, enforcement, source })
    });
    Ok(Figures {
        key: CounterKey::from_bytes(&body.key).ok_or_else(|| corrupt("the counter's key of an event"))?,
        limit: limit.transpose()?,
        counter: Counter {
            committed: body.committed,
            reserved: body.reserved,
            window: Window { start: Time(body.window_start), end: Time(body.window_end) },
            counted_since: Since { at: Time(body.counted_since), order: 0 },
            forgiven_until: Time::EPOCH,
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
    use crate::domain::event_examples;

    #[test]
    fn an_event_is_decoded_as_it_was_encoded() {
        for event in event_examples::events().into_iter().map(|logged| logged.event) {
            let bytes = encode_event(&event);
            assert_eq!(decode_event(event.tenant_key, event.kind().code(), event.occurred_at, &bytes), event);
        }
    }

    #[test]
    fn an_event_that_cannot_be_read_keeps_its_place() {
        for (code, bytes) in [(1, &b"\xff"[..]), (1, &b""[..]), (99, &b""[..]), (9, &b"\x0a\x04acme"[..])] {
            let event = decode_event(TenantKey(1), code, Time(7), bytes);
            assert_eq!((event.tenant_key, event.occurred_at), (TenantKey(1), Time(7)));
            assert_eq!((event.fact.clone(), event.kind().code()), (Fact::Unknown { code }, code));
            assert_eq!(&*event.tenant, if code == 9 { "acme" } else { "" });
        }
    }
}
