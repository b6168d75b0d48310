//! Finds tenants with due holds that no batch has swept. Only the job `expire-holds` needs this, since each batch
//! sweeps its own tenants.

use sea_orm::Value;

use crate::{
    domain::{id::TenantKey, time::Time},
    store::{Store, StoreError, bulk::Bulk},
};

use sea_orm::sea_query::ArrayType::BigInt;

/// Maximum number of tenants on one page.
const PAGE_ROWS: usize = 2_000;

pub(super) const LIST_DUE_TENANTS: &str = "SELECT key, next_due, (
        SELECT COUNT(*) FROM holds WHERE tenant_key = page.key AND deadline IS NOT NULL AND deadline <= $1
    ) FROM (
        SELECT key, next_due FROM tenants
         WHERE id IS NOT NULL AND next_due <= $1 AND next_due >= $2 AND (next_due, key) > ($2, $3)
         ORDER BY next_due, key LIMIT $4
    ) AS page ORDER BY next_due, key";

pub(super) static COUNT_DUE: Bulk = Bulk {
    columns: &[BigInt, BigInt],
    postgres: "SELECT h.tenant_key, COUNT(*) FROM UNNEST($1, $2) AS w (tenant_key, now)
       JOIN holds h ON h.tenant_key = w.tenant_key AND h.deadline IS NOT NULL AND h.deadline <= w.now GROUP BY h.tenant_key",
    sqlite: "SELECT tenant_key, COUNT(*) FROM holds
      WHERE tenant_key = ? AND deadline IS NOT NULL AND deadline <= ? GROUP BY tenant_key",
};

/// A place in the list of tenants in the order of `next_due`.
pub type DuePlace = (Time, TenantKey);

/// A page of tenants whose `next_due` has come.
#[derive(Debug)]
pub struct DueTenants {
    /// The tenants, each with the number of its due holds: 0 if all of them were settled before.
    pub due: Vec<(TenantKey, u64)>,
    /// The place after which the next page begins. `None`: this is the last page.
    pub last: Option<DuePlace>,
}

impl Store {
    /// Lists the tenants after a place whose `next_due` has come, one page of them. The cost grows with the number of
    /// such tenants, but not with the number of all tenants or open holds.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn list_due_tenants(
        &self,
        shown: Option<Time>,
        after: DuePlace,
    ) -> Result<DueTenants, StoreError> {
        let transaction = self.begin_read("list due tenants").await?;
        let now = transaction.now(shown).await?;
        let limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
        let values = vec![now.into(), after.0.into(), after.1.0.into(), limit.into()];
        let rows = transaction.rows(LIST_DUE_TENANTS, values).await?;
        let mut due = Vec::with_capacity(rows.len());
        let mut last = None;
        for row in &rows {
            let (key, count) = (TenantKey(row.get(0)?), row.get::<i64>(2)?);
            due.push((key, u64::try_from(count).unwrap_or(0)));
            last = Some((row.get(1)?, key));
        }
        let last = last.filter(|_| rows.len() == PAGE_ROWS);
        transaction.rollback().await?;
        Ok(DueTenants { due, last })
    }

    /// Finds the tenants that have due holds, each with the number of its due holds.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count_due_holds(
        &self,
        shown: Option<Time>,
        tenants: &[TenantKey],
    ) -> Result<Vec<(TenantKey, u64)>, StoreError> {
        let transaction = self.begin_read("count due holds").await?;
        let now = transaction.now(shown).await?;
        let keys = tenants.iter().map(|tenant| Value::from(tenant.0)).collect();
        let columns = vec![keys, vec![Value::from(now); tenants.len()]];
        let rows = transaction.find(&COUNT_DUE, columns).await?;
        transaction.rollback().await?;
        rows.iter()
            .map(|row| Ok((TenantKey(row.get(0)?), u64::try_from(row.get::<i64>(1)?).unwrap_or(0))))
            .collect()
    }
}
