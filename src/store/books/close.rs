//! Finds counters whose windows are over and for which WINDOW_CLOSED was not emitted yet, and marks them as closed.

use sea_orm::{Value, sea_query::ArrayType};
use uuid::Uuid;

use super::{
    columns::Owned,
    prune::first_id,
    rare::push_rare,
    rows::{StoredCounter, counter_from_row},
    tenant::update_tenants,
};
use crate::{
    domain::{
        books::Changes,
        counter::CounterKey,
        id::{ReservationId, TenantKey},
        time::Time,
    },
    store::{
        Reading, StoreError, Transaction, Writing,
        bulk::{Bulk, Write, empty_columns, push},
        row::Row,
    },
};

use ArrayType::{BigInt, Bytes};

static FIND_OPEN_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes],
    postgres: "SELECT c.* FROM (SELECT UNNEST($1) AS tenant_key, UNNEST($2) AS key) AS w CROSS JOIN LATERAL (
            SELECT tenant_key, key, committed, reserved, window_start, window_end, counted_since, alerts,
                   since_order, forgiven_until FROM counters
             WHERE tenant_key = w.tenant_key AND key = w.key AND closed = 0 OFFSET 0) AS c",
    sqlite: "SELECT tenant_key, key, committed, reserved, window_start, window_end, counted_since, alerts,
                   since_order, forgiven_until FROM counters
      WHERE tenant_key = ? AND key = ? AND closed = 0",
};
/// Reads all holds of a tenant by an index that begins with the tenant. An index by id would also read the holds of
/// all other tenants.
pub(super) static FIND_OLDEST_HOLDS: Bulk = Bulk {
    columns: &[BigInt],
    postgres: "SELECT h.tenant_key, h.id FROM UNNEST($1) AS w (tenant_key),
       LATERAL (SELECT tenant_key, id FROM (SELECT tenant_key, id FROM holds
           WHERE tenant_key = w.tenant_key AND deadline IS NOT NULL OFFSET 0) AS own ORDER BY id LIMIT 1) AS h",
    sqlite: "SELECT * FROM (SELECT tenant_key, id FROM holds
      WHERE tenant_key = ? AND deadline IS NOT NULL AND deadline >= 0 ORDER BY +id LIMIT 1)",
};
static CLOSE_COUNTERS: Bulk = Bulk {
    columns: &[BigInt, Bytes],
    postgres: "UPDATE counters c SET closed = 1 FROM UNNEST($1, $2) AS w (tenant_key, key)
      WHERE c.tenant_key = w.tenant_key AND c.key = w.key",
    sqlite: "UPDATE OR FAIL counters SET closed = 1 WHERE tenant_key = ?1 AND key = ?2",
};

/// A place in the list of counters that are not closed, whose order is: end of the window, tenant, key of the counter.
pub type ClosePlace = (Time, TenantKey, Vec<u8>);

impl Transaction<Reading> {
    /// Lists counters after a place that are not closed and whose windows have ended at `now`.
    pub async fn list_ended_windows(
        &self,
        now: Time,
        after: &ClosePlace,
        limit: usize,
    ) -> Result<Vec<ClosePlace>, StoreError> {
        let text = "SELECT window_end, tenant_key, key FROM counters
              WHERE closed = 0 AND window_end <= $1 AND window_end >= $2 AND (window_end, tenant_key, key) > ($2, $3, $4)
              ORDER BY window_end, tenant_key, key LIMIT $5";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = vec![now.into(), after.0.into(), after.1.0.into(), after.2.clone().into(), limit.into()];
        let rows = self.rows(text, values).await?;
        rows.iter().map(|row| Ok((row.get(0)?, TenantKey(row.get(1)?), row.get(2)?))).collect()
    }
}

impl Transaction<Writing> {
    /// Finds the counters at these places that are still not closed.
    pub async fn find_open_counters(
        &self,
        places: &[ClosePlace],
    ) -> Result<Vec<Owned<(CounterKey, StoredCounter)>>, StoreError> {
        let mut columns = empty_columns(2);
        for (_, tenant, key) in places {
            push(&mut columns, [tenant.0.into(), key.clone().into()]);
        }
        self.find(&FIND_OPEN_COUNTERS, columns).await?.iter().map(counter_from_row).collect()
    }

    /// Finds the oldest open hold of each tenant.
    pub async fn find_oldest_holds(
        &self,
        tenants: &[TenantKey],
    ) -> Result<Vec<Owned<ReservationId>>, StoreError> {
        let keys = tenants.iter().map(|tenant| Value::from(tenant.0)).collect();
        let rows = self.find(&FIND_OLDEST_HOLDS, vec![keys]).await?;
        let owned = |row: &Row| Ok((TenantKey(row.get(0)?), ReservationId(row.get::<Uuid>(1)?.into_bytes())));
        rows.iter().map(owned).collect()
    }

    /// Marks these counters as closed, and saves the events, counters and tenants of `changes`.
    pub async fn save_closed(
        &self,
        closed: &[Owned<CounterKey>],
        changes: &[Changes],
    ) -> Result<(), StoreError> {
        let mut columns = empty_columns(2);
        for (tenant, key) in closed {
            push(&mut columns, [tenant.0.into(), key.as_bytes().to_vec().into()]);
        }
        let mut writes: Vec<Write> = vec![(&CLOSE_COUNTERS, columns)];
        push_rare(&mut writes, changes);
        writes.extend(update_tenants(self.dialect(), changes)?);
        self.note_events_of(changes);
        self.write(writes).await
    }
}

/// Returns whether a hold was made before an instant.
pub fn is_made_before(hold: ReservationId, instant: Time) -> bool {
    hold < first_id(instant)
}
