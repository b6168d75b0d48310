//! What a batch reads and writes, in statements over all of its tenants at once.

use std::sync::Arc;

use sea_orm::{Value, sea_query::ArrayType};
use uuid::Uuid;

use super::{
    StoreError, Transaction, body,
    bulk::{Bulk, Write},
    event_body::{decode_alerts, encode_alerts},
    tenant::{tenant_columns, tenant_from_row, update_tenants},
    told::push_told,
    transaction::Row,
};
use crate::domain::{
    alert::Alerts,
    books::{Changes, Method, Request},
    counter::{Counter, CounterKey},
    id::{ReservationId, TenantKey},
    lineage::Since,
    operation::Fingerprint,
    reservation::Reservation,
    tenant::Tenant,
    window::Window,
};

use ArrayType::{BigInt, Bytes, Int, SmallInt, String as Text, Uuid as Id};

// In a join, PostgreSQL may read a whole table: if the table was almost empty when PostgreSQL last analyzed it, or if
// it has few live rows and thousands of dead ones, as `holds` has. So each row is looked up by itself (LATERAL, with
// OFFSET 0 so that it is not merged into a join), and holds and reservations are then changed by their `ctid`.

static FIND_TENANT_KEYS: Bulk = Bulk {
    columns: &[Text],
    postgres: "SELECT key, id FROM tenants WHERE id = ANY($1)",
    sqlite: "SELECT key, id FROM tenants WHERE id = ?",
};
static FIND_REQUESTS: Bulk = Bulk {
    columns: &[BigInt, Text],
    postgres:
        "SELECT r.* FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS request_id) AS w CROSS JOIN LATERAL (
            SELECT tenant_key, request_id, fingerprint, method, reservation_id, reply FROM requests
             WHERE request_id = w.request_id AND tenant_key = w.tenant_key OFFSET 0) AS r",
    sqlite: "SELECT tenant_key, request_id, fingerprint, method, reservation_id, reply FROM requests
      WHERE tenant_key = ? AND request_id = ?",
};
pub(super) static FIND_HOLDS: Bulk = Bulk {
    columns: &[BigInt, Id],
    postgres: "SELECT h.* FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS id) AS w CROSS JOIN LATERAL (
            SELECT tenant_key, id, body FROM holds WHERE tenant_key = w.tenant_key AND id = w.id OFFSET 0) AS h",
    sqlite: "SELECT tenant_key, id, body FROM holds WHERE tenant_key = ? AND id = ?",
};
static FIND_SETTLED: Bulk = Bulk {
    columns: &[BigInt, Id],
    postgres: "SELECT r.* FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS id) AS w CROSS JOIN LATERAL (
            SELECT tenant_key, id, body FROM reservations WHERE id = w.id AND tenant_key = w.tenant_key OFFSET 0) AS r",
    sqlite: "SELECT tenant_key, id, body FROM reservations WHERE tenant_key = ? AND id = ?",
};
pub(super) static FIND_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes],
    postgres: "SELECT c.* FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key) AS w CROSS JOIN LATERAL (
            SELECT tenant_key, key, committed, reserved, window_start, window_end, counted_since, alerts,
                   since_order, forgiven_until FROM counters
             WHERE tenant_key = w.tenant_key AND key = w.key OFFSET 0) AS c",
    sqlite: "SELECT tenant_key, key, committed, reserved, window_start, window_end, counted_since, alerts,
                   since_order, forgiven_until FROM counters
      WHERE tenant_key = ? AND key = ?",
};
/// UNNEST in the list of SELECT passes rows on one by one; in FROM, PostgreSQL would first store each column whole.
/// OR FAIL, here and below: without it SQLite keeps a journal to undo a single statement, and here no statement is
/// undone alone.
static INSERT_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes, Int, SmallInt, BigInt, BigInt, Text, Text, Text, BigInt, BigInt, BigInt, Bytes, BigInt, BigInt],
    postgres: "INSERT INTO counters (tenant_key, key, resource_key, period, window_start, window_end, agent, user_name,
                           model, committed, reserved, counted_since, alerts, since_order, forgiven_until)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4), UNNEST($5), UNNEST($6),
            UNNEST($7), UNNEST($8), UNNEST($9), UNNEST($10), UNNEST($11), UNNEST($12),
             UNNEST($13), UNNEST($14), UNNEST($15)",
    sqlite: "INSERT OR FAIL INTO counters (tenant_key, key, resource_key, period, window_start, window_end, agent,
                                   user_name, model, committed, reserved, counted_since, alerts, since_order, forgiven_until)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
};
static UPDATE_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes, BigInt, BigInt],
    postgres: "UPDATE counters c SET committed = w.committed, reserved = w.reserved
       FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key, UNNEST($3) AS committed, UNNEST($4) AS reserved) AS w
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    sqlite: "UPDATE OR FAIL counters SET committed = ?3, reserved = ?4 WHERE tenant_key = ?1 AND key = ?2",
};
static INSERT_HOLDS: Bulk = Bulk {
    columns: &[BigInt, Id, BigInt, Bytes],
    postgres: "INSERT INTO holds (tenant_key, id, deadline, body)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4)",
    sqlite: "INSERT OR FAIL INTO holds (tenant_key, id, deadline, body) VALUES (?1, ?2, ?3, ?4)",
};
static UPDATE_HOLDS: Bulk = Bulk {
    columns: &[BigInt, Id, BigInt, Bytes],
    postgres: "UPDATE holds h SET deadline = w.deadline, body = w.body
       FROM (SELECT w.deadline, w.body, p.place
               FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS id, UNNEST($3) AS deadline, UNNEST($4) AS body) AS w
              CROSS JOIN LATERAL (
                SELECT ctid AS place FROM holds WHERE tenant_key = w.tenant_key AND id = w.id OFFSET 0) AS p) AS w
      WHERE h.ctid = w.place",
    sqlite: "UPDATE OR FAIL holds SET deadline = ?3, body = ?4 WHERE tenant_key = ?1 AND id = ?2",
};
static DELETE_HOLDS: Bulk = Bulk {
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
static UPDATE_SETTLED: Bulk = Bulk {
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
/// A tenant's key, and something that belongs to the tenant.
pub type Owned<T> = (TenantKey, T);

/// A counter, and its alerts; `None` if it has none.
pub type StoredCounter = (Counter, Option<Box<Alerts>>);

impl Transaction {
    /// The keys of the tenants with these ids, of those that exist. Without a lock.
    pub async fn find_tenant_keys(&self, ids: &[&str]) -> Result<Vec<Owned<String>>, StoreError> {
        let columns = vec![ids.iter().map(|&id| Value::from(id)).collect()];
        let rows = self.find(&FIND_TENANT_KEYS, columns).await?;
        rows.iter().map(|row| Ok((TenantKey(row.get(0)?), row.get(1)?))).collect()
    }

    /// The tenant of this id or key, without a lock; `None` if it does not exist.
    pub async fn find_tenant(
        &self,
        id: Option<&str>,
        key: Option<TenantKey>,
    ) -> Result<Option<Tenant>, StoreError> {
        let text = concat!(
            "SELECT ",
            tenant_columns!(),
            " FROM tenants WHERE id IS NOT NULL AND (id = $1 OR key = $2)"
        );
        let values = vec![Value::from(id.map(str::to_owned)), Value::from(key.map(|key| key.0))];
        let rows = self.rows(text, values).await?;
        rows.first().map(tenant_from_row).transpose()
    }

    /// The requests with these request ids, of those that exist.
    pub async fn find_requests(
        &self,
        ids: &[Owned<&str>],
    ) -> Result<Vec<Owned<(String, Request)>>, StoreError> {
        let columns = vec![tenants(ids), ids.iter().map(|(_, id)| Value::from(*id)).collect()];
        let rows = self.find(&FIND_REQUESTS, columns).await?;
        rows.iter().map(request_from_row).collect()
    }

    /// The open holds with these ids, of those that exist.
    pub async fn find_holds(
        &self,
        ids: &[Owned<ReservationId>],
    ) -> Result<Vec<Owned<Reservation>>, StoreError> {
        self.find_reservations(&FIND_HOLDS, ids).await
    }

    /// The settled reservations with these ids, of those that exist.
    pub async fn find_settled(
        &self,
        ids: &[Owned<ReservationId>],
    ) -> Result<Vec<Owned<Reservation>>, StoreError> {
        self.find_reservations(&FIND_SETTLED, ids).await
    }

    async fn find_reservations(
        &self,
        bulk: &Bulk,
        ids: &[Owned<ReservationId>],
    ) -> Result<Vec<Owned<Reservation>>, StoreError> {
        let rows = self.find(bulk, reservation_columns(ids)).await?;
        rows.iter().map(reservation_from_row).collect()
    }

    /// The counters with these keys, of those that exist.
    pub async fn find_counters(
        &self,
        keys: &[Owned<CounterKey>],
    ) -> Result<Vec<Owned<(CounterKey, StoredCounter)>>, StoreError> {
        let rows = self.find(&FIND_COUNTERS, counter_columns(keys)).await?;
        rows.iter().map(counter_from_row).collect()
    }

    /// Saves what a batch changed.
    pub async fn save(&self, changes: &[Changes]) -> Result<(), StoreError> {
        self.tells_if(changes);
        self.write(self.writes(changes)).await.map_err(known_request)
    }

    /// Saves what a batch changed, and commits. After [`StoreError::Unavailable`] the outcome is unknown.
    pub async fn save_and_commit(self, changes: &[Changes]) -> Result<(), StoreError> {
        self.tells_if(changes);
        let writes = self.writes(changes);
        self.write_and_commit(writes).await.map_err(known_request)
    }

    fn writes(&self, changes: &[Changes]) -> Vec<Write> {
        let mut writes = Self::writes_of_tenants(changes);
        writes.extend(update_tenants(self.dialect(), changes));
        writes
    }

    /// All writes but those of the tenants' own rows.
    pub(super) fn writes_of_tenants(changes: &[Changes]) -> Vec<Write> {
        let mut writes = Vec::with_capacity(12);
        push_counters(&mut writes, changes);
        push_reservations(&mut writes, changes);
        push_requests(&mut writes, changes);
        push_adjustments(&mut writes, changes);
        push_told(&mut writes, changes);
        writes
    }
}

/// A conflict is about a `request_id`: all other keys are minted, or were looked up under the lock.
pub(super) fn known_request(error: StoreError) -> StoreError {
    match error {
        StoreError::Conflict(_) => StoreError::KnownRequest,
        other => other,
    }
}

fn push_counters(writes: &mut Vec<Write>, changes: &[Changes]) {
    let mut columns = empty_columns(15);
    for (tenant, (key, counter, alerts)) in owned(changes, |change| &change.new_counters) {
        let [agent, user, model] = key.dimensions().map(Value::from);
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

fn tenants<T>(owned: &[Owned<T>]) -> Vec<Value> {
    owned.iter().map(|(tenant, _)| Value::from(tenant.0)).collect()
}

pub(super) fn uuid(id: ReservationId) -> Value {
    Value::from(Uuid::from_bytes(id.0))
}

pub(super) fn empty_columns(count: usize) -> Vec<Vec<Value>> {
    vec![Vec::new(); count]
}

pub(super) fn push<const N: usize>(columns: &mut [Vec<Value>], row: [Value; N]) {
    for (column, value) in columns.iter_mut().zip(row) {
        column.push(value);
    }
}

pub(super) fn owned<'a, T: 'a>(
    changes: &'a [Changes],
    rows: impl Fn(&'a Changes) -> &'a Vec<T>,
) -> impl Iterator<Item = Owned<&'a T>> {
    changes.iter().flat_map(move |change| rows(change).iter().map(|row| (change.tenant, row)))
}

/// The values by which reservations are found.
pub(super) fn reservation_columns(ids: &[Owned<ReservationId>]) -> Vec<Vec<Value>> {
    vec![tenants(ids), ids.iter().map(|(_, id)| uuid(*id)).collect()]
}

/// The values by which counters are found.
pub(super) fn counter_columns(keys: &[Owned<CounterKey>]) -> Vec<Vec<Value>> {
    vec![tenants(keys), keys.iter().map(|(_, key)| Value::from(key.as_bytes().to_vec())).collect()]
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
            reservation.settled_at.into(),
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

/// The code of a method in rows.
pub(super) fn method_code(method: Method) -> i16 {
    match method {
        Method::Reserve => 1,
        Method::Extend => 2,
        Method::Record => 3,
        Method::Reset => 4,
    }
}

pub(super) fn request_from_row(row: &Row) -> Result<Owned<(String, Request)>, StoreError> {
    let method = match row.get::<i16>(3)? {
        1 => Method::Reserve,
        2 => Method::Extend,
        3 => Method::Record,
        4 => Method::Reset,
        other => return Err(StoreError::Corrupt(format!("method {other} of a request"))),
    };
    let answer: Option<Vec<u8>> = row.get(5)?;
    let fingerprint: Fingerprint = row.get::<Uuid>(2)?.into_bytes();
    let request = Request {
        fingerprint,
        method,
        reservation: ReservationId(row.get::<Uuid>(4)?.into_bytes()),
        answer: answer.as_deref().map(body::decode_answer).transpose()?,
    };
    Ok((TenantKey(row.get(0)?), (row.get(1)?, request)))
}

pub(super) fn reservation_from_row(row: &Row) -> Result<Owned<Reservation>, StoreError> {
    let id = ReservationId(row.get::<Uuid>(1)?.into_bytes());
    let bytes: Vec<u8> = row.get(2)?;
    Ok((TenantKey(row.get(0)?), body::decode_reservation(id, &bytes)?))
}

pub(super) fn counter_from_row(row: &Row) -> Result<Owned<(CounterKey, StoredCounter)>, StoreError> {
    let key = CounterKey::from_bytes(&row.get::<Vec<u8>>(1)?)
        .ok_or_else(|| StoreError::Corrupt("a counter's key".to_owned()))?;
    let counter = Counter {
        committed: row.get(2)?,
        reserved: row.get(3)?,
        window: Window { start: row.get(4)?, end: row.get(5)? },
        counted_since: Since { at: row.get(6)?, order: row.get(8)? },
        forgiven_until: row.get(9)?,
    };
    let alerts: Option<Vec<u8>> = row.get(7)?;
    let alerts = alerts.as_deref().map(decode_alerts).transpose()?.map(Box::new);
    Ok((TenantKey(row.get(0)?), (key, (counter, alerts))))
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
