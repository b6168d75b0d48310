//! Finds the rows that a batch needs, in statements over all of its tenants at once.

use sea_orm::{Value, sea_query::ArrayType};

use super::{
    columns::{Owned, tenants, uuid},
    rows::{StoredCounter, counter_from_row, request_from_row, reservation_from_row},
    tenant::{tenant_columns, tenant_from_row},
};
use crate::{
    domain::{
        books::Request,
        counter::CounterKey,
        id::{ReservationId, TenantKey},
        reservation::Reservation,
        tenant::Tenant,
    },
    store::{Statements, StoreError, Transaction, bulk::Bulk},
};

use ArrayType::{BigInt, Bytes, String as Text, Uuid as Id};

// In a join, PostgreSQL reads a whole table if the table was almost empty when PostgreSQL last analyzed it. It does the
// same if the table has few live rows and thousands of dead rows, as `holds` has. So each row is looked up separately,
// with LATERAL. OFFSET 0 keeps PostgreSQL from turning the look-up into a join. Holds and reservations are then changed
// by their `ctid`.

static FIND_TENANT_KEYS: Bulk = Bulk {
    columns: &[Text],
    postgres: "SELECT key, id FROM tenants WHERE id = ANY($1)",
    sqlite: "SELECT key, id FROM tenants WHERE id = ?",
};
pub(super) static FIND_REQUESTS: Bulk = Bulk {
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
pub(super) static FIND_SETTLED: Bulk = Bulk {
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

impl<W: Statements> Transaction<W> {
    /// Finds the internal keys of the tenants with these ids, without a lock. Tenants that do not exist are missing in
    /// the result.
    pub async fn find_tenant_keys(&self, ids: &[&str]) -> Result<Vec<Owned<String>>, StoreError> {
        let columns = vec![ids.iter().map(|&id| Value::from(id)).collect()];
        let rows = self.find(&FIND_TENANT_KEYS, columns).await?;
        rows.iter().map(|row| Ok((TenantKey(row.get(0)?), row.get(1)?))).collect()
    }

    /// Finds the tenant with this id or internal key, without a lock. `None`: there is no such tenant.
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

    /// Finds the requests with these request ids. Those that do not exist are missing in the result.
    pub async fn find_requests(
        &self,
        ids: &[Owned<&str>],
    ) -> Result<Vec<Owned<(String, Request)>>, StoreError> {
        let columns = vec![tenants(ids), ids.iter().map(|(_, id)| Value::from(*id)).collect()];
        let rows = self.find(&FIND_REQUESTS, columns).await?;
        rows.iter().map(request_from_row).collect()
    }

    /// Finds the open holds with these ids. Those that do not exist are missing in the result.
    pub async fn find_holds(
        &self,
        ids: &[Owned<ReservationId>],
    ) -> Result<Vec<Owned<Reservation>>, StoreError> {
        self.find_reservations(&FIND_HOLDS, ids).await
    }

    /// Finds the settled reservations with these ids. Those that do not exist are missing in the result.
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

    /// Finds the counters with these keys. Those that do not exist are missing in the result.
    pub async fn find_counters(
        &self,
        keys: &[Owned<CounterKey>],
    ) -> Result<Vec<Owned<(CounterKey, StoredCounter)>>, StoreError> {
        let rows = self.find(&FIND_COUNTERS, counter_columns(keys)).await?;
        rows.iter().map(counter_from_row).collect()
    }
}

/// Returns the columns of values by which statements find reservations.
pub(super) fn reservation_columns(ids: &[Owned<ReservationId>]) -> Vec<Vec<Value>> {
    vec![tenants(ids), ids.iter().map(|(_, id)| uuid(*id)).collect()]
}

/// Returns the columns of values by which statements find counters.
pub(super) fn counter_columns(keys: &[Owned<CounterKey>]) -> Vec<Vec<Value>> {
    vec![tenants(keys), keys.iter().map(|(_, key)| Value::from(key.as_bytes().to_vec())).collect()]
}
