//! Writes the changes of a batch, in statements over all of its tenants at once.

use std::sync::Arc;

use sea_orm::{Value, sea_query::ArrayType};
use uuid::Uuid;

use super::{
    alerts::encode_alerts,
    body,
    columns::{Owned, owned, uuid},
    rare::push_rare,
    rows::{label_column, method_code},
    tenant::update_tenants,
};
use crate::{
    domain::{books::Changes, id::ReservationId, reservation::Reservation, shape::PerDimension},
    store::{
        Batch, Dialect, StoreError, Transaction,
        bulk::{Bulk, Write, empty_columns, push},
    },
};

use ArrayType::{BigInt, Bytes, Int, SmallInt, String as Text, Uuid as Id};

// Holds and reservations are changed by their `ctid`: see the comment in `find.rs`.

/// UNNEST in the list of SELECT passes on each row at once. With UNNEST in FROM, PostgreSQL would first store each
/// whole column. Without OR FAIL, here and below, SQLite would keep a journal to undo a single statement. But these
/// statements are only undone with their transaction.
static INSERT_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes, Int, SmallInt, BigInt, BigInt, Text, Text, Text, BigInt, BigInt, BigInt, Bytes, BigInt, BigInt, Text],
    postgres: "INSERT INTO counters (tenant_key, key, resource_key, period, window_start, window_end, agent, user_name,
                           model, committed, reserved, counted_since, alerts, since_order, forgiven_until, labels)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4), UNNEST($5), UNNEST($6),
            UNNEST($7), UNNEST($8), UNNEST($9), UNNEST($10), UNNEST($11), UNNEST($12),
             UNNEST($13), UNNEST($14), UNNEST($15), UNNEST($16)",
    sqlite: "INSERT OR FAIL INTO counters (tenant_key, key, resource_key, period, window_start, window_end, agent,
                                   user_name, model, committed, reserved, counted_since, alerts, since_order, forgiven_until,
                                   labels)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
};
/// Removes the note of the job `prune`, because the counter is used.
static UPDATE_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes, BigInt, BigInt],
    postgres: "UPDATE counters c SET committed = w.committed, reserved = w.reserved, idle_figures = NULL
       FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key, UNNEST($3) AS committed, UNNEST($4) AS reserved) AS w
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    sqlite: "UPDATE OR FAIL counters SET committed = ?3, reserved = ?4, idle_figures = NULL
      WHERE tenant_key = ?1 AND key = ?2",
};
static INSERT_HOLDS: Bulk = Bulk {
    columns: &[BigInt, Id, BigInt, Bytes],
    postgres: "INSERT INTO holds (tenant_key, id, deadline, body)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4)",
    sqlite: "INSERT OR FAIL INTO holds (tenant_key, id, deadline, body) VALUES (?1, ?2, ?3, ?4)",
};
pub(super) static UPDATE_HOLDS: Bulk = Bulk {
    columns: &[BigInt, Id, BigInt, Bytes],
    postgres: "UPDATE holds h SET deadline = w.deadline, body = w.body
       FROM (SELECT w.deadline, w.body, p.place
               FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS id, UNNEST($3) AS deadline, UNNEST($4) AS body) AS w
              CROSS JOIN LATERAL (
                SELECT ctid AS place FROM holds WHERE tenant_key = w.tenant_key AND id = w.id OFFSET 0) AS p) AS w
      WHERE h.ctid = w.place",
    sqlite: "UPDATE OR FAIL holds SET deadline = ?3, body = ?4 WHERE tenant_key = ?1 AND id = ?2",
};
pub(super) static DELETE_HOLDS: Bulk = Bulk {
    columns: &[BigInt, Id],
    postgres: "DELETE FROM holds WHERE ctid = ANY (ARRAY(
        SELECT p.place FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS id) AS w CROSS JOIN LATERAL (
            SELECT ctid AS place FROM holds WHERE tenant_key = w.tenant_key AND id = w.id OFFSET 0) AS p))",
    sqlite: "DELETE FROM holds WHERE tenant_key = ?1 AND id = ?2",
};
static INSERT_SETTLED: Bulk = Bulk {
    columns: &[Id, BigInt, SmallInt, BigInt, Bytes],
    postgres: "INSERT INTO reservations (id, tenant_key, state, settled_at, body)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4), UNNEST($5)",
    sqlite: "INSERT OR FAIL INTO reservations (id, tenant_key, state, settled_at, body) VALUES (?1, ?2, ?3, ?4, ?5)",
};
pub(super) static UPDATE_SETTLED: Bulk = Bulk {
    columns: &[Id, BigInt, SmallInt, BigInt, Bytes],
    postgres: "UPDATE reservations r SET state = w.state, settled_at = w.settled_at, body = w.body
       FROM (SELECT w.state, w.settled_at, w.body, p.place
               FROM (SELECT UNNEST($1) AS id, UNNEST($2) AS tenant_key, UNNEST($3) AS state, UNNEST($4) AS settled_at,
                            UNNEST($5) AS body) AS w
              CROSS JOIN LATERAL (
                SELECT ctid AS place FROM reservations WHERE id = w.id AND tenant_key = w.tenant_key OFFSET 0) AS p) AS w
      WHERE r.ctid = w.place",
    sqlite: "UPDATE OR FAIL reservations SET state = ?3, settled_at = ?4, body = ?5 WHERE id = ?1 AND tenant_key = ?2",
};
static INSERT_REQUESTS: Bulk = Bulk {
    columns: &[BigInt, Text, Id, SmallInt, Id, Bytes, BigInt],
    postgres: "INSERT INTO requests (tenant_key, request_id, fingerprint, method, reservation_id, reply, created_at)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4), UNNEST($5), UNNEST($6), UNNEST($7)",
    sqlite: "INSERT OR FAIL INTO requests (tenant_key, request_id, fingerprint, method, reservation_id, reply, created_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
};
static INSERT_ADJUSTMENTS: Bulk = Bulk {
    columns: &[Id, BigInt, Bytes, BigInt, Text, Text, BigInt],
    postgres: "INSERT INTO adjustments (id, tenant_key, counter_key, delta, reason, operator, created_at)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4), UNNEST($5), UNNEST($6), UNNEST($7)",
    sqlite:
        "INSERT OR FAIL INTO adjustments (id, tenant_key, counter_key, delta, reason, operator, created_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
};

