//! The log of events. A batch writes events without places. Numbering, outside of any batch and one step at a time,
//! gives each the next place. So a reader at place N has seen everything up to N. (If batches took places, a place
//! could become visible after a larger one; if batches locked a counter of places, all lanes would commit one after
//! another.)

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ActiveValue::Unchanged, EntityTrait, QuerySelect, Value};
use tokio::{runtime::Handle, task::spawn_blocking};
use uuid::Uuid;

use super::{
    Dialect, Store, StoreError, Transaction,
    entity::{event, event_log, pending_event},
    event_body::{decode_event, encode_event},
    postgres::listen::CHANNEL,
    row::Row,
};
use crate::domain::{
    event::{Event, LoggedEvent, NO_TENANT},
    id::TenantKey,
    window::Millis,
};

/// The key of the one row of `event_log`.
const LOG_ROW: i32 = 1;

/// The log's id, and how far the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// A copy of the database has another id.
    pub log_id: [u8; 16],
    /// The place of the last event; 0 before the first event.
    pub last_sequence: i64,
    /// Events up to this place were pruned.
    pub pruned_through: i64,
}

/// What one step of numbering did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// How many events got a place.
    pub events: usize,
    /// The place of the last event of the log.
    pub last_sequence: i64,
}

/// The result of looking at the times of some events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookedAt {
    /// The place of the first event that is late enough.
    pub first: Option<i64>,
    /// The place of the last event that was looked at.
    pub last: Option<i64>,
    /// How many events were looked at.
    pub rows: usize,
}

impl Store {
    /// Gives places to at most `limit` events that have none, in the order of time, and of numbers within a tenant.
    /// One process does so at a time. The others wait, and then find less to do.
    ///
    /// # Errors
    ///
    /// When the database fails. Then nothing was changed.
    pub async fn number_events(&self, limit: usize) -> Result<Numbered, StoreError> {
        if self.dialect() == Dialect::Postgres {
            return self.begin_write("number events").await?.number_events(limit).await;
        }
        // On the lane's connection, since what the lane remembers of the books stays true. It blocks, so it has a
        // thread.
        let (store, runtime) = (self.clone(), Handle::current());
        let steps = async move { store.begin_in_thread("number events").await?.number_events(limit).await };
        let done = spawn_blocking(move || runtime.block_on(steps)).await;
        done.unwrap_or_else(|_| Err(StoreError::Unusable("numbering ended abnormally".to_owned())))
    }

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

impl Transaction {
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
        self.rows("UPDATE event_log SET last_sequence = $1 WHERE id = 1", vec![last_sequence.into()]).await?;
        self.wake_replicas().await?;
        self.commit().await?;
        Ok(Numbered { events, last_sequence })
    }

