//! Numbers the events of the log. A batch writes events without places. Numbering gives each event the next place,
//! outside of any batch and one step at a time. So a reader at place N has seen all events up to N. If batches took
//! places themselves, a place could become visible after a larger place. If batches locked a counter of places, all
//! lanes would have to commit one after another.

use crate::store::{Dialect, Job, Store, StoreError, Transaction, Writes, postgres::listen::CHANNEL};

/// The result of one step of numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// How many events got a place.
    pub events: usize,
    /// The place of the last event of the log.
    pub last_sequence: i64,
}

impl Store {
    /// Gives places to at most `limit` events that have none, in the order of time, and of numbers within a tenant. One
    /// process numbers events at a time. Other processes wait, and then find fewer events without places.
    ///
    /// # Errors
    ///
    /// When the database fails. Then nothing was changed.
    pub async fn number_events(&self, limit: usize) -> Result<Numbered, StoreError> {
        self.run_job("number events", move |transaction| transaction.number_events(limit)).await
    }
}

impl Transaction<Job> {
    async fn number_events(self, limit: usize) -> Result<Numbered, StoreError> {
        let before = self.lock_log().await?.last_sequence;
        let text = "INSERT INTO events (sequence, tenant_key, number, kind, occurred_at, body)
             SELECT $1 + ROW_NUMBER() OVER (ORDER BY occurred_at, tenant_key, number),
                    tenant_key, number, kind, occurred_at, body
               FROM (SELECT * FROM pending_events ORDER BY occurred_at, tenant_key, number LIMIT $2) AS picked
             RETURNING sequence";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let events = self.rows(text, vec![before.into(), limit.into()]).await?.len();
        let last_sequence = before + i64::try_from(events).unwrap_or(0);
        if events == 0 {
            self.rollback().await?;
            return Ok(Numbered { events, last_sequence });
        }
        let text = match self.dialect() {
            Dialect::Postgres => {
                "DELETE FROM pending_events p USING events e
                  WHERE e.sequence > $1 AND p.tenant_key = e.tenant_key AND p.number = e.number"
            }
            Dialect::Sqlite => {
                "DELETE FROM pending_events WHERE (tenant_key, number) IN
                    (SELECT tenant_key, number FROM events WHERE sequence > $1)"
            }
        };
        self.rows(text, vec![before.into()]).await?;
        self.set_last_sequence(last_sequence).await?;
        self.wake_replicas().await?;
        self.note_numbered(events as u64);
        self.commit().await?;
        Ok(Numbered { events, last_sequence })
    }
}

impl<W: Writes> Transaction<W> {
    /// Wakes other replicas, since there are new events. Called once per step, because NOTIFY locks the whole database
    /// when its transaction commits.
    pub(super) async fn wake_replicas(&self) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            self.rows("SELECT pg_notify($1, '')", vec![CHANNEL.into()]).await?;
        }
        Ok(())
    }
}
