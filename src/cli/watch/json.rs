//! Messages as JSON objects: the names are those of the contract, kinds and states are in small letters, and what is at its
//! zero value is left out.

use serde_json::{Map, Value, json};

use super::text::time;
use crate::grpc::v1::{
    Balance, Event, PolicyChange, Reservation, WatchUsageResponse, watch_usage_response::Update,
};

/// A message: its type, when it happened, the cursor to go on from, and the rest.
pub(super) fn message(message: &WatchUsageResponse) -> Value {
    let cursor = &message.cursor;
    match &message.update {
        Some(Update::Event(event)) => {
            let kind = small(event.kind().as_str_name(), "EVENT_KIND_");
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
        ("sequence", event.sequence.into()),
        ("tenant", text(&event.tenant)),
        ("tenant_sequence", number(event.tenant_sequence)),
        ("percent", number(event.percent.into())),
        ("generation", number(event.generation.into())),
        ("requested", number(event.requested)),
        ("adjusted", number(event.adjusted)),
        ("reason", text(&event.reason)),
        ("operator", text(&event.operator)),
        ("reservation", event.reservation.as_ref().map_or(Value::Null, reservation)),
        ("changed", event.change.as_ref().map_or(Value::Null, change)),
        ("balances", if balances.is_empty() { Value::Null } else { balances.into() }),
    ])
}

fn balance(balance: &Balance) -> Value {
    let limited = !balance.limit_id.is_empty();
    let enforcement = small(balance.enforcement().as_str_name(), "ENFORCEMENT_");
    object([
        ("resource", text(&balance.resource)),
        ("agent", balance.agent.clone().into()),
        ("user", balance.user.clone().into()),
        ("model", balance.model.clone().into()),
        ("limit_id", text(&balance.limit_id)),
        ("quantity", balance.quantity.into()),
        ("allowance", balance.allowance.into()),
        ("enforcement", if limited { enforcement.into() } else { Value::Null }),
        ("committed", balance.committed.into()),
        ("reserved", balance.reserved.into()),
        ("refused", balance.refused.into()),
        ("window_start", text(&time(balance.window_start.as_ref()))),
        ("window_end", text(&time(balance.window_end.as_ref()))),
    ])
}

fn reservation(reservation: &Reservation) -> Value {
    let amounts = reservation.amounts.iter().map(|amount| {
        json!({ "resource": amount.resource, "reserved": amount.reserved, "committed": amount.committed })
    });
    let labels: Map<String, Value> =
        reservation.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    object([
        ("name", text(&reservation.name)),
        ("state", small(reservation.state().as_str_name(), "RESERVATION_STATE_").into()),
        ("agent", text(&reservation.agent)),
        ("user", text(&reservation.user)),
        ("model", text(&reservation.model)),
        ("request_id", text(&reservation.request_id)),
        ("amounts", amounts.collect()),
        ("labels", labels.into()),
    ])
}

fn change(change: &PolicyChange) -> Value {
    json!({
        "kind": small(change.subject().as_str_name(), "SUBJECT_"),
        "id": change.id,
        "action": small(change.action().as_str_name(), "ACTION_"),
    })
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn number(number: i64) -> Value {
    if number == 0 { Value::Null } else { number.into() }
}

fn small(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}
