//! Counts the counters of tenants again, those whose windows are an hour long or longer. A server of an earlier release makes counters without counting them.

use sea_orm::{Value, sea_query::ArrayType::BigInt};
use tokio::time::sleep;

use super::prune::{End, GoOn, PAGE_PAUSE, Walk};
use crate::{
    domain::id::TenantKey,
    store::{
        Reading, Store, StoreError, Transaction,
        bulk::{Bulk, empty_columns, push},
        row::Row,
    },
};

/// Maximum number of tenants that one page counts, and that one transaction locks.
const PAGE_TENANTS: usize = 50;

/// Lanes remember the number, so the tenant gets a new version.
static RECOUNT: Bulk = Bulk {
    columns: &[BigInt, BigInt],
    postgres: "UPDATE tenants t SET version = w.version,
            counters = (SELECT COUNT(*) FROM counters
                         WHERE tenant_key = w.key AND window_start <= window_end - 3600000)
       FROM (SELECT UNNEST($1) AS key, UNNEST($2) AS version) AS w
      WHERE t.key = w.key",
    sqlite: "UPDATE OR FAIL tenants SET version = ?2,
            counters = (SELECT COUNT(*) FROM counters
                         WHERE tenant_key = ?1 AND window_start <= window_end - 3600000)
      WHERE key = ?1",
};

impl Store {
    /// Counts the counters of each tenant, and corrects the rows of tenants that have another number. `mint` makes the
    /// version of these tenants.
    pub(super) async fn recount_counters(
        &self,
        mint: fn() -> i64,
        walk: &mut Walk,
        go_on: &GoOn<'_>,
    ) -> Result<End, StoreError> {
        let mut after = TenantKey(i64::MIN);
        loop {
            let transaction = self.begin_read("count counters").await?;
            let page = transaction.count_counters(after).await?;
            transaction.rollback().await?;
            let wrong: Vec<TenantKey> =
                page.iter().filter(|(_, is_right)| !is_right).map(|(tenant, _)| *tenant).collect();
            if !wrong.is_empty() {
                walk.pruned.transactions += 1;
                match self.recount(&wrong, mint()).await {
                    Ok(()) => walk.pruned.recounted += wrong.len() as u64,
                    // The next run counts again.
                    Err(StoreError::Locked(_) | StoreError::Serialization(_)) => {}
                    Err(error) => return Err(error),
                }
                if !go_on(walk.pruned) {
                    return Ok(End::Stopped);
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE_TENANTS => after = *last,
                Some(_) | None => return Ok(End::Reached),
            }
            if !go_on(walk.pruned) {
                return Ok(End::Stopped);
            }
            sleep(PAGE_PAUSE).await;
        }
    }

    async fn recount(&self, wrong: &[TenantKey], version: i64) -> Result<(), StoreError> {
        let transaction = self.begin_write("correct the number of counters").await?;
        transaction.lock_owners(wrong).await?;
        let mut columns = empty_columns(2);
        for tenant in wrong {
            push(&mut columns, [tenant.0.into(), version.into()]);
        }
        transaction.write(vec![(&RECOUNT, columns)]).await?;
        transaction.commit().await
    }
}

impl Transaction<Reading> {
    /// Returns the tenants of the next page, each with whether its row has the right number of counters.
    async fn count_counters(&self, after: TenantKey) -> Result<Vec<(TenantKey, bool)>, StoreError> {
        let text = "SELECT page.key, page.counters, (SELECT COUNT(*) FROM counters
                     WHERE tenant_key = page.key AND window_start <= window_end - 3600000)
               FROM (SELECT key, counters FROM tenants WHERE key > $1 ORDER BY key LIMIT $2) AS page
              ORDER BY page.key";
        let limit = i64::try_from(PAGE_TENANTS).unwrap_or(i64::MAX);
        let rows = self.rows(text, vec![Value::from(after.0), limit.into()]).await?;
        let is_right = |row: &Row| Ok((TenantKey(row.get(0)?), row.get::<i64>(1)? == row.get::<i64>(2)?));
        rows.iter().map(is_right).collect()
    }
}
