//! What a batch reads and writes, in statements over all of its tenants at once.
//!
//! On PostgreSQL a statement that waits for a row's lock and reads other tables returns what they were before the
//! wait. So [`Transaction::lock_tenants`] does only that, and everything is read after it.

use std::sync::Arc;

use sea_orm::{DbErr, QueryResult, SqlErr, Value, sea_query::ArrayType};
use uuid::Uuid;

use super::{
    Dialect, StoreError, Transaction, body, bulk::Bulk, clock::postgres_now, tenant::tenant_from_row,
};
use crate::domain::{
    books::{Changes, Method, Request},
    counter::{Counter, CounterKey},
    id::{ReservationId, TenantKey},
    operation::Fingerprint,
    reservation::Reservation,
    tenant::Tenant,
    window::{Millis, Window},
};

use ArrayType::{BigInt, Bytes, Int, SmallInt, String as Text, Uuid as Id};

/// The columns of a tenant, in the order of [`tenant_from_row`].
macro_rules! tenant_columns {
    () => {
        "key, id, display_name, plan_key, zone, state, decided_at, next_due, plan_since, created_at, updated_at, version"
    };
}

static FIND_TENANT_KEYS: Bulk = Bulk::new(
    &[Text],
    "SELECT key, id FROM tenants WHERE id = ANY($1)",
    "SELECT key, id FROM tenants WHERE id IN (VALUES {rows})",
);
static LOCK_TENANTS: Bulk = Bulk::new(
    &[BigInt],
    concat!(
        "SELECT ",
        tenant_columns!(),
        " FROM tenants WHERE key = ANY($1) AND id IS NOT NULL ORDER BY key FOR UPDATE"
    ),
    concat!("SELECT ", tenant_columns!(), " FROM tenants WHERE key IN (VALUES {rows}) AND id IS NOT NULL"),
);
static FIND_REQUESTS: Bulk = Bulk::new(
    &[BigInt, Text],
    "SELECT r.tenant_key, r.request_id, r.fingerprint, r.method, r.reservation_id, r.reply
       FROM UNNEST($1, $2) AS w (tenant_key, request_id)
       JOIN requests r ON r.tenant_key = w.tenant_key AND r.request_id = w.request_id",
    "WITH w (tenant_key, request_id) AS (VALUES {rows})
     SELECT r.tenant_key, r.request_id, r.fingerprint, r.method, r.reservation_id, r.reply
       FROM w CROSS JOIN requests r ON r.tenant_key = w.tenant_key AND r.request_id = w.request_id",
);
static FIND_HOLDS: Bulk = Bulk::new(
    &[BigInt, Id],
    "SELECT h.tenant_key, h.id, h.body FROM UNNEST($1, $2) AS w (tenant_key, id)
       JOIN holds h ON h.tenant_key = w.tenant_key AND h.id = w.id",
    "WITH w (tenant_key, id) AS (VALUES {rows}) SELECT h.tenant_key, h.id, h.body
       FROM w CROSS JOIN holds h ON h.tenant_key = w.tenant_key AND h.id = w.id",
);
static FIND_SETTLED: Bulk = Bulk::new(
    &[BigInt, Id],
    "SELECT r.tenant_key, r.id, r.body FROM UNNEST($1, $2) AS w (tenant_key, id)
       JOIN reservations r ON r.tenant_key = w.tenant_key AND r.id = w.id",
    "WITH w (tenant_key, id) AS (VALUES {rows}) SELECT r.tenant_key, r.id, r.body
       FROM w CROSS JOIN reservations r ON r.tenant_key = w.tenant_key AND r.id = w.id",
);
static FIND_COUNTERS: Bulk = Bulk::new(
    &[BigInt, Bytes],
    "SELECT c.tenant_key, c.key, c.committed, c.reserved, c.window_start, c.window_end, c.counted_since
       FROM UNNEST($1, $2) AS w (tenant_key, key)
       JOIN counters c ON c.tenant_key = w.tenant_key AND c.key = w.key",
    "WITH w (tenant_key, key) AS (VALUES {rows})
     SELECT c.tenant_key, c.key, c.committed, c.reserved, c.window_start, c.window_end, c.counted_since
       FROM w CROSS JOIN counters c ON c.tenant_key = w.tenant_key AND c.key = w.key",
);
/// No name has control characters: `\x01` stands for a value that is not counted apart. OR FAIL, here and below: without
/// it SQLite keeps a journal to undo the statement alone, and here nothing is ever undone alone.
static INSERT_COUNTERS: Bulk = Bulk::new(
    &[BigInt, Bytes, Int, SmallInt, BigInt, BigInt, Text, Text, Text, BigInt, BigInt, BigInt],
    "INSERT INTO counters (tenant_key, key, resource_key, period, window_start, window_end, agent, user_name, model,
                           committed, reserved, counted_since)
     SELECT a, b, c, d, e, f, NULLIF(g, E'\\x01'), NULLIF(h, E'\\x01'), NULLIF(i, E'\\x01'), j, k, l
       FROM UNNEST($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS w (a, b, c, d, e, f, g, h, i, j, k, l)",
    "INSERT OR FAIL INTO counters (tenant_key, key, resource_key, period, window_start, window_end, agent, user_name,
                                   model, committed, reserved, counted_since)
     SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL",
);
static UPDATE_COUNTERS: Bulk = Bulk::new(
    &[BigInt, Bytes, BigInt, BigInt],
    "UPDATE counters c SET committed = w.committed, reserved = w.reserved
       FROM UNNEST($1, $2, $3, $4) AS w (tenant_key, key, committed, reserved)
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    "WITH w (tenant_key, key, committed, reserved) AS (VALUES {rows})
     UPDATE counters SET committed = w.committed, reserved = w.reserved FROM w
      WHERE counters.tenant_key = w.tenant_key AND counters.key = w.key",
);
static INSERT_HOLDS: Bulk = Bulk::new(
    &[BigInt, Id, BigInt, Bytes],
    "INSERT INTO holds (tenant_key, id, deadline, body) SELECT * FROM UNNEST($1, $2, $3, $4)",
    "INSERT OR FAIL INTO holds (tenant_key, id, deadline, body) SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL",
);
static UPDATE_HOLDS: Bulk = Bulk::new(
    &[BigInt, Id, BigInt, Bytes],
    "UPDATE holds h SET deadline = w.deadline, body = w.body
       FROM UNNEST($1, $2, $3, $4) AS w (tenant_key, id, deadline, body)
      WHERE h.tenant_key = w.tenant_key AND h.id = w.id",
    "WITH w (tenant_key, id, deadline, body) AS (VALUES {rows})
     UPDATE holds SET deadline = w.deadline, body = w.body FROM w
      WHERE holds.tenant_key = w.tenant_key AND holds.id = w.id",
);
static DELETE_HOLDS: Bulk = Bulk::of_conditions(
    &[BigInt, Id],
    "DELETE FROM holds h USING UNNEST($1, $2) AS w (tenant_key, id)
      WHERE h.tenant_key = w.tenant_key AND h.id = w.id",
    "DELETE FROM holds WHERE {rows}",
    "(tenant_key = ? AND id = ?)",
);
static INSERT_SETTLED: Bulk = Bulk::new(
    &[Id, BigInt, SmallInt, BigInt, Bytes],
    "INSERT INTO reservations (id, tenant_key, state, settled_at, body) SELECT * FROM UNNEST($1, $2, $3, $4, $5)",
    "INSERT OR FAIL INTO reservations (id, tenant_key, state, settled_at, body) SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL",
);
static UPDATE_SETTLED: Bulk = Bulk::new(
    &[Id, BigInt, SmallInt, BigInt, Bytes],
    "UPDATE reservations r SET state = w.state, settled_at = w.settled_at, body = w.body
       FROM UNNEST($1, $2, $3, $4, $5) AS w (id, tenant_key, state, settled_at, body)
      WHERE r.id = w.id AND r.tenant_key = w.tenant_key",
    "WITH w (id, tenant_key, state, settled_at, body) AS (VALUES {rows})
     UPDATE reservations SET state = w.state, settled_at = w.settled_at, body = w.body FROM w
      WHERE reservations.id = w.id AND reservations.tenant_key = w.tenant_key",
);
static INSERT_REQUESTS: Bulk = Bulk::new(
    &[BigInt, Text, Id, SmallInt, Id, Bytes, BigInt],
    "INSERT INTO requests (tenant_key, request_id, fingerprint, method, reservation_id, reply, created_at)
     SELECT a, b, c, d, e, NULLIF(f, ''::bytea), g
       FROM UNNEST($1, $2, $3, $4, $5, $6, $7) AS w (a, b, c, d, e, f, g)",
    "INSERT OR FAIL INTO requests (tenant_key, request_id, fingerprint, method, reservation_id, reply, created_at)
     SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL",
);
static INSERT_ADJUSTMENTS: Bulk = Bulk::new(
    &[Id, BigInt, Bytes, BigInt, Text, Text, BigInt],
    "INSERT INTO adjustments (id, tenant_key, counter_key, delta, reason, operator, created_at)
     SELECT * FROM UNNEST($1, $2, $3, $4, $5, $6, $7)",
    "INSERT OR FAIL INTO adjustments (id, tenant_key, counter_key, delta, reason, operator, created_at)
     SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL",
);
static UPDATE_TENANTS: Bulk = Bulk::new(
    &[BigInt, BigInt, BigInt, BigInt],
    "UPDATE tenants t SET decided_at = w.decided_at, next_due = w.next_due, version = w.version
       FROM UNNEST($1, $2, $3, $4) AS w (key, decided_at, next_due, version) WHERE t.key = w.key",
    "WITH w (key, decided_at, next_due, version) AS (VALUES {rows})
     UPDATE tenants SET decided_at = w.decided_at, next_due = w.next_due, version = w.version FROM w
      WHERE tenants.key = w.key",
);

