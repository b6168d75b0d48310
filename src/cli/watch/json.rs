//! Messages as JSON objects. Names are those of the protos, kinds and states are in lower case, and an int64 is a
//! string, as in proto3 JSON. Fields that do not apply, and most fields that are zero, are left out.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::text::time;
use crate::grpc::v1::{
    Balance, Event, EventKind, LimitSource, PolicyChange, Reservation, Served, WatchUsageResponse,
    watch_usage_response::Update,
};

/// Renders a message: its type, the time of the event, the cursor to resume from, and the data.
pub(super) fn message(message: &WatchUsageResponse) -> Value {
    let cursor = &message.cursor;
    match &message.update {
        Some(Update::Event(event)) => {
            // A newer server may send kinds that this client does not know.
            let kind = match event.kind() {
                EventKind::Unspecified => "unknown".to_owned(),
                kind => small(kind.as_str_name(), "EVENT_KIND_"),
            };
            json!({ "type": kind, "timestamp": time(event.occur_time.as_ref()), "cursor": cursor, "data": data(event) })
        }
        Some(Update::Snapshot(snapshot)) => {
            let balances: Vec<Value> = snapshot.balances.iter().map(balance).collect();
            json!({ "type": "snapshot", "cursor": cursor, "data": { "balances": balances, "last": snapshot.last } })
        }
        Some(Update::Heartbeat(_)) | None => json!({ "type": "heartbeat", "cursor": cursor }),
    }
}

fn data(event: &Event) -> Value {
    let balances: Vec<Value> = event.balances.iter().map(balance).collect();
    object([
        ("sequence", int64(event.sequence)),
        ("tenant", text(&event.tenant)),
        ("tenant_sequence", figure(event.tenant_sequence)),
        ("percent", small_number(event.percent)),
        ("generation", small_number(event.generation)),
        ("requested", figure(event.requested)),
        ("adjusted", figure(event.adjusted)),
        ("reason", text(&event.reason)),
        ("operator", text(&event.operator)),
        ("caller", text(&event.caller)),
        ("reservation", event.reservation.as_ref().map_or(Value::Null, reservation)),
        ("webhook", text(&event.webhook)),
        ("faults", figure(event.faults)),
        ("changed", event.change.as_ref().map_or(Value::Null, change)),
        ("balances", if balances.is_empty() { Value::Null } else { balances.into() }),
    ])
}

pub(in crate::cli) fn balance(balance: &Balance) -> Value {
    let limited = !balance.limit_id.is_empty();
    let enforcement = small(balance.enforcement().as_str_name(), "ENFORCEMENT_");
    let period = small(balance.period().as_str_name(), "PERIOD_");
    object([
        ("resource", text(&balance.resource)),
        ("agent", balance.agent.clone().into()),
        ("user", balance.user.clone().into()),
        ("model", balance.model.clone().into()),
        ("labels", if balance.labels.is_empty() { Value::Null } else { labels(&balance.labels) }),
        ("limit_id", text(&balance.limit_id)),
        ("quantity", balance.quantity.map_or(Value::Null, int64)),
        ("allowance", balance.allowance.map_or(Value::Null, int64)),
        ("carried", figure(balance.carried)),
        ("enforcement", if limited { enforcement.into() } else { Value::Null }),
        ("source", balance.source.as_ref().map_or(Value::Null, source)),
        ("committed", int64(balance.committed)),
        ("reserved", int64(balance.reserved)),
        ("remaining", balance.remaining.map_or(Value::Null, int64)),
        ("exceeded", flag(balance.exceeded)),
        ("refused", int64(balance.refused)),
        ("period", if balance.period == 0 { Value::Null } else { period.into() }),
        ("counted_since", text(&time(balance.counted_since.as_ref()))),
        ("window_start", text(&time(balance.window_start.as_ref()))),
        ("window_end", text(&time(balance.window_end.as_ref()))),
    ])
}

