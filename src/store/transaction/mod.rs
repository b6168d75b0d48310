//! Named transactions. The type of a transaction is its way to the database, and says what it can do:
//!
//! | type | statements | entities | writes | connection |
//! | --- | --- | --- | --- | --- |
//! | `Transaction<Reading>` | yes | yes | no | a pool's |
//! | `Transaction<Writing>` | yes | yes | yes | a pool's, with the turn of SQLite |
//! | `Transaction<Batch>` | yes | no | yes | the lane's |
//! | `Transaction<Job>` | yes | no | yes | on SQLite the lane's, on PostgreSQL a pool's |
//!
//! Queries that several types need are methods of `Transaction<W>` for each `W` that can run them.

mod batch;
mod job;
mod pool;
mod reading;
#[cfg(test)]
mod tests;
mod thread;
mod writing;

pub(super) use self::{
    batch::Asked,
    job::Job,
    writing::{ATTEMPTS_MAX, PAUSE_MILLIS},
};
pub use self::{
    batch::{Batch, DataVersion},
    reading::Reading,
    writing::Writing,
};

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sea_orm::{DatabaseTransaction, Value};
use tokio::sync::Notify;

use super::{
    bulk::{Bulk, Write},
    connect::Store,
    dialect::Dialect,
    error::StoreError,
    row::Row,
};
use crate::metrics::{Ending, Metrics, TransactionTimer};

/// A transaction that has begun. If it is dropped, it is rolled back. `W` is [`Reading`], [`Writing`], [`Batch`] or
/// [`Job`].
#[derive(Debug)]
pub struct Transaction<W> {
    way: W,
    after: AfterCommit,
}

/// The actions of a transaction after its commit.
#[derive(Debug)]
struct AfterCommit {
    timer: TransactionTimer,
    numbering: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// Number of events that the transaction wrote. If there are any, its commit wakes the numbering task.
    events: AtomicU64,
    /// Number of events to which the transaction gave places in the log.
    numbered: AtomicU64,
    /// Number of holds that the transaction ended at their deadlines.
    expired: AtomicU64,
}

/// A way to the database on which statements run. Only the store implements this, and only the store runs statements:
/// other modules call the queries of [`Transaction`].
pub trait Statements: Send + Sync {
    /// Returns the kind of database on which the transaction runs.
    fn dialect(&self) -> Dialect;

    /// Runs one statement, and returns the rows that it finds. Both databases take `$1` for the first value.
    fn rows(
        &self,
        text: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Runs a statement over rows of values, given column by column, and returns the rows that it finds. There is at
    /// least one row of values.
    fn find(
        &self,
        bulk: &Bulk,
        columns: Vec<Vec<Value>>,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Rolls the transaction back.
    fn rollback(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A way to the database that also writes.
pub trait Writes: Statements {
    /// Writes rows. Fails unless each row is affected. There is at least one write, and each write has rows.
    fn write(&self, writes: Vec<Write>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Commits the transaction. After [`StoreError::Unavailable`] the outcome is unknown.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A way to the database on which SeaORM reads and writes entities: a connection of a pool. Statements run on it, too.
pub trait Entities: Send + Sync {
    /// Returns the connection that SeaORM uses.
    fn connection(&self) -> &DatabaseTransaction;

    /// Rolls the transaction back.
    fn undo(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl<W: Statements> Transaction<W> {
    /// Returns the kind of database on which the transaction runs.
    pub fn dialect(&self) -> Dialect {
        self.way.dialect()
    }

    /// Rolls the transaction back.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.way.rollback().await
    }

    /// Runs one statement, and returns the rows that it finds. Both databases take `$1` for the first value.
    pub(super) async fn rows(&self, text: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.way.rows(text, values).await
    }

    /// Runs a statement over rows of values, given column by column, and returns the rows that it finds.
    pub(super) async fn find(&self, bulk: &Bulk, columns: Vec<Vec<Value>>) -> Result<Vec<Row>, StoreError> {
        if columns.first().is_none_or(Vec::is_empty) {
            return Ok(Vec::new());
        }
        self.way.find(bulk, columns).await
    }
}

impl<W: Writes> Transaction<W> {
    /// Writes rows. Fails unless each row is affected. No row may be in two of the writes.
    pub(super) async fn write(&self, mut writes: Vec<Write>) -> Result<(), StoreError> {
        drop_empty(&mut writes);
        if writes.is_empty() { Ok(()) } else { self.way.write(writes).await }
    }

    /// Notes that the transaction writes events, so that its commit wakes the numbering task.
    pub(super) fn note_events(&self, events: u64) {
        self.after.events.fetch_add(events, Ordering::Relaxed);
    }

    /// Notes that the transaction gives events their places in the log.
    pub(super) fn note_numbered(&self, events: u64) {
        self.after.numbered.fetch_add(events, Ordering::Relaxed);
    }

    /// Notes that the transaction ends holds at their deadlines.
    pub(super) fn note_expired(&self, holds: u64) {
        self.after.expired.fetch_add(holds, Ordering::Relaxed);
    }

    /// Commits. After [`StoreError::Unavailable`] the outcome is unknown.
    pub async fn commit(self) -> Result<(), StoreError> {
        let committed = self.way.commit().await;
        self.after.run(committed.is_ok());
        committed
    }
}

impl<W: Entities> Transaction<W> {
    /// Returns the connection on which SeaORM reads and writes entities.
    pub(super) fn connection(&self) -> &DatabaseTransaction {
        self.way.connection()
    }
}

impl AfterCommit {
    fn run(mut self, committed: bool) {
        self.timer.end(committed);
        if !committed {
            return;
        }
        let (events, expired) = (self.events.into_inner(), self.expired.into_inner());
        if events > 0 {
            self.numbering.notify_one();
            self.metrics.events.written.inc_by(events);
        }
        self.metrics.events.numbered.inc_by(self.numbered.into_inner());
        if expired > 0 {
            self.metrics.database.expired_holds.inc_by(expired);
        }
        tracing::trace!(transaction.name = self.timer.name(), "committed");
    }
}

impl<W> Transaction<W> {
    fn new(way: W, name: &'static str, numbering: Arc<Notify>, metrics: Arc<Metrics>) -> Self {
        let timer = metrics.transactions.begin(name, Ending::RolledBack);
        let (events, numbered, expired) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { way, after: AfterCommit { timer, numbering, metrics, events, numbered, expired } }
    }

    /// Makes the transaction count as one that can only read. Such a transaction is never committed.
    fn that_reads(mut self) -> Self {
        self.after.timer.end_as(Ending::Read);
        self
    }
}

impl Store {
    fn transaction<W>(&self, way: W, name: &'static str) -> Transaction<W> {
        Transaction::new(way, name, Arc::clone(self.numbering()), Arc::clone(self.metrics()))
    }
}

/// Drops the writes without any rows.
pub(super) fn drop_empty(writes: &mut Vec<Write>) {
    writes.retain(|(_, columns)| columns.first().is_some_and(|column| !column.is_empty()));
}
