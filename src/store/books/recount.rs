//! Counts the counters of tenants again, those whose windows are an hour long or longer. A server of an earlier release
//! makes counters without counting them.
//!
//! The walk counts without a lock, and each statement counts a bounded number of counters. All statements about one
//! tenant see one state of the database. A tenant gets the right number only if its row still has the number that was
//! counted as wrong: a batch that makes a counter meanwhile changes that number, and so does another process that
//! counts. Then the next run counts again.

use sea_orm::Value;
use tokio::time::sleep;

use super::prune::{End, GoOn, PAGE_PAUSE, Walk};
use crate::{
    domain::id::TenantKey,
    store::{Reading, Store, StoreError, Transaction, Writing},
};

/// Maximum number of tenants that one page counts, and that one transaction locks.
const PAGE_TENANTS: usize = 50;

/// Maximum number of counters of one tenant that one statement counts.
const COUNTED_ROWS: i64 = 1_000;

/// Number of counters after which a page ends, so that it does not read one state of the database for long.
const PAGE_ROWS: i64 = 100_000;

/// The number of a tenant's counters.
struct Count {
    tenant: TenantKey,
    /// The number in the tenant's row.
    stored: i64,
    /// The number of rows.
    counted: i64,
}

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
            let page = transaction.count_page(after).await?;
            transaction.rollback().await?;
            let last = page.last().map(|count| count.tenant);
            let wrong: Vec<Count> = page.into_iter().filter(|count| count.counted != count.stored).collect();
            if !wrong.is_empty() {
                walk.pruned.transactions += 1;
                match self.correct_counts(&wrong, mint()).await {
                    Ok(corrected) => walk.pruned.recounted += corrected,
                    // The next run counts again.
                    Err(StoreError::Locked(_) | StoreError::Serialization(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let Some(last) = last else { return Ok(End::Reached) };
            after = last;
            if !go_on(walk.pruned) {
                return Ok(End::Stopped);
            }
            sleep(PAGE_PAUSE).await;
        }
    }

    /// Corrects the rows of these tenants. Leaves out tenants whose rows have another number by now. Returns how many
    /// rows were corrected. Lanes remember the number, so the tenants get a new version.
    async fn correct_counts(&self, wrong: &[Count], version: i64) -> Result<u64, StoreError> {
        let transaction = self.begin_write("correct the number of counters").await?;
        let owners: Vec<TenantKey> = wrong.iter().map(|count| count.tenant).collect();
        transaction.lock_owners(&owners).await?;
        let mut corrected = 0;
        for count in wrong {
            corrected += u64::from(transaction.correct_count(count, version).await?);
        }
        transaction.commit().await?;
        Ok(corrected)
    }
}

impl Transaction<Reading> {
    /// Counts the counters of the next tenants, in the order of their keys. Empty: there are no more tenants.
    async fn count_page(&self, after: TenantKey) -> Result<Vec<Count>, StoreError> {
        let text = "SELECT page.key, page.counters,
               (SELECT COUNT(*) FROM (
                 SELECT window_start, window_end FROM counters WHERE tenant_key = page.key ORDER BY key LIMIT $1
               ) AS own WHERE window_start <= window_end - 3600000),
               (SELECT COUNT(*) FROM (
                 SELECT key FROM counters WHERE tenant_key = page.key ORDER BY key LIMIT $1) AS own)
               FROM (SELECT key, counters FROM tenants WHERE key > $2 ORDER BY key LIMIT $3) AS page
              ORDER BY page.key";
        let limit = i64::try_from(PAGE_TENANTS).unwrap_or(i64::MAX);
        let values = vec![COUNTED_ROWS.into(), after.0.into(), limit.into()];
        let (mut page, mut page_rows) = (Vec::new(), 0);
        for row in self.rows(text, values).await? {
            let (tenant, stored) = (TenantKey(row.get(0)?), row.get(1)?);
            let (mut counted, mut rows) = (row.get(2)?, row.get(3)?);
            if rows >= COUNTED_ROWS {
                (counted, rows) = self.count_counters(tenant).await?;
            }
            page.push(Count { tenant, stored, counted });
            page_rows += rows;
            if page_rows >= PAGE_ROWS {
                break;
            }
        }
        Ok(page)
    }

    /// Returns the number of a tenant's counters of windows of an hour or more, and the number of all of its counters.
    async fn count_counters(&self, tenant: TenantKey) -> Result<(i64, i64), StoreError> {
        let text = "SELECT key, long, seen FROM (
                SELECT key, COUNT(*) OVER () AS seen,
                       COUNT(CASE WHEN window_start <= window_end - 3600000 THEN 1 END) OVER () AS long
                  FROM (SELECT key, window_start, window_end FROM counters WHERE tenant_key = $1 AND key > $2
                         ORDER BY key LIMIT $3) AS page
            ) AS counted ORDER BY key DESC LIMIT 1";
        let (mut counted, mut rows, mut after) = (0, 0, Vec::<u8>::new());
        loop {
            let values = vec![tenant.0.into(), after.clone().into(), COUNTED_ROWS.into()];
            let found = self.rows(text, values).await?;
            let Some(row) = found.first() else { return Ok((counted, rows)) };
            after = row.get(0)?;
            counted += row.get::<i64>(1)?;
            rows += row.get::<i64>(2)?;
        }
    }
}

impl Transaction<Writing> {
    /// Corrects the row of a tenant whose counters were counted, if the row still has the number that was wrong.
    /// Returns whether it has.
    async fn correct_count(&self, count: &Count, version: i64) -> Result<bool, StoreError> {
        let text =
            "UPDATE tenants SET version = $1, counters = $2 WHERE key = $3 AND counters = $4 RETURNING key";
        let Count { tenant, stored, counted } = count;
        let values: Vec<Value> = vec![version.into(), (*counted).into(), tenant.0.into(), (*stored).into()];
        Ok(!self.rows(text, values).await?.is_empty())
    }
}