fn source(source: &LimitSource) -> Value {
    object([
        ("plan", text(&source.plan)),
        ("agent", text(&source.agent)),
        ("override", text(&source.r#override)),
        ("override_end_time", text(&time(source.override_end_time.as_ref()))),
    ])
}

fn served(served: &Served) -> Value {
    json!({ "agent": served.agent, "user": served.user, "model": served.model })
}

pub(in crate::cli) fn reservation(reservation: &Reservation) -> Value {
    let amounts = reservation.amounts.iter().map(|amount| {
        object([
            ("resource", text(&amount.resource)),
            ("reserved", int64(amount.reserved)),
            ("committed", int64(amount.committed)),
            ("overrun", figure(amount.overrun)),
        ])
    });
    object([
        ("name", text(&reservation.name)),
        ("state", small(reservation.state().as_str_name(), "RESERVATION_STATE_").into()),
        ("agent", text(&reservation.agent)),
        ("user", text(&reservation.user)),
        ("model", text(&reservation.model)),
        ("request_id", text(&reservation.request_id)),
        ("late", flag(reservation.late)),
        ("on_expiry", small(reservation.on_expiry().as_str_name(), "ON_EXPIRY_").into()),
        ("create_time", text(&time(reservation.create_time.as_ref()))),
        ("expire_time", text(&time(reservation.expire_time.as_ref()))),
        ("occurred_time", text(&time(reservation.occurred_time.as_ref()))),
        ("settle_time", text(&time(reservation.settle_time.as_ref()))),
        ("amounts", amounts.collect()),
        ("labels", labels(&reservation.labels)),
        ("served", reservation.served.as_ref().map_or(Value::Null, served)),
    ])
}

fn labels(labels: &HashMap<String, String>) -> Value {
    let labels: Map<String, Value> =
        labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    labels.into()
}

fn change(change: &PolicyChange) -> Value {
    object([
        ("kind", small(change.subject().as_str_name(), "SUBJECT_").into()),
        ("id", change.id.as_str().into()),
        ("action", small(change.action().as_str_name(), "ACTION_").into()),
        ("fields", if change.fields.is_empty() { Value::Null } else { change.fields.clone().into() }),
    ])
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn int64(number: i64) -> Value {
    number.to_string().into()
}

fn figure(number: i64) -> Value {
    if number == 0 { Value::Null } else { int64(number) }
}

fn small_number(number: i32) -> Value {
    if number == 0 { Value::Null } else { number.into() }
}

fn flag(set: bool) -> Value {
    if set { true.into() } else { Value::Null }
}

fn small(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1::{Heartbeat, Period};

    #[test]
    fn a_message_of_no_tenant_names_its_subject() {
        let of = |event: Event| {
            message(&WatchUsageResponse { update: Some(Update::Event(event)), cursor: "c".into() })
        };
        let disabled = Event {
            kind: EventKind::WebhookDisabled.into(),
            sequence: 7,
            webhook: "wh_1".into(),
            ..Event::default()
        };
        assert_eq!(of(disabled)["data"], json!({ "sequence": "7", "webhook": "wh_1" }));
        let disagree =
            Event { kind: EventKind::BooksDisagree.into(), sequence: 8, faults: 3, ..Event::default() };
        assert_eq!(of(disagree)["data"], json!({ "sequence": "8", "faults": "3" }));
        let beat = WatchUsageResponse { update: Some(Update::Heartbeat(Heartbeat {})), cursor: "c".into() };
        assert_eq!(message(&beat), json!({ "type": "heartbeat", "cursor": "c" }));
    }

    #[test]
    fn a_balance_and_a_reservation_are_printed_with_all_fields() {
        let given = Balance {
            period: Period::Day.into(),
            remaining: Some(0),
            exceeded: true,
            counted_since: Some(prost_types::Timestamp { seconds: 1_773_662_400, nanos: 0 }),
            ..Balance::default()
        };
        let printed = balance(&given);
        assert_eq!(
            (&printed["period"], &printed["remaining"], &printed["exceeded"]),
            (&json!("day"), &json!("0"), &json!(true))
        );
        assert_eq!(printed["counted_since"], "2026-03-16T12:00:00Z");
        let given = Reservation {
            late: true,
            on_expiry: 2,
            settle_time: Some(prost_types::Timestamp { seconds: 1_773_662_400, nanos: 0 }),
            ..Reservation::default()
        };
        let printed = reservation(&given);
        assert_eq!((&printed["late"], &printed["on_expiry"]), (&json!(true), &json!("charge")));
        assert_eq!(printed["settle_time"], "2026-03-16T12:00:00Z");
    }
}
