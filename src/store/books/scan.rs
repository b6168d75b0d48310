//! Reads rows of one tenant in the order of a key, page by page: holds by deadline, counters of a window,
//! reservations by age.

use sea_orm::{Value, sea_query::ArrayType::BigInt};

use super::{
    columns::{Owned, uuid},
    rows::{StoredCounter, counter_from_row, reservation_from_row},
};
use crate::{
    domain::{
        books::Adjustment,
        counter::CounterKey,
        id::{ReservationId, TenantKey},
        reservation::Reservation,
        time::Time,
    },
    store::{Statements, StoreError, Transaction, bulk::Bulk, row::Row},
};

// To use the index of deadlines, PostgreSQL needs the condition `deadline IS NOT NULL`, though it is always true.
// SQLite drops a condition that is always true before it chooses an index, so it needs a range of deadlines instead.
pub(super) const LIST_HOLDS: &str = "WITH own AS MATERIALIZED (
        SELECT tenant_key, id FROM holds WHERE tenant_key = $1 AND deadline IS NOT NULL AND deadline >= 0
    ), page AS MATERIALIZED (SELECT tenant_key, id FROM own WHERE id < $2 ORDER BY id DESC LIMIT $3)
    SELECT h.tenant_key, h.id, h.body FROM page AS p JOIN holds AS h ON h.id = p.id AND h.tenant_key = p.tenant_key
     ORDER BY h.id DESC";
pub(super) const LIST_HOLDS_BY_DEADLINE: &str =
    "SELECT tenant_key, id, body FROM holds WHERE tenant_key = $1 AND (deadline, id) > ($2, $3)
        AND deadline IS NOT NULL AND deadline <= $4 ORDER BY deadline, id LIMIT $5";
pub(super) const FIND_NEXT_DEADLINE: &str =
    "SELECT MIN(deadline) FROM holds WHERE tenant_key = $1 AND deadline IS NOT NULL AND deadline > $2";
pub(super) static FIND_EARLIEST_DEADLINES: Bulk = Bulk {
    columns: &[BigInt],
    postgres:
        "SELECT t.key, (SELECT MIN(deadline) FROM holds WHERE tenant_key = t.key AND deadline IS NOT NULL)
       FROM tenants t WHERE t.key = ANY($1)",
    sqlite:
        "SELECT t.key, (SELECT MIN(deadline) FROM holds WHERE tenant_key = t.key AND deadline IS NOT NULL)
       FROM tenants t WHERE t.key = ?",
};

impl<W: Statements> Transaction<W> {
    /// Lists the open holds of a tenant after a place and with deadlines up to `until`, in the order of deadlines.
    pub async fn list_holds_by_deadline(
        &self,
        tenant: TenantKey,
        after: Option<(Time, ReservationId)>,
        until: Time,
        limit: usize,
    ) -> Result<Vec<Reservation>, StoreError> {
        let (deadline, id) = after.unwrap_or((Time::MIN, ReservationId([0; 16])));
        let values = vec![tenant.0.into(), deadline.into(), uuid(id), until.into(), limit_value(limit)];
        let rows = self.rows(LIST_HOLDS_BY_DEADLINE, values).await?;
        rows.iter().map(|row| Ok(reservation_from_row(row)?.1)).collect()
    }

    /// Lists the adjustments that one operation made, in the order of their ids, which are parts of the operation's
    /// id.
    pub async fn list_adjustments(
        &self,
        tenant: TenantKey,
        id: ReservationId,
    ) -> Result<Vec<Adjustment>, StoreError> {
        let values = vec![tenant.0.into(), uuid(id.part(0)), uuid(id.part(u32::MAX))];
        let rows = self
            .rows(
                "SELECT id, counter_key, delta, reason, operator FROM adjustments
                  WHERE tenant_key = $1 AND id >= $2 AND id <= $3 ORDER BY id",
                values,
            )
            .await?;
        rows.iter().map(adjustment_from_row).collect()
    }

    /// Finds the earliest deadline of a tenant's open holds after an instant.
    pub async fn find_next_deadline(
        &self,
        tenant: TenantKey,
        after: Time,
    ) -> Result<Option<Time>, StoreError> {
        let rows = self.rows(FIND_NEXT_DEADLINE, vec![tenant.0.into(), after.into()]).await?;
        Ok(rows.first().map(|row| row.get(0)).transpose()?.flatten())
    }

    /// Finds the earliest deadline of each tenant's open holds. It is `None` for a tenant without holds.
    pub async fn find_earliest_deadlines(
        &self,
        tenants: &[TenantKey],
    ) -> Result<Vec<Owned<Option<Time>>>, StoreError> {
        let keys = tenants.iter().map(|tenant| Value::from(tenant.0)).collect();
        let rows = self.find(&FIND_EARLIEST_DEADLINES, vec![keys]).await?;
        rows.iter().map(|row| Ok((TenantKey(row.get(0)?), row.get(1)?))).collect()
    }

