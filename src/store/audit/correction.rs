//! Writes the corrections of batches. Their texts have the form of replies in JSON: int64 as strings, and the names of
//! the contract.

use chrono::{DateTime, SecondsFormat};
use sea_orm::sea_query::ArrayType;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    domain::{
        audit::{COUNTERS_MAX, ChangeId, Corrected, Correction, Figures, Note, ResetCounter, ThingKind},
        books::Changes,
        time::Time,
    },
    store::bulk::{Bulk, Write, empty_columns, push},
};

use ArrayType::{BigInt, SmallInt, String as Text, Uuid as Id};

static INSERT_CHANGES: Bulk = Bulk {
    columns: &[Id, BigInt, Text, Text, Text, SmallInt, Text, Text, Text, Text, Text],
    postgres: "INSERT INTO changes (id, changed_at, caller, address, rpc, kind, thing, tenant, before, after, request_id)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4), UNNEST($5), UNNEST($6), UNNEST($7), UNNEST($8),
            UNNEST($9), UNNEST($10), UNNEST($11)",
    sqlite: "INSERT OR FAIL INTO changes (id, changed_at, caller, address, rpc, kind, thing, tenant, before, after,
                                  request_id)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
};

/// Adds the corrections of a batch to its writes. Nearly all batches have none.
pub(in crate::store) fn push_corrections(writes: &mut Vec<Write>, changes: &[Changes]) {
    if changes.iter().all(|change| change.audited.is_empty()) {
        return;
    }
    let mut columns = empty_columns(11);
    for correction in changes.iter().flat_map(|change| &change.audited) {
        let Correction { id, author, tenant, corrected } = correction;
        let (kind, thing, before, after) = described(tenant, corrected);
        let row = [
            Uuid::from_bytes(id.0).into(),
            ChangeId(id.0).at().into(),
            author.caller.as_str().into(),
            author.address.as_str().into(),
            author.rpc.into(),
            kind.code().into(),
            thing.into(),
            (**tenant).into(),
            before.to_string().into(),
            after.to_string().into(),
            author.request_id.as_str().into(),
        ];
        push(&mut columns, row);
    }
    writes.push((&INSERT_CHANGES, columns));
}

/// Returns the kind and the id of the corrected thing, and the texts before and after the correction.
fn described<'a>(tenant: &'a str, corrected: &'a Corrected) -> (ThingKind, &'a str, Value, Value) {
    match corrected {
        Corrected::Reservation { name, before, after, note } => {
            let after = with_note(reservation(after), note.as_ref());
            (ThingKind::Reservation, name, reservation(before), after)
        }
        Corrected::Usage { counters, count, note } => {
            let list = |units: fn(&ResetCounter) -> i64| -> Value {
                let left_out = count.saturating_sub(COUNTERS_MAX);
                let mut usage = json!({
                    "balances": counters.iter().map(|found| counter(found, units(found))).collect::<Vec<_>>(),
                });
                if left_out > 0 {
                    usage["counters_left_out"] = left_out.to_string().into();
                }
                usage
            };
            let after = with_note(list(|counter| counter.after), Some(note));
            (ThingKind::Usage, tenant, list(|counter| counter.before), after)
        }
    }
}

fn reservation(figures: &Figures) -> Value {
    let amounts = figures.amounts.iter().map(|(resource, reserved, committed)| {
        json!({
            "resource": resource, "reserved": reserved.to_string(), "committed": committed.to_string(),
        })
    });
    json!({
        "state": format!("RESERVATION_STATE_{}", figures.state.name()),
        "amounts": amounts.collect::<Vec<_>>(),
    })
}

fn counter(counter: &ResetCounter, committed: i64) -> Value {
    let mut value = Map::new();
    value.insert("resource".to_owned(), counter.resource.as_str().into());
    if !counter.limits.is_empty() {
        value.insert("limit_ids".to_owned(), counter.limits.clone().into());
    }
    for (dimension, name) in counter.key.dimensions() {
        if let Some(name) = name {
            value.insert(dimension.name().to_owned(), name.into());
        }
    }
    let labels: Map<String, Value> =
        counter.key.labels().map(|(key, value)| (key.to_owned(), value.into())).collect();
    if !labels.is_empty() {
        value.insert("labels".to_owned(), labels.into());
    }
    if counter.window.has_bounds() {
        value.insert("window_start".to_owned(), instant(counter.window.start).into());
        value.insert("window_end".to_owned(), instant(counter.window.end).into());
    }
    value.insert("committed".to_owned(), committed.to_string().into());
    value.into()
}

/// Returns an instant in RFC 3339, such as 2026-12-01T00:00:00Z.
fn instant(at: Time) -> String {
    let instant = DateTime::from_timestamp_millis(at.0).unwrap_or_default();
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn with_note(mut value: Value, note: Option<&Note>) -> Value {
    if let Some(Note { reason, operator }) = note {
        value["reason"] = reason.as_str().into();
        value["operator"] = operator.as_str().into();
    }
    value
}