impl Transaction<Batch> {
    /// Saves the changes of a batch.
    pub async fn save(&self, changes: &[Changes]) -> Result<(), StoreError> {
        self.note_events_of(changes);
        self.write(writes_of(self.dialect(), changes)?).await.map_err(known_request)
    }

    /// Saves the changes of a batch, and commits. After [`StoreError::Unavailable`] the outcome is unknown.
    pub async fn save_and_commit(self, changes: &[Changes]) -> Result<(), StoreError> {
        self.note_events_of(changes);
        let writes = writes_of(self.dialect(), changes)?;
        self.write_and_commit(writes).await.map_err(known_request)
    }
}

fn writes_of(dialect: Dialect, changes: &[Changes]) -> Result<Vec<Write>, StoreError> {
    let mut writes = writes_of_tenants(changes);
    writes.extend(update_tenants(dialect, changes)?);
    Ok(writes)
}

/// Returns all writes except those of the tenants' own rows.
pub(super) fn writes_of_tenants(changes: &[Changes]) -> Vec<Write> {
    let mut writes = Vec::with_capacity(12);
    push_counters(&mut writes, changes);
    push_reservations(&mut writes, changes);
    push_requests(&mut writes, changes);
    push_adjustments(&mut writes, changes);
    push_rare(&mut writes, changes);
    writes
}

/// Turns a conflict into [`StoreError::KnownRequest`]. Only a `request_id` can conflict: all other keys are minted, or
/// were looked up under the lock.
pub(super) fn known_request(error: StoreError) -> StoreError {
    match error {
        StoreError::Conflict(_) => StoreError::KnownRequest,
        other => other,
    }
}

