//! The body of a webhook: JSON, whose schema is `schemas/webhook.json`.

use chrono::{DateTime, SecondsFormat};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};

use crate::{
    clock::random,
    domain::{
        counter::CounterKey,
        event::{ChangeAction, ChangedKind, Event, Fact, Figures, LimitFigures, LoggedEvent},
        id::reservation_name,
        plan::Enforcement,
        reservation::Reservation,
        shape::Dimension,
        webhook::{Webhook, WebhookState},
        window::{Millis, WINDOW_END_NONE},
    },
};

/// The `type` of a test.
const TEST_TYPE: &str = "test";

/// The `type` of an event that a later version wrote.
const UNKNOWN_TYPE: &str = "unknown";

/// Returns the `webhook-id` and the body of a test.
pub(super) fn test(webhook: &Webhook, now: Millis) -> (String, String) {
    let data = json!({ "webhook": { "id": webhook.id } });
    (format!("test_{:08x}{:08x}", random(), random()), envelope(TEST_TYPE, now, data))
}

/// Returns the `webhook-id` and the body of an event. Both are the same at each attempt.
pub(super) fn event(log_id: [u8; 16], logged: &LoggedEvent) -> (String, String) {
    let event = &logged.event;
    let kind = match event.fact {
        // Written by a later version: the body has its kind, place, tenant and time, and no figures.
        Fact::Unknown { .. } => UNKNOWN_TYPE.to_owned(),
        _ => event.kind().name().to_ascii_lowercase(),
    };
    let id = format!("evt_{}_{}", HEXLOWER.encode(&log_id), logged.sequence);
    (id, envelope(&kind, event.occurred_at, data(logged)))
}

fn envelope(kind: &str, at: Millis, data: Value) -> String {
    json!({ "type": kind, "timestamp": instant(at), "data": data }).to_string()
}

fn data(logged: &LoggedEvent) -> Value {
    let event = &logged.event;
    let mut data = Map::new();
    data.insert("sequence".to_owned(), int64(logged.sequence));
    if !event.tenant.is_empty() {
        data.insert("tenant".to_owned(), (*event.tenant).into());
        data.insert("tenant_sequence".to_owned(), int64(logged.number));
    }
    let more = match &event.fact {
        Fact::Reached { percent, generation, .. } | Fact::Cleared { percent, generation, .. } => {
            json!({ "percent": percent, "generation": generation })
        }
        Fact::Refused { requested, .. } => json!({ "requested": int64(*requested) }),
        Fact::Expired(settlement) | Fact::Late(settlement) => {
            json!({ "reservation": reservation(event, &settlement.reservation) })
        }
        Fact::Closed(_) => json!({}),
        Fact::Unknown { code } => json!({ "kind": code }),
        Fact::Reset { delta, reason, operator, .. } => {
            json!({ "adjusted": int64(*delta), "reason": reason, "operator": operator })
        }
        Fact::Changed { kind, id, action } => {
            json!({ "changed": { "kind": changed_kind(*kind), "id": id, "action": changed_action(*action) } })
        }
        Fact::WebhookDisabled { id, state } => {
            json!({ "webhook": { "id": id, "state": webhook_state(*state) } })
        }
        Fact::BooksDisagree { faults } => json!({ "faults": int64(*faults) }),
    };
    if let Value::Object(more) = more {
        data.extend(more);
    }
    if !event.figures().is_empty() {
        let all = event.figures().iter().map(|figures| self::figures(event, figures));
        data.insert("balances".to_owned(), all.collect());
    }
    Value::Object(data)
}

fn figures(event: &Event, figures: &Figures) -> Value {
    let mut value = Map::new();
    value.insert("resource".to_owned(), event.resource_id(figures.key.resource()).into());
    insert_dimensions(&mut value, &figures.key);
    if let Some(LimitFigures { id, quantity, allowance, enforcement }) = &figures.limit {
        value.insert("limit_id".to_owned(), id.as_str().into());
        value.insert("quantity".to_owned(), int64(*quantity));
        value.insert("allowance".to_owned(), int64(*allowance));
        value.insert("enforcement".to_owned(), enforcement_name(*enforcement).into());
    }
    value.insert("committed".to_owned(), int64(figures.counter.committed));
    value.insert("reserved".to_owned(), int64(figures.counter.reserved));
    value.insert("refused".to_owned(), int64(figures.refused));
    // The start of a window without an end means nothing.
    let window = figures.counter.window;
    if window.end != WINDOW_END_NONE {
        value.insert("window_start".to_owned(), instant(window.start).into());
        value.insert("window_end".to_owned(), instant(window.end).into());
    }
    Value::Object(value)
}

fn insert_dimensions(value: &mut Map<String, Value>, key: &CounterKey) {
    for (dimension, name) in Dimension::ALL.into_iter().zip(key.dimensions()) {
        if let Some(name) = name {
            value.insert(dimension.name().to_owned(), name.into());
        }
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
        reservation.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    json!({
        "name": reservation_name(event.tenant_key, reservation.id),
        "state": reservation.state.name().to_ascii_lowercase(),
        "agent": reservation.subject.agent,
        "user": reservation.subject.user,
        "model": reservation.subject.model,
        "request_id": reservation.request_id,
        "amounts": amounts.collect::<Vec<_>>(),
        "labels": labels,
    })
}

fn changed_kind(kind: ChangedKind) -> &'static str {
    match kind {
        ChangedKind::Resource => "resource",
        ChangedKind::Plan => "plan",
        ChangedKind::Tenant => "tenant",
    }
}

fn changed_action(action: ChangeAction) -> &'static str {
    match action {
        ChangeAction::Created => "created",
        ChangeAction::Updated => "updated",
        ChangeAction::Deleted => "deleted",
    }
}

fn enforcement_name(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Hard => "hard",
        Enforcement::Soft => "soft",
        Enforcement::Observe => "observe",
    }
}

fn webhook_state(state: WebhookState) -> &'static str {
    match state {
        WebhookState::Active => "active",
        WebhookState::Disabled => "disabled",
        WebhookState::Gone => "gone",
        WebhookState::Failed => "failed",
    }
}

/// Returns an int64 as a string, as in proto3 JSON, because JavaScript and others round numbers above 2^53.
fn int64(number: i64) -> Value {
    number.to_string().into()
}

/// Returns an instant in RFC 3339, such as 2026-12-01T00:00:00.000Z.
fn instant(at: Millis) -> String {
    let instant = DateTime::from_timestamp_millis(at).unwrap_or_default();
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}
