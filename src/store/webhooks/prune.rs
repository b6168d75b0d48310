//! Prunes deliveries whose events were removed, or whose webhooks were deleted, in bounded steps.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    domain::webhook::DeliveryState,
    store::{Job, Store, StoreError, Transaction},
};

/// Maximum number of deliveries that one transaction deletes.
const STEP_ROWS: i64 = 500;

/// Pause after a transaction that deleted: about ten times as long as the transaction takes.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// Counts of the deliveries that were removed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedDeliveries {
    /// Deliveries that were removed.
    pub deliveries: u64,
    /// Removed deliveries that were still to be sent, to webhooks that exist.
    pub unsent: u64,
}

impl Store {
    /// Removes deliveries whose events or webhooks no longer exist. After each step, `go_on` gets the counts so far,
    /// and decides whether to go on.
    ///
    /// # Errors
    ///
    /// When the database fails. Deliveries that were removed before stay removed.
    pub async fn prune_deliveries(
        &self,
        go_on: &(dyn Fn(PrunedDeliveries) -> bool + Sync),
    ) -> Result<(), StoreError> {
        let mut pruned = PrunedDeliveries::default();
        let mut last = i64::MIN;
        loop {
            let transaction = self.begin_read("read old deliveries").await?;
            let text = "SELECT d.webhook_key, l.pruned_through, w.id
                   FROM (SELECT MIN(webhook_key) AS webhook_key FROM deliveries WHERE webhook_key > $1) AS d
                   JOIN event_log l ON l.id = 1 LEFT JOIN webhooks w ON w.key = d.webhook_key
                  WHERE d.webhook_key IS NOT NULL";
            let rows = transaction.rows(text, vec![last.into()]).await?;
            transaction.rollback().await?;
            let Some(row) = rows.first() else { return Ok(()) };
            let (webhook, id): (i64, Option<String>) = (row.get(0)?, row.get(2)?);
            let through = if id.is_some() { row.get(1)? } else { i64::MAX };
            last = webhook;
            let unsent_before = pruned.unsent;
            loop {
                let remove =
                    move |transaction: Transaction<Job>| transaction.remove_deliveries(webhook, through);
                let step = self.run_job("prune deliveries", remove).await?;
                if step.deliveries == 0 {
                    break;
                }
                pruned.deliveries += step.deliveries;
                pruned.unsent += if id.is_some() { step.unsent } else { 0 };
                if !go_on(pruned) {
                    return Ok(());
                }
                sleep(STEP_PAUSE).await;
            }
            if let (Some(id), true) = (id, pruned.unsent > unsent_before) {
                tracing::warn!(
                    webhook.id = id,
                    deliveries = pruned.unsent - unsent_before,
                    "events were pruned before they were delivered to the webhook"
                );
            }
        }
    }
}

impl Transaction<Job> {
    async fn remove_deliveries(self, webhook: i64, through: i64) -> Result<PrunedDeliveries, StoreError> {
        // A range up to a place, since PostgreSQL would search a list of places for each row.
        let text = "DELETE FROM deliveries WHERE webhook_key = $1 AND sequence <= (
                SELECT MAX(sequence) FROM (
                    SELECT sequence FROM deliveries WHERE webhook_key = $1 AND sequence <= $2
                     ORDER BY sequence LIMIT $3
                ) AS next
            ) RETURNING state";
        let rows = self.rows(text, vec![webhook.into(), through.into(), STEP_ROWS.into()]).await?;
        self.commit().await?;
        let mut removed = PrunedDeliveries { deliveries: rows.len() as u64, unsent: 0 };
        for row in &rows {
            removed.unsent += u64::from(row.get::<i16>(0)? == DeliveryState::Pending.code());
        }
        Ok(removed)
    }
}