/// A row that belongs to a tenant.
pub type Owned<T> = (TenantKey, T);

impl Transaction {
    /// The keys of the tenants of these ids, as far as they exist. Without a lock.
    pub async fn find_tenant_keys(&self, ids: &[&str]) -> Result<Vec<Owned<String>>, StoreError> {
        let columns = vec![ids.iter().map(|&id| Value::from(id)).collect()];
        let rows = FIND_TENANT_KEYS.query(self.connection(), columns).await?;
        rows.iter().map(|row| Ok((TenantKey(row.try_get_by_index(0)?), row.try_get_by_index(1)?))).collect()
    }

    /// Locks the tenants of these keys, which are sorted, and returns those that exist.
    pub async fn lock_tenants(&self, keys: &[TenantKey]) -> Result<Vec<Tenant>, StoreError> {
        let columns = vec![keys.iter().map(|key| Value::from(key.0)).collect()];
        let rows = LOCK_TENANTS.query(self.connection(), columns).await?;
        rows.iter().map(tenant_from_row).collect()
    }

    /// The tenant of this id or key, without a lock.
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

    /// The revision of the policy, and the database's time if it is asked for. Read after the lock: `now()` would be the
    /// time of BEGIN.
    pub async fn read_head(&self, with_time: bool) -> Result<(i64, Option<Millis>), StoreError> {
        let text = match (with_time, self.dialect()) {
            (true, Dialect::Postgres) => {
                concat!("SELECT revision, ", postgres_now!(), " FROM policy WHERE id = 1")
            }
            (true, Dialect::Sqlite) | (false, _) => "SELECT revision FROM policy WHERE id = 1",
        };
        let rows = self.rows(text, Vec::new()).await?;
        let row =
            rows.first().ok_or_else(|| StoreError::Corrupt("the policy's row is missing".to_owned()))?;
        let time = if with_time { row.try_get_by_index(1).ok() } else { None };
        Ok((row.try_get_by_index(0)?, time))
    }

