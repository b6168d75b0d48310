//! Figures that only the database knows, for the page of metrics. The queries count rows of all tenants, so callers ask
//! for them rarely.

use super::{
    connect::Store,
    error::StoreError,
    transaction::{Reading, Transaction},
};
use crate::domain::time::{Span, Time};

/// Counts of rows at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookFigures {
    /// Number of open holds, those of deleted tenants included.
    pub open_holds: i64,
    /// Number of events that have no place in the log.
    pub unnumbered_events: i64,
    /// Number of deliveries of active webhooks that are PENDING.
    pub pending_deliveries: i64,
    /// Age of the oldest of these deliveries. Zero if there is none.
    pub oldest_delivery: Span,
}

impl Store {
    /// Counts rows, in one snapshot. `shown` is the time of the process's clock; `None`: the database's time counts.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count_figures(&self, shown: Option<Time>) -> Result<BookFigures, StoreError> {
        let transaction = self.begin_read("count figures").await?;
        let figures = transaction.count_figures(shown).await;
        transaction.rollback().await?;
        figures
    }
}

impl Transaction<Reading> {
    async fn count_figures(&self, shown: Option<Time>) -> Result<BookFigures, StoreError> {
        let now = self.now(shown).await?;
        let text = "SELECT (SELECT COUNT(*) FROM holds), (SELECT COUNT(*) FROM pending_events), COUNT(*),
                    COALESCE(MIN(created_at), $1)
               FROM deliveries WHERE state = 1 AND webhook_key IN (SELECT key FROM webhooks WHERE state = 1)";
        let rows = self.rows(text, vec![now.into()]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("a count found no row".to_owned()))?;
        Ok(BookFigures {
            open_holds: row.get(0)?,
            unnumbered_events: row.get(1)?,
            pending_deliveries: row.get(2)?,
            oldest_delivery: now.saturating_since(row.get(3)?),
        })
    }
}
