//! What a webhook says: JSON, whose schema is `schemas/webhook.json`.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::{
    clock::random,
    domain::{webhook::Webhook, window::Millis},
};

/// The type of a test.
const TEST_TYPE: &str = "test";

/// Id and body of a test.
pub(super) fn test(webhook: &Webhook, now: Millis) -> (String, String) {
    let data = json!({ "webhook": { "id": webhook.id } });
    (format!("test_{:08x}{:08x}", random(), random()), envelope(TEST_TYPE, now, data))
}

fn envelope(kind: &str, at: Millis, data: Value) -> String {
    json!({ "type": kind, "timestamp": instant(at), "data": data }).to_string()
}

/// 2026-12-01T00:00:00.000Z.
fn instant(at: Millis) -> String {
    let instant = DateTime::from_timestamp_millis(at).unwrap_or_default();
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}
