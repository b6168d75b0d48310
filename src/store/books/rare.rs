//! The rare writes of a batch: events, corrections for the audit, and counters whose alerts changed or that started from zero.

use sea_orm::sea_query::ArrayType;

use super::{alerts::encode_alerts, columns::owned};
use crate::{
    domain::{books::Changes, event_kind::EventKind},
    store::{
        Transaction, Writes,
        audit::push_corrections,
        bulk::{Bulk, Write, empty_columns, push},
        log::write::{INSERT_EVENTS, push_events},
    },
};

use ArrayType::{BigInt, Bytes};

/// Updates all columns of a counter that may change. Removes the note of the job `prune`, because the counter is used.
static UPDATE_FULL_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes, BigInt, BigInt, Bytes, BigInt, BigInt, BigInt, BigInt],
    postgres: "UPDATE counters c SET committed = w.committed, reserved = w.reserved, alerts = w.alerts,
            counted_since = w.counted_since, since_order = w.since_order, forgiven_until = w.forgiven_until,
            window_end = w.window_end, idle_figures = NULL
       FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key, UNNEST($3) AS committed, UNNEST($4) AS reserved,
                    UNNEST($5) AS alerts, UNNEST($6) AS counted_since, UNNEST($7) AS since_order,
                    UNNEST($8) AS forgiven_until, UNNEST($9) AS window_end) AS w
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    sqlite: "UPDATE OR FAIL counters SET committed = ?3, reserved = ?4, alerts = ?5, counted_since = ?6, since_order = ?7,
            forgiven_until = ?8, window_end = ?9, idle_figures = NULL WHERE tenant_key = ?1 AND key = ?2",
};

impl<W: Writes> Transaction<W> {
    /// Notes the events that the transaction writes, and the holds that it ends at their deadlines.
    pub(super) fn note_events_of(&self, changes: &[Changes]) {
        let (events, expired) = count_events(changes);
        self.note_events(events);
        self.note_expired(expired);
    }
}

/// Counts the events of these changes, and the holds that end at their deadlines: each of them has one event.
fn count_events(changes: &[Changes]) -> (u64, u64) {
    let events = changes.iter().flat_map(|change| &change.events);
    events.fold((0, 0), |(events, expired), event| {
        (events + 1, expired + u64::from(event.kind() == EventKind::ReservationExpired))
    })
}

/// Adds events, and counters whose alerts changed or that started from zero, to a batch's writes.
pub(super) fn push_rare(writes: &mut Vec<Write>, changes: &[Changes]) {
    let mut counters = empty_columns(9);
    for (tenant, (key, counter, alerts)) in owned(changes, |change| &change.full_counters) {
        let row = [
            tenant.0.into(),
            key.as_bytes().to_vec().into(),
            counter.committed.into(),
            counter.reserved.into(),
            encode_alerts(alerts).into(),
            counter.counted_since.at.into(),
            counter.counted_since.order.into(),
            counter.forgiven_until.into(),
            counter.window.end.into(),
        ];
        push(&mut counters, row);
    }
    writes.push((&UPDATE_FULL_COUNTERS, counters));
    let mut events = empty_columns(5);
    for change in changes.iter().filter(|change| !change.events.is_empty()) {
        push_events(&mut events, change.tenant, &change.events, change.event_number);
    }
    writes.push((&INSERT_EVENTS, events));
    push_corrections(writes, changes);
}
