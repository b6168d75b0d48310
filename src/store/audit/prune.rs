//! Prunes old changes, in bounded steps.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    domain::{
        audit::ChangeId,
        time::{Span, Time},
    },
    store::{Job, Retention, Store, StoreError, Transaction},
};

/// Maximum number of changes that one transaction deletes.
const STEP_ROWS: i64 = 500;

/// Pause after a transaction that deleted: about ten times as long as the transaction takes.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// Deletes the oldest changes before an id.
pub(super) const DELETE_CHANGES: &str = "DELETE FROM changes WHERE id IN (
        SELECT id FROM changes WHERE id < $1 ORDER BY id LIMIT $2) RETURNING kind";

impl Store {
    /// Removes changes that are older than their retention. After each step, `go_on` gets the number of removed
    /// changes, and decides whether to go on.
    ///
    /// # Errors
    ///
    /// When the database fails. Changes that were removed before stay removed.
    pub async fn prune_changes(
        &self,
        shown: Option<Time>,
        retention: Retention,
        go_on: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(), StoreError> {
        let until = self.read_now(shown).await?.saturating_sub(retention.changes);
        let mut removed = 0;
        loop {
            let step = self.run_job("prune changes", move |job| remove(job, until)).await?;
            if step == 0 {
                return Ok(());
            }
            removed += step;
            if !go_on(removed) {
                return Ok(());
            }
            sleep(STEP_PAUSE).await;
        }
    }
}

async fn remove(transaction: Transaction<Job>, until: Time) -> Result<u64, StoreError> {
    let first = Uuid::from_bytes(ChangeId::first_at(until.saturating_add(Span(1))).0);
    let rows = transaction.rows(DELETE_CHANGES, vec![first.into(), STEP_ROWS.into()]).await?;
    transaction.commit().await?;
    Ok(rows.len() as u64)
}
