//! Prunes old events from the front of the log, in bounded steps.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    domain::time::Time,
    store::{Job, Pruned, Retention, Statements, Store, StoreError, Transaction},
};

/// Maximum number of events that one transaction deletes.
const STEP_EVENTS: i64 = 500;

/// Pause after a transaction that deleted: about ten times as long as the transaction takes.
const STEP_PAUSE: Duration = Duration::from_millis(50);

impl Store {
    /// Removes events that are older than their retention. Returns the number of removed events.
    ///
    /// # Errors
    ///
    /// When the database fails. Events that were removed before stay removed.
    pub async fn prune_log(&self, shown: Option<Time>, retention: Retention) -> Result<u64, StoreError> {
        let now = self.read_now(shown).await?;
        let mut pruned = Pruned::default();
        self.prune_events(now.saturating_sub(retention.events), &mut pruned).await?;
        Ok(pruned.events)
    }

    /// Removes events from the front of the log that happened until an instant. No event is removed before the events
    /// in front of it, so that the log has no gaps.
    async fn prune_events(&self, until: Time, pruned: &mut Pruned) -> Result<(), StoreError> {
        loop {
            let transaction = self.begin_read("read old events").await?;
            let old = transaction.count_old_events(until).await?;
            transaction.rollback().await?;
            if old == 0 {
                return Ok(());
            }
            let remove = move |transaction: Transaction<Job>| transaction.remove_events(until);
            pruned.events += self.run_job("prune events", remove).await?;
            sleep(STEP_PAUSE).await;
        }
    }
}

impl<W: Statements> Transaction<W> {
    /// Counts the old events at the front of the log: those before the first event that is not old.
    async fn count_old_events(&self, until: Time) -> Result<i64, StoreError> {
        let text = "SELECT occurred_at FROM events
              WHERE sequence > (SELECT pruned_through FROM event_log WHERE id = 1) ORDER BY sequence LIMIT $1";
        let rows = self.rows(text, vec![STEP_EVENTS.into()]).await?;
        let mut count = 0;
        for row in &rows {
            if row.get::<Time>(0)? > until {
                break;
            }
            count += 1;
        }
        Ok(count)
    }
}

impl Transaction<Job> {
    async fn remove_events(self, until: Time) -> Result<u64, StoreError> {
        // Another process may have removed events since they were counted.
        let head = self.lock_log().await?;
        let count = self.count_old_events(until).await?;
        let through = head.pruned_through + count;
        self.rows("DELETE FROM events WHERE sequence <= $1", vec![through.into()]).await?;
        self.rows("UPDATE event_log SET pruned_through = $1 WHERE id = 1", vec![through.into()]).await?;
        self.commit().await?;
        Ok(count.unsigned_abs())
    }
}