fn push_counters(writes: &mut Vec<Write>, changes: &[Changes]) {
    let mut columns = empty_columns(16);
    for (tenant, (key, counter, alerts)) in owned(changes, |change| &change.new_counters) {
        let PerDimension { agent, user, model } = key.dimensions().map(Value::from);
        let row = [
            tenant.0.into(),
            key.as_bytes().to_vec().into(),
            key.resource().0.into(),
            i16::from(key.period().code()).into(),
            counter.window.start.into(),
            counter.window.end.into(),
            agent,
            user,
            model,
            counter.committed.into(),
            counter.reserved.into(),
            counter.counted_since.at.into(),
            Value::Bytes(alerts.as_ref().map(encode_alerts)),
            counter.counted_since.order.into(),
            counter.forgiven_until.into(),
            label_column(key).into(),
        ];
        push(&mut columns, row);
    }
    writes.push((&INSERT_COUNTERS, columns));

    let mut columns = empty_columns(4);
    for (tenant, (key, counter)) in owned(changes, |change| &change.counters) {
        let key = key.as_bytes().to_vec();
        push(&mut columns, [tenant.0.into(), key.into(), counter.committed.into(), counter.reserved.into()]);
    }
    writes.push((&UPDATE_COUNTERS, columns));
}

fn push_reservations(writes: &mut Vec<Write>, changes: &[Changes]) {
    let mut ended = empty_columns(2);
    for (tenant, id) in in_order(owned(changes, |change| &change.ended_holds), |id| **id) {
        push(&mut ended, [tenant.0.into(), uuid(*id)]);
    }
    writes.push((&DELETE_HOLDS, ended));
    writes.push((&INSERT_HOLDS, hold_columns(owned(changes, |change| &change.new_holds))));
    writes.push((&UPDATE_HOLDS, hold_columns(owned(changes, |change| &change.holds))));
    writes.push((&INSERT_SETTLED, settled_columns(owned(changes, |change| &change.settled))));
    writes.push((&UPDATE_SETTLED, settled_columns(owned(changes, |change| &change.resettled))));
}

fn push_requests(writes: &mut Vec<Write>, changes: &[Changes]) {
    let mut columns = empty_columns(7);
    for change in changes {
        for (id, request) in &change.requests {
            let answer = request.answer.as_ref().map(body::encode_answer);
            let row = [
                change.tenant.0.into(),
                id.as_str().into(),
                Uuid::from_bytes(request.fingerprint).into(),
                method_code(request.method).into(),
                uuid(request.reservation),
                Value::Bytes(answer),
                change.decided_at.into(),
            ];
            push(&mut columns, row);
        }
    }
    writes.push((&INSERT_REQUESTS, columns));
}

fn push_adjustments(writes: &mut Vec<Write>, changes: &[Changes]) {
    let mut columns = empty_columns(7);
    for change in changes {
        for adjustment in &change.adjustments {
            let row = [
                uuid(adjustment.id),
                change.tenant.0.into(),
                adjustment.key.as_bytes().to_vec().into(),
                adjustment.delta.into(),
                adjustment.reason.as_str().into(),
                adjustment.operator.as_str().into(),
                change.decided_at.into(),
            ];
            push(&mut columns, row);
        }
    }
    writes.push((&INSERT_ADJUSTMENTS, columns));
}

fn hold_columns<'a>(owned: impl Iterator<Item = Owned<&'a Arc<Reservation>>>) -> Vec<Vec<Value>> {
    let mut columns = empty_columns(4);
    for (tenant, hold) in in_order(owned, |hold| hold.id) {
        let body = body::encode_reservation(hold);
        push(&mut columns, [tenant.0.into(), uuid(hold.id), hold.deadline.into(), body.into()]);
    }
    columns
}

fn settled_columns<'a>(owned: impl Iterator<Item = Owned<&'a Arc<Reservation>>>) -> Vec<Vec<Value>> {
    let mut columns = empty_columns(5);
    for (tenant, reservation) in in_order(owned, |reservation| reservation.id) {
        let row = [
            uuid(reservation.id),
            tenant.0.into(),
            reservation.state.code().into(),
            reservation.settled_at.unwrap_or_default().into(),
            body::encode_reservation(reservation).into(),
        ];
        push(&mut columns, row);
    }
    columns
}

/// Sorts rows by id, which is the order of time, so that new rows are appended.
fn in_order<T>(rows: impl Iterator<Item = Owned<T>>, id: impl Fn(&T) -> ReservationId) -> Vec<Owned<T>> {
    let mut all: Vec<_> = rows.collect();
    all.sort_unstable_by_key(|(_, row)| id(row));
    all
}
