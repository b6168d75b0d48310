//! Which tenants have holds that are due and not swept. Nobody else asks: a decision sweeps its own tenant.

use sea_orm::Value;

use super::{Store, StoreError, bulk::Bulk};
use crate::domain::{id::TenantKey, window::Millis};

use sea_orm::sea_query::ArrayType::BigInt;

/// Tenants of one page.
const PAGE_ROWS: i64 = 2_000;

static COUNT_DUE: Bulk = Bulk {
    columns: &[BigInt, BigInt],
    postgres: "SELECT h.tenant_key, COUNT(*) FROM UNNEST($1, $2) AS w (tenant_key, now)
       JOIN holds h ON h.tenant_key = w.tenant_key AND h.deadline <= w.now GROUP BY h.tenant_key",
    sqlite: "SELECT tenant_key, COUNT(*) FROM holds WHERE tenant_key = ? AND deadline <= ? GROUP BY tenant_key",
};

/// One page of tenants.
#[derive(Debug)]
pub struct DueTenants {
    /// Those with holds that are due, and how many.
    pub due: Vec<(TenantKey, u64)>,
    /// Where the next page begins; none on the last one.
    pub last: Option<TenantKey>,
}

impl Store {
    /// The tenants of the page behind a key that have due holds. `tenants.next_due` says for most that they have none; an
    /// index of it would move with each decision.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn list_due_tenants(
        &self,
        shown: Option<Millis>,
        after: TenantKey,
    ) -> Result<DueTenants, StoreError> {
        let transaction = self.begin_read("list due tenants").await?;
        let now = transaction.now(shown).await?;
        let text =
            "SELECT key, (SELECT COUNT(*) FROM holds WHERE tenant_key = page.key AND deadline <= $2) FROM (
                SELECT key, id, next_due FROM tenants WHERE key > $1 ORDER BY key LIMIT $3
            ) AS page WHERE id IS NOT NULL AND next_due <= $2 ORDER BY key";
        let rows = transaction.rows(text, vec![after.0.into(), now.into(), PAGE_ROWS.into()]).await?;
        let mut due = Vec::new();
        for row in &rows {
            let count = u64::try_from(row.get::<i64>(1)?).unwrap_or(0);
            if count > 0 {
                due.push((TenantKey(row.get(0)?), count));
            }
        }
        let text = "SELECT key FROM tenants WHERE key > $1 ORDER BY key LIMIT 1 OFFSET $2 - 1";
        let last = transaction.rows(text, vec![after.0.into(), PAGE_ROWS.into()]).await?;
        let last = last.first().map(|row| row.get(0)).transpose()?.map(TenantKey);
        transaction.rollback().await?;
        Ok(DueTenants { due, last })
    }

    /// Those of these tenants that have due holds, and how many.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count_due_holds(
        &self,
        shown: Option<Millis>,
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