    /// Lists the counters of a tenant whose keys begin with `prefix`, in the order of keys, after the key `after`.
    pub async fn list_counters(
        &self,
        tenant: TenantKey,
        prefix: &[u8],
        after: Option<&CounterKey>,
        limit: usize,
    ) -> Result<Vec<(CounterKey, StoredCounter)>, StoreError> {
        let start = after.map_or_else(|| prefix.to_vec(), |key| key.as_bytes().to_vec());
        let values = vec![
            tenant.0.into(),
            start.into(),
            after.is_none().into(),
            successor(prefix).into(),
            limit_value(limit),
        ];
        let rows = self
            .rows(
                "SELECT tenant_key, key, committed, reserved, window_start, window_end, counted_since, alerts,
                        since_order, forgiven_until FROM counters
                  WHERE tenant_key = $1 AND key >= $2 AND ($3 OR key <> $2) AND key < $4 ORDER BY key LIMIT $5",
                values,
            )
            .await?;
        rows.iter().map(|row| Ok(counter_from_row(row)?.1)).collect()
    }

    /// Lists the counters of a tenant whose windows end after an instant, and whose keys are at or after `from` and
    /// before `until`. Lists them in the order of keys.
    pub async fn list_running_counters(
        &self,
        tenant: TenantKey,
        from: &[u8],
        until: &[u8],
        now: Time,
        limit: usize,
    ) -> Result<Vec<(CounterKey, StoredCounter)>, StoreError> {
        let text =
            "SELECT tenant_key, key, committed, reserved, window_start, window_end, counted_since, alerts,
                        since_order, forgiven_until FROM counters
                  WHERE tenant_key = $1 AND key >= $2 AND key < $3 AND window_end > $4 ORDER BY key LIMIT $5";
        let (from, until) = (from.to_vec(), until.to_vec());
        let values = vec![tenant.0.into(), from.into(), until.into(), now.into(), limit_value(limit)];
        let rows = self.rows(text, values).await?;
        rows.iter().map(|row| Ok(counter_from_row(row)?.1)).collect()
    }

    /// Finds the tenant's first counter key that is at or after these bytes.
    pub async fn find_next_counter(
        &self,
        tenant: TenantKey,
        from: &[u8],
    ) -> Result<Option<CounterKey>, StoreError> {
        let text = "SELECT key FROM counters WHERE tenant_key = $1 AND key >= $2 ORDER BY key LIMIT 1";
        let rows = self.rows(text, vec![tenant.0.into(), from.to_vec().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let key = CounterKey::from_bytes(&row.get::<Vec<u8>>(0)?);
        key.map(Some).ok_or_else(|| StoreError::Corrupt(format!("a counter's key of tenant {}", tenant.0)))
    }

    /// Lists open holds of a tenant that are older than an id, newest first. Reads all holds of the tenant by an index
    /// that begins with the tenant. An index by id would also read the holds of all other tenants.
    pub async fn list_holds(
        &self,
        tenant: TenantKey,
        before: ReservationId,
        limit: usize,
    ) -> Result<Vec<Reservation>, StoreError> {
        let rows = self.rows(LIST_HOLDS, vec![tenant.0.into(), uuid(before), limit_value(limit)]).await?;
        rows.iter().map(|row| Ok(reservation_from_row(row)?.1)).collect()
    }

    /// Lists the ids of settled reservations of all tenants that are older than an id, newest first. Returns the
    /// reservation itself only if it belongs to the given tenant. There is no index by tenant, because each settlement
    /// would have to write it. So the caller searches in bounded steps.
    pub async fn list_settled(
        &self,
        tenant: TenantKey,
        before: ReservationId,
        limit: usize,
    ) -> Result<Vec<(ReservationId, Option<Reservation>)>, StoreError> {
        let rows = self
            .rows(
                "SELECT tenant_key, id, CASE WHEN tenant_key = $1 THEN body END FROM reservations WHERE id < $2
                  ORDER BY id DESC LIMIT $3",
                vec![tenant.0.into(), uuid(before), limit_value(limit)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let id = ReservationId(row.get::<uuid::Uuid>(1)?.into_bytes());
                let own = row.get::<i64>(0)? == tenant.0;
                let reservation = own.then(|| reservation_from_row(row)).transpose()?;
                Ok((id, reservation.map(|(_, reservation)| reservation)))
            })
            .collect()
    }
}

fn adjustment_from_row(row: &Row) -> Result<Adjustment, StoreError> {
    let key = CounterKey::from_bytes(&row.get::<Vec<u8>>(1)?)
        .ok_or_else(|| StoreError::Corrupt("the counter's key of an adjustment".to_owned()))?;
    let id = ReservationId(row.get::<uuid::Uuid>(0)?.into_bytes());
    Ok(Adjustment { id, key, delta: row.get(2)?, reason: row.get(3)?, operator: row.get(4)? })
}

fn limit_value(limit: usize) -> Value {
    Value::from(i64::try_from(limit).unwrap_or(i64::MAX))
}

/// Returns the first key after all keys that begin with the prefix.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return bytes;
        }
    }
    vec![u8::MAX; 16]
}
