//! The head of the log: the log's id, and the log's first and last places.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ActiveValue::Unchanged};
use uuid::Uuid;

use crate::store::{
    Dialect, Reading, Store, StoreError, Transaction, Writes, Writing, entity::event_log, row::Row,
};

/// The key of the one row of `event_log`.
const LOG_ROW: i32 = 1;

/// The log's id, and the first and last places of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// A copy of the database has another id.
    pub log_id: [u8; 16],
    /// The place of the last event. It is 0 before the first event.
    pub last_sequence: i64,
    /// Events up to this place were pruned.
    pub pruned_through: i64,
}

impl Store {
    /// Gives the log another id, so that cursors of the log from which it was copied are refused.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn renew_log(&self, log_id: [u8; 16]) -> Result<(), StoreError> {
        let transaction = self.begin_write("renew log").await?;
        transaction.set_log_id(log_id).await?;
        transaction.commit().await
    }
}

impl<W: Writes> Transaction<W> {
    /// Locks the log until the transaction ends, and returns the head of the log. SQLite has one writer and needs no
    /// lock.
    pub(super) async fn lock_log(&self) -> Result<LogHead, StoreError> {
        let text = match self.dialect() {
            Dialect::Postgres => {
                "SELECT log_id, last_sequence, pruned_through FROM event_log WHERE id = 1 FOR UPDATE"
            }
            Dialect::Sqlite => "SELECT log_id, last_sequence, pruned_through FROM event_log WHERE id = 1",
        };
        head_from_row(self.rows(text, Vec::new()).await?.first())
    }

    /// Writes the last place of the log. The transaction has locked the log.
    pub(super) async fn set_last_sequence(&self, sequence: i64) -> Result<(), StoreError> {
        self.rows("UPDATE event_log SET last_sequence = $1 WHERE id = 1", vec![sequence.into()]).await?;
        Ok(())
    }
}

impl Transaction<Reading> {
    /// Reads the head of the log.
    pub async fn read_log(&self) -> Result<LogHead, StoreError> {
        Ok(self.read_log_and_pending().await?.0)
    }

    /// Reads the head of the log, and whether there are events without places.
    pub async fn read_log_and_pending(&self) -> Result<(LogHead, bool), StoreError> {
        let text = "SELECT log_id, last_sequence, pruned_through,
                    CASE WHEN EXISTS (SELECT 1 FROM pending_events) THEN 1 ELSE 0 END
               FROM event_log WHERE id = 1";
        let rows = self.rows(text, Vec::new()).await?;
        let head = head_from_row(rows.first())?;
        let pending = rows.first().map(|row| row.get::<i32>(3)).transpose()?;
        Ok((head, pending == Some(1)))
    }
}

impl Transaction<Writing> {
    async fn set_log_id(&self, log_id: [u8; 16]) -> Result<(), StoreError> {
        let log_id = Set(Uuid::from_bytes(log_id));
        let row = event_log::ActiveModel { id: Unchanged(LOG_ROW), log_id, ..Default::default() };
        row.update(self.connection()).await?;
        Ok(())
    }
}

fn head_from_row(row: Option<&Row>) -> Result<LogHead, StoreError> {
    let row = row.ok_or_else(missing_log)?;
    let log_id = row.get::<Uuid>(0)?.into_bytes();
    Ok(LogHead { log_id, last_sequence: row.get(1)?, pruned_through: row.get(2)? })
}

/// Makes the error of a database whose table `event_log` has no row.
pub(super) fn missing_log() -> StoreError {
    StoreError::Corrupt("the table event_log has no row".to_owned())
}
