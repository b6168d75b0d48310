//! What a batch writes only when there is something to tell: events, and what was told of counters.

use sea_orm::sea_query::ArrayType;

use super::{
    Transaction,
    batch::{empty_columns, owned, push},
    bulk::{Bulk, Write},
    event_body::{encode_alerts, encode_event},
};
use crate::domain::{books::Changes, event::Event, id::TenantKey};

use ArrayType::{BigInt, Bytes, SmallInt};

pub(super) static INSERT_EVENTS: Bulk = Bulk {
    columns: &[BigInt, BigInt, SmallInt, BigInt, Bytes],
    postgres: "INSERT INTO pending_events (tenant_key, number, kind, occurred_at, body)
     SELECT * FROM UNNEST($1, $2, $3, $4, $5)",
    sqlite: "INSERT OR FAIL INTO pending_events (tenant_key, number, kind, occurred_at, body)
     VALUES (?1, ?2, ?3, ?4, ?5)",
};
static UPDATE_TOLD_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes, BigInt, BigInt, Bytes],
    postgres: "UPDATE counters c SET committed = w.committed, reserved = w.reserved, alerts = w.alerts
       FROM UNNEST($1, $2, $3, $4, $5) AS w (tenant_key, key, committed, reserved, alerts)
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    sqlite: "UPDATE OR FAIL counters SET committed = ?3, reserved = ?4, alerts = ?5 WHERE tenant_key = ?1 AND key = ?2",
};
static UPDATE_TELLING_TENANTS: Bulk = Bulk {
    columns: &[BigInt, BigInt, BigInt, BigInt, BigInt],
    postgres: "UPDATE tenants t SET decided_at = w.decided_at, next_due = w.next_due, version = w.version,
            event_number = w.event_number
       FROM UNNEST($1, $2, $3, $4, $5) AS w (key, decided_at, next_due, version, event_number) WHERE t.key = w.key",
    sqlite: "UPDATE OR FAIL tenants SET decided_at = ?2, next_due = ?3, version = ?4, event_number = ?5 WHERE key = ?1",
};

impl Transaction {
    /// Adds what there is to tell to the writes of a batch.
    pub(super) fn push_told(&self, writes: &mut Vec<Write>, changes: &[Changes]) {
        let mut counters = empty_columns(5);
        for (tenant, (key, counter, alerts)) in owned(changes, |change| &change.told_counters) {
            let row = [
                tenant.0.into(),
                key.as_bytes().to_vec().into(),
                counter.committed.into(),
                counter.reserved.into(),
                encode_alerts(alerts).into(),
            ];
            push(&mut counters, row);
        }
        writes.push((&UPDATE_TOLD_COUNTERS, counters));
        let (mut tenants, mut events) = (empty_columns(5), empty_columns(5));
        for change in changes.iter().filter(|change| !change.events.is_empty()) {
            let row = [
                change.tenant.0.into(),
                change.decided_at.into(),
                change.next_due.into(),
                change.version.into(),
                change.event_number.into(),
            ];
            push(&mut tenants, row);
            push_events(&mut events, change.tenant, &change.events, change.event_number);
            self.tells();
        }
        writes.push((&UPDATE_TELLING_TENANTS, tenants));
        writes.push((&INSERT_EVENTS, events));
    }
}

/// Rows of events, the last of which has this number.
pub(super) fn push_events(
    columns: &mut [Vec<sea_orm::Value>],
    tenant: TenantKey,
    events: &[Event],
    last_number: i64,
) {
    let first = last_number - i64::try_from(events.len()).unwrap_or(0) + 1;
    for (number, event) in (first..).zip(events) {
        let row = [
            tenant.0.into(),
            number.into(),
            event.kind().code().into(),
            event.occurred_at.into(),
            encode_event(event).into(),
        ];
        push(columns, row);
    }
}