    /// Once per step, since NOTIFY locks the whole database when its transaction commits.
    async fn wake_replicas(&self) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            self.rows("SELECT pg_notify($1, '')", vec![CHANNEL.into()]).await?;
        }
        Ok(())
    }

    /// Locks the log until the transaction ends, and returns how far it goes. SQLite has one writer and needs no
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

    /// The log's id, and how far the log goes.
    pub async fn read_log(&self) -> Result<LogHead, StoreError> {
        Ok(self.look_at_log().await?.0)
    }

    /// The head of the log, and whether there are events without places.
    pub async fn look_at_log(&self) -> Result<(LogHead, bool), StoreError> {
        let text = "SELECT log_id, last_sequence, pruned_through,
                    CASE WHEN EXISTS (SELECT 1 FROM pending_events) THEN 1 ELSE 0 END
               FROM event_log WHERE id = 1";
        let rows = self.rows(text, Vec::new()).await?;
        let head = head_from_row(rows.first())?;
        let pending = rows.first().map(|row| row.get::<i32>(3)).transpose()?;
        Ok((head, pending == Some(1)))
    }

    /// The events after a place in the log, in order; with a tenant, only that tenant's.
    pub async fn list_events(
        &self,
        tenant: Option<TenantKey>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let limit = Value::from(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = match tenant {
            None => {
                let text = "SELECT sequence, tenant_key, number, kind, occurred_at, body FROM events
                      WHERE sequence > $1 ORDER BY sequence LIMIT $2";
                self.rows(text, vec![after.into(), limit]).await?
            }
            Some(tenant) => {
                let text = "SELECT sequence, tenant_key, number, kind, occurred_at, body FROM events
                      WHERE tenant_key = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
                self.rows(text, vec![tenant.0.into(), after.into(), limit]).await?
            }
        };
        rows.iter().map(event_from_row).collect()
    }

    /// Finds the first event at or after an instant among the next `limit` events after a place; with a tenant, only
    /// among that tenant's. Bodies are not read.
    pub async fn look_for_time(
        &self,
        tenant: Option<TenantKey>,
        after: i64,
        from: Millis,
        limit: usize,
    ) -> Result<LookedAt, StoreError> {
        let values = vec![after.into(), from.into(), Value::from(i64::try_from(limit).unwrap_or(i64::MAX))];
        let rows = match tenant {
            None => {
                let text =
                    "SELECT MIN(CASE WHEN occurred_at >= $2 THEN sequence END), MAX(sequence), COUNT(*)
                       FROM (SELECT sequence, occurred_at FROM events
                              WHERE sequence > $1 ORDER BY sequence LIMIT $3) AS looked_at";
                self.rows(text, values).await?
            }
            Some(tenant) => {
                let text = "SELECT MIN(CASE WHEN occurred_at >= $2 THEN sequence END), MAX(sequence), COUNT(*)
                       FROM (SELECT sequence, occurred_at FROM events
                              WHERE tenant_key = $4 AND sequence > $1 ORDER BY sequence LIMIT $3) AS looked_at";
                self.rows(text, [values, vec![tenant.0.into()]].concat()).await?
            }
        };
        let row = rows.first().ok_or_else(lost_log)?;
        let rows = usize::try_from(row.get::<i64>(2)?).unwrap_or(0);
        Ok(LookedAt { first: row.get(0)?, last: row.get(1)?, rows })
    }

    /// Adds an event of no tenant to the log. The last step of a transaction: until the transaction ends, nobody else
    /// can change the log.
    pub async fn append_event(&self, event: &Event) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let found = event_log::Entity::find_by_id(LOG_ROW).lock_exclusive().one(connection).await?;
        let head = found.ok_or_else(lost_log)?;
        let sequence = head.last_sequence + 1;
        let row = event::ActiveModel {
            sequence: Set(sequence),
            tenant_key: Set(NO_TENANT.0),
            number: Set(0),
            kind: Set(event.kind().code()),
            occurred_at: Set(event.occurred_at),
            body: Set(encode_event(event)),
        };
        event::Entity::insert(row).exec_without_returning(connection).await?;
        let row = event_log::ActiveModel {
            id: Unchanged(LOG_ROW),
            last_sequence: Set(sequence),
            ..Default::default()
        };
        row.update(connection).await?;
        self.wake_replicas().await?;
        self.tells();
        Ok(())
    }

    /// Adds an event of a tenant, with the tenant's next number. The transaction has locked the tenant's row.
    pub(super) async fn insert_event(&self, event: &Event, number: i64) -> Result<(), StoreError> {
        let row = pending_event::ActiveModel {
            tenant_key: Set(event.tenant_key.0),
            number: Set(number),
            kind: Set(event.kind().code()),
            occurred_at: Set(event.occurred_at),
            body: Set(encode_event(event)),
        };
        pending_event::Entity::insert(row).exec_without_returning(self.connection()?).await?;
        self.tells();
        Ok(())
    }

    pub(super) async fn set_log_id(&self, log_id: [u8; 16]) -> Result<(), StoreError> {
        let log_id = Set(Uuid::from_bytes(log_id));
        let row = event_log::ActiveModel { id: Unchanged(LOG_ROW), log_id, ..Default::default() };
        row.update(self.connection()?).await?;
        Ok(())
    }
}

fn head_from_row(row: Option<&Row>) -> Result<LogHead, StoreError> {
    let row = row.ok_or_else(lost_log)?;
    let log_id = row.get::<Uuid>(0)?.into_bytes();
    Ok(LogHead { log_id, last_sequence: row.get(1)?, pruned_through: row.get(2)? })
}

fn event_from_row(row: &Row) -> Result<LoggedEvent, StoreError> {
    let body: Vec<u8> = row.get(5)?;
    let event = decode_event(TenantKey(row.get(1)?), row.get(3)?, row.get(4)?, &body);
    Ok(LoggedEvent { sequence: row.get(0)?, number: row.get(2)?, event })
}

fn lost_log() -> StoreError {
    StoreError::Corrupt("the row of the log of events is missing".to_owned())
}