    /// The requests of these ids, as far as they exist.
    pub async fn find_requests(
        &self,
        ids: &[Owned<&str>],
    ) -> Result<Vec<Owned<(String, Request)>>, StoreError> {
        let columns = vec![tenants(ids), ids.iter().map(|(_, id)| Value::from(*id)).collect()];
        let rows = FIND_REQUESTS.query(self.connection(), columns).await?;
        rows.iter().map(request_from_row).collect()
    }

    /// The open holds of these ids, as far as they exist.
    pub async fn find_holds(
        &self,
        ids: &[Owned<ReservationId>],
    ) -> Result<Vec<Owned<Reservation>>, StoreError> {
        self.find_reservations(&FIND_HOLDS, ids).await
    }

    /// The settled reservations of these ids, as far as they exist.
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
        let columns = vec![tenants(ids), ids.iter().map(|(_, id)| uuid(*id)).collect()];
        let rows = bulk.query(self.connection(), columns).await?;
        rows.iter().map(reservation_from_row).collect()
    }

    /// The counters of these keys, as far as they exist.
    pub async fn find_counters(
        &self,
        keys: &[Owned<CounterKey>],
    ) -> Result<Vec<Owned<(CounterKey, Counter)>>, StoreError> {
        let bytes = keys.iter().map(|(_, key)| Value::from(key.as_bytes().to_vec())).collect();
        let rows = FIND_COUNTERS.query(self.connection(), vec![tenants(keys), bytes]).await?;
        rows.iter().map(counter_from_row).collect()
    }

    /// Writes what a batch changed.
    pub async fn save(
        &self,
        changes: &[Changes],
        mint: impl Fn() -> ReservationId,
    ) -> Result<(), StoreError> {
        self.save_counters(changes).await?;
        self.save_reservations(changes).await?;
        self.save_requests(changes).await?;
        self.save_adjustments(changes, mint).await?;
        let mut columns = empty_columns(4);
        for change in changes {
            let version = change.version.into();
            push(
                &mut columns,
                [change.tenant.0.into(), change.decided_at.into(), change.next_due.into(), version],
            );
        }
        self.write(&UPDATE_TENANTS, columns).await
    }

    /// Writes rows, each of which must be affected.
    async fn write(&self, bulk: &Bulk, columns: Vec<Vec<Value>>) -> Result<(), StoreError> {
        let expected = columns[0].len();
        let affected = bulk.execute(self.connection(), columns).await?;
        if usize::try_from(affected) == Ok(expected) {
            Ok(())
        } else {
            Err(StoreError::Corrupt(format!(
                "{affected} rows of {expected} were written by: {}",
                bulk.text()
            )))
        }
    }

    async fn save_counters(&self, changes: &[Changes]) -> Result<(), StoreError> {
        let absent =
            if self.dialect() == Dialect::Postgres { Value::from("\u{1}") } else { Value::String(None) };
        let mut columns = empty_columns(12);
        for (tenant, (key, counter)) in owned(changes, |change| &change.new_counters) {
            let [agent, user, model] =
                key.dimensions().map(|value| value.map_or_else(|| absent.clone(), Value::from));
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
                counter.counted_since.into(),
            ];
            push(&mut columns, row);
        }
        self.write(&INSERT_COUNTERS, columns).await?;

        let mut columns = empty_columns(4);
        for (tenant, (key, counter)) in owned(changes, |change| &change.counters) {
            let key = key.as_bytes().to_vec();
            push(
                &mut columns,
                [tenant.0.into(), key.into(), counter.committed.into(), counter.reserved.into()],
            );
        }
        self.write(&UPDATE_COUNTERS, columns).await
    }

    async fn save_reservations(&self, changes: &[Changes]) -> Result<(), StoreError> {
        let mut ended = empty_columns(2);
        for (tenant, id) in owned(changes, |change| &change.ended_holds) {
            push(&mut ended, [tenant.0.into(), uuid(*id)]);
        }
        self.write(&DELETE_HOLDS, ended).await?;

        let holds = hold_columns(owned(changes, |change| &change.new_holds));
        self.write(&INSERT_HOLDS, holds).await?;
        let holds = hold_columns(owned(changes, |change| &change.holds));
        self.write(&UPDATE_HOLDS, holds).await?;

        let settled = settled_columns(owned(changes, |change| &change.settled));
        self.write(&INSERT_SETTLED, settled).await?;
        let settled = settled_columns(owned(changes, |change| &change.resettled));
        self.write(&UPDATE_SETTLED, settled).await
    }

    async fn save_requests(&self, changes: &[Changes]) -> Result<(), StoreError> {
        let postgres = self.dialect() == Dialect::Postgres;
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
                    Value::Bytes(if postgres { Some(answer.unwrap_or_default()) } else { answer }),
                    change.decided_at.into(),
                ];
                push(&mut columns, row);
            }
        }
        self.write(&INSERT_REQUESTS, columns).await.map_err(|error| match error {
            StoreError::Permanent(error) if is_unique_violation(&error) => StoreError::KnownRequest,
            other => other,
        })
    }

    async fn save_adjustments(
        &self,
        changes: &[Changes],
        mint: impl Fn() -> ReservationId,
    ) -> Result<(), StoreError> {
        let mut columns = empty_columns(7);
        for change in changes {
            for adjustment in &change.adjustments {
                let row = [
                    uuid(mint()),
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
        self.write(&INSERT_ADJUSTMENTS, columns).await
    }
}

fn tenants<T>(owned: &[Owned<T>]) -> Vec<Value> {
    owned.iter().map(|(tenant, _)| Value::from(tenant.0)).collect()
}

pub(super) fn uuid(id: ReservationId) -> Value {
    Value::from(Uuid::from_bytes(id.0))
}

fn empty_columns(count: usize) -> Vec<Vec<Value>> {
    vec![Vec::new(); count]
}

fn push<const N: usize>(columns: &mut [Vec<Value>], row: [Value; N]) {
    for (column, value) in columns.iter_mut().zip(row) {
        column.push(value);
    }
}

fn owned<'a, T: 'a>(
    changes: &'a [Changes],
    rows: impl Fn(&'a Changes) -> &'a Vec<T>,
) -> impl Iterator<Item = Owned<&'a T>> {
    changes.iter().flat_map(move |change| rows(change).iter().map(|row| (change.tenant, row)))
}

fn hold_columns<'a>(owned: impl Iterator<Item = Owned<&'a Arc<Reservation>>>) -> Vec<Vec<Value>> {
    let mut columns = empty_columns(4);
    for (tenant, hold) in owned {
        let body = body::encode_reservation(hold);
        push(&mut columns, [tenant.0.into(), uuid(hold.id), hold.deadline.into(), body.into()]);
    }
    columns
}

/// In the order of their ids, which is that of time: they are appended.
fn settled_columns<'a>(owned: impl Iterator<Item = Owned<&'a Arc<Reservation>>>) -> Vec<Vec<Value>> {
    let mut all: Vec<_> = owned.collect();
    all.sort_unstable_by_key(|(_, reservation)| reservation.id);
    let mut columns = empty_columns(5);
    for (tenant, reservation) in all {
        let row = [
            uuid(reservation.id),
            tenant.0.into(),
            body::state_code(reservation.state).into(),
            reservation.settled_at.into(),
            body::encode_reservation(reservation).into(),
        ];
        push(&mut columns, row);
    }
    columns
}

fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

fn method_code(method: Method) -> i16 {
    match method {
        Method::Reserve => 1,
        Method::Extend => 2,
        Method::Record => 3,
    }
}

pub(super) fn request_from_row(row: &QueryResult) -> Result<Owned<(String, Request)>, StoreError> {
    let method = match row.try_get_by_index::<i16>(3)? {
        1 => Method::Reserve,
        2 => Method::Extend,
        3 => Method::Record,
        other => return Err(StoreError::Corrupt(format!("method {other} of a request"))),
    };
    let answer: Option<Vec<u8>> = row.try_get_by_index(5)?;
    let fingerprint: Fingerprint = row.try_get_by_index::<Uuid>(2)?.into_bytes();
    let request = Request {
        fingerprint,
        method,
        reservation: ReservationId(row.try_get_by_index::<Uuid>(4)?.into_bytes()),
        answer: answer.as_deref().map(body::decode_answer).transpose()?,
    };
    Ok((TenantKey(row.try_get_by_index(0)?), (row.try_get_by_index(1)?, request)))
}

pub(super) fn reservation_from_row(row: &QueryResult) -> Result<Owned<Reservation>, StoreError> {
    let id = ReservationId(row.try_get_by_index::<Uuid>(1)?.into_bytes());
    let bytes: Vec<u8> = row.try_get_by_index(2)?;
    Ok((TenantKey(row.try_get_by_index(0)?), body::decode_reservation(id, &bytes)?))
}

pub(super) fn counter_from_row(row: &QueryResult) -> Result<Owned<(CounterKey, Counter)>, StoreError> {
    let key = CounterKey::from_bytes(&row.try_get_by_index::<Vec<u8>>(1)?)
        .ok_or_else(|| StoreError::Corrupt("a counter's key".to_owned()))?;
    let counter = Counter {
        committed: row.try_get_by_index(2)?,
        reserved: row.try_get_by_index(3)?,
        window: Window { start: row.try_get_by_index(4)?, end: row.try_get_by_index(5)? },
        counted_since: row.try_get_by_index(6)?,
    };
    Ok((TenantKey(row.try_get_by_index(0)?), (key, counter)))
}
