//! The body of a webhook: JSON, whose schema is `schemas/webhook.json`.

use chrono::{DateTime, SecondsFormat};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};

use crate::{
    clock::random,
    domain::{
        counter::CounterKey,
        event::{ChangePart, Event, Figures, LimitFigures, LoggedEvent, SourceFigures},
        id::ReservationName,
        reservation::Reservation,
        shape::PerDimension,
        time::Time,
        webhook::Webhook,
    },
};

/// The `type` of a test.
const TEST_TYPE: &str = "test";

/// The `type` of an event that a later version wrote.
const UNKNOWN_TYPE: &str = "unknown";

/// Returns the `webhook-id` and the body of a test.
pub(super) fn test(webhook: &Webhook, now: Time) -> (String, String) {
    let data = json!({ "webhook": { "id": webhook.id } });
    (format!("test_{:08x}{:08x}", random(), random()), envelope(TEST_TYPE, now, data))
}

/// Returns the `webhook-id` and the body of an event. Both are the same at each attempt.
pub(super) fn event(log_id: [u8; 16], logged: &LoggedEvent) -> (String, String) {
    let event = &logged.event;
    let kind = match event.fact.parts().unknown_kind {
        // Written by a later version: the body has its kind, place, tenant and time, and no figures.
        Some(_) => UNKNOWN_TYPE.to_owned(),
        None => lower_case(event.kind().name()),
    };
    let id = format!("evt_{}_{}", HEXLOWER.encode(&log_id), logged.sequence);
    (id, envelope(&kind, event.occurred_at, data(logged)))
}

fn envelope(kind: &str, at: Time, data: Value) -> String {
    json!({ "type": kind, "timestamp": instant(at), "data": data }).to_string()
}

fn data(logged: &LoggedEvent) -> Value {
    let event = &logged.event;
    let parts = event.fact.parts();
    let of_tenant = !event.tenant.is_empty();
    let balances = parts.figures.iter().map(|figures| self::figures(event, figures));
    let fields = [
        ("sequence", Some(int64(logged.sequence))),
        ("tenant", of_tenant.then(|| (*event.tenant).into())),
        ("tenant_sequence", of_tenant.then(|| int64(logged.number))),
        ("percent", parts.percent.map(Value::from)),
        ("generation", parts.generation.map(Value::from)),
        ("requested", parts.requested.map(int64)),
        ("reservation", parts.reservation.map(|reservation| self::reservation(event, reservation))),
        ("adjusted", parts.adjusted.map(int64)),
        ("reason", parts.reason.map(Value::from)),
        ("operator", parts.operator.map(Value::from)),
        ("caller", parts.caller.map(Value::from)),
        ("changed", parts.change.map(change)),
        (
            "webhook",
            parts.webhook.map(|part| json!({ "id": part.id, "state": lower_case(part.state.name()) })),
        ),
        ("faults", parts.faults.map(int64)),
        ("kind", parts.unknown_kind.map(Value::from)),
        ("balances", (!parts.figures.is_empty()).then(|| balances.collect())),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn figures(event: &Event, figures: &Figures) -> Value {
    let mut value = Map::new();
    value.insert("resource".to_owned(), event.resource_id(figures.key.resource()).into());
    insert_dimensions(&mut value, &figures.key);
    if let Some(LimitFigures { id, quantity, allowance, carried, enforcement, source }) = &figures.limit {
        value.insert("limit_id".to_owned(), id.as_str().into());
        value.insert("quantity".to_owned(), int64(*quantity));
        value.insert("allowance".to_owned(), int64(*allowance));
        if *carried != 0 {
            value.insert("carried".to_owned(), int64(*carried));
        }
        value.insert("enforcement".to_owned(), lower_case(enforcement.name()).into());
        value.insert("source".to_owned(), self::source(source));
    }
    value.insert("committed".to_owned(), int64(figures.counter.committed));
    value.insert("reserved".to_owned(), int64(figures.counter.reserved));
    value.insert("refused".to_owned(), int64(figures.refused));
    let window = figures.counter.window;
    if window.has_bounds() {
        value.insert("window_start".to_owned(), instant(window.start).into());
        value.insert("window_end".to_owned(), instant(window.end).into());
    }
    Value::Object(value)
}

fn source(source: &SourceFigures) -> Value {
    let fields = [
        ("plan", Some(source.plan.clone())),
        ("agent", Some(source.agent.clone())),
        ("override", Some(source.override_id.clone())),
        ("override_end_time", source.override_end.map(instant)),
    ];
    let given = fields.into_iter().filter_map(|(name, text)| Some((name, text?)));
    given
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name.to_owned(), Value::from(text)))
        .collect()
}

fn insert_dimensions(value: &mut Map<String, Value>, key: &CounterKey) {
    for (dimension, name) in key.dimensions() {
        if let Some(name) = name {
            value.insert(dimension.name().to_owned(), name.into());
        }
    }
    let labels: Map<String, Value> =
        key.labels().map(|(key, value)| (key.to_owned(), value.into())).collect();
    if !labels.is_empty() {
        value.insert("labels".to_owned(), labels.into());
    }
}

fn reservation(event: &Event, reservation: &Reservation) -> Value {
    let amounts = reservation.amounts.iter().map(|amount| {
        json!({
            "resource": event.resource_id(amount.resource),
            "reserved": int64(amount.reserved),
            "committed": int64(amount.committed),
        })
    });
    let labels: Map<String, Value> =
        reservation.subject.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    let name = ReservationName { tenant: event.tenant_key, id: reservation.id };
    let mut value = json!({
        "name": name.to_string(),
        "state": lower_case(reservation.state.name()),
        "agent": reservation.subject.agent,
        "user": reservation.subject.user,
        "model": reservation.subject.model,
        "request_id": reservation.request_id,
        "amounts": amounts.collect::<Vec<_>>(),
        "labels": labels,
    });
    if let Some(PerDimension { agent, user, model }) = reservation.served.as_deref() {
        value["served"] = json!({ "agent": agent, "user": user, "model": model });
    }
    if let Some(occurred_at) = reservation.occurred_at {
        value["occurred_time"] = instant(occurred_at).into();
    }
    value
}

fn change(change: ChangePart<'_>) -> Value {
    let ChangePart { kind, id, action, fields } = change;
    let mut value = json!({ "kind": lower_case(kind.name()), "id": id, "action": lower_case(action.name()) });
    if !fields.is_empty() {
        value["fields"] = fields.into();
    }
    value
}

/// Converts a name of the contract to lower case, as in the body.
fn lower_case(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Returns an int64 as a string, as in proto3 JSON, because JavaScript and other languages round numbers above 2^53.
fn int64(number: i64) -> Value {
    number.to_string().into()
}

/// Returns an instant in RFC 3339, such as 2026-12-01T00:00:00.000Z.
fn instant(at: Time) -> String {
    let instant = DateTime::from_timestamp_millis(at.0).unwrap_or_default();
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::event_examples;

    #[test]
    fn the_schema_has_the_type_of_each_event() {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let schema: Value =
            serde_json::from_str(include_str!("../../../schemas/webhook.json")).expect("it is JSON");
        let listed = schema["properties"]["type"]["enum"].as_array().expect("a list");
        let listed: BTreeSet<String> = listed.iter().filter_map(text).collect();
        let events = event_examples::events();
        let sent = events.iter().map(|example| {
            let body: Value = serde_json::from_str(&event([1; 16], example).1).expect("it is JSON");
            text(&body["type"]).expect("a word")
        });
        assert_eq!(listed, sent.chain([TEST_TYPE, UNKNOWN_TYPE].map(str::to_owned)).collect());
    }
}
