//! Removing deliveries whose events were removed, or whose webhooks are gone, in bounded steps.

use std::time::Duration;

use tokio::time::sleep;

use super::{Store, StoreError, Transaction, deliveries::in_place};

/// Most deliveries that one transaction deletes.
const STEP_ROWS: i64 = 500;

/// Pause after a transaction that deleted: some ten times as long as it took.
const STEP_PAUSE: Duration = Duration::from_millis(50);

impl Store {
    /// Removes what is left of deliveries whose events, or whose webhooks, are not there any more. Says how many.
    ///
    /// # Errors
    ///
    /// When the database does not do it; what was removed before stays removed.
    pub async fn prune_deliveries(&self) -> Result<u64, StoreError> {
        let mut removed = 0;
        let mut last = i64::MIN;
        loop {
            let transaction = self.begin_read("read old deliveries").await?;
            let text = "SELECT d.webhook_key, CASE WHEN w.key IS NULL THEN 9223372036854775807 ELSE l.pruned_through END
                   FROM (SELECT MIN(webhook_key) AS webhook_key FROM deliveries WHERE webhook_key > $1) AS d
                   JOIN event_log l ON l.id = 1 LEFT JOIN webhooks w ON w.key = d.webhook_key
                  WHERE d.webhook_key IS NOT NULL";
            let rows = transaction.rows(text, vec![last.into()]).await?;
            let found: Option<(i64, i64)> =
                rows.first().map(|row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?))).transpose()?;
            transaction.rollback().await?;
            let Some((webhook, through)) = found else { return Ok(removed) };
            last = webhook;
            loop {
                let transaction = self.begin_in_thread("prune deliveries").await?;
                let step = in_place(self.dialect(), transaction.remove_deliveries(webhook, through)).await?;
                if step == 0 {
                    break;
                }
                removed += step;
                sleep(STEP_PAUSE).await;
            }
        }
    }
}

impl Transaction {
    async fn remove_deliveries(self, webhook: i64, through: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM deliveries WHERE webhook_key = $1 AND sequence IN (
                SELECT sequence FROM deliveries WHERE webhook_key = $1 AND sequence <= $2 ORDER BY sequence LIMIT $3
            ) RETURNING sequence";
        let rows = self.rows(text, vec![webhook.into(), through.into(), STEP_ROWS.into()]).await?;
        self.commit().await?;
        Ok(rows.len() as u64)
    }
}
