//! Named transactions: for writing, for reading one state of the whole database, and with bounded repeats.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait, Value,
};
use tokio::sync::Notify;

use super::{
    bulk::{Bulk, Write, join, join_statement, row_by_row},
    connect::Store,
    dialect::Dialect,
    error::{AdminError, StoreError},
    postgres::wire::{Question, WireTransaction},
    pulse::Pulse,
    row::Row,
    sqlite::{connection::ThreadTransaction, lane::Writing, turn::Writer},
};

/// Maximum number of attempts of a transaction that collides with other transactions.
pub(super) const ATTEMPTS_MAX: u32 = 5;

/// Milliseconds. The pause after attempt N is this, doubled N times.
pub(super) const PAUSE_MILLIS: u64 = 10;

/// A transaction that has begun. If it is dropped, it is rolled back.
#[derive(Debug)]
pub struct Transaction {
    inner: Inner,
    name: &'static str,
    dialect: Dialect,
    /// Wakes the numbering task after the commit, if this transaction wrote events.
    told: Arc<Notify>,
    tells: AtomicBool,
    /// Records the commit for the probe, if this transaction wrote rows of a batch.
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
enum Inner {
    /// On a connection of a pool. A transaction that may write has the turn.
    Pool(DatabaseTransaction, Option<Writing>),
    /// On the connection of SQLite's lane.
    Thread(ThreadTransaction),
    /// On a lane's connection to PostgreSQL.
    Wire(Box<WireTransaction>),
}

/// A query, and the values for it.
pub(super) enum Asked {
    /// A query over rows of values, given column by column. It is not run without rows.
    Rows(&'static Bulk, Vec<Vec<Value>>),
    /// A query without any values.
    One(&'static str),
}

impl Asked {
    fn question(&self) -> Option<Question<'_>> {
        match self {
            Asked::Rows(_, columns) if columns.first().is_none_or(Vec::is_empty) => None,
            Asked::Rows(bulk, columns) => Some(Question::of_columns(bulk.postgres, bulk.columns, columns)),
            Asked::One(text) => Some(Question::of_values(text, &[])),
        }
    }
}

impl Transaction {
    /// Returns the kind of database on which the transaction runs.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns `PRAGMA data_version` as SQLite's lane sees it; `None` for all other transactions. The number stays the
    /// same while only the lane's connection writes: batches, and jobs that change no rows that the lane remembers.
    pub fn data_version(&self) -> Option<i64> {
        match &self.inner {
            Inner::Pool(..) | Inner::Wire(_) => None,
            Inner::Thread(transaction) => Some(transaction.data_version),
        }
    }

    /// Commits. After [`StoreError::Unavailable`] the outcome is unknown.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.write_and_commit(Vec::new()).await
    }

    /// Writes rows, as [`Transaction::write`] does, and commits. A lane's connection to PostgreSQL sends both at
    /// once.
    pub(super) async fn write_and_commit(self, mut writes: Vec<Write>) -> Result<(), StoreError> {
        drop_empty(&mut writes);
        let shows = !writes.is_empty();
        if !matches!(self.inner, Inner::Wire(_)) {
            self.write(std::mem::take(&mut writes)).await?;
        }
        match self.inner {
            Inner::Pool(transaction, writing) => {
                transaction.commit().await?;
                writing.as_ref().map_or(Ok(()), Writing::check)?;
            }
            Inner::Thread(transaction) => transaction.commit()?,
            Inner::Wire(transaction) => {
                let text = join(&writes);
                let question = (!writes.is_empty()).then(|| Question::of_writes(&text, &writes));
                transaction.commit(question.as_slice()).await?;
            }
        }
        if self.tells.load(Ordering::Relaxed) {
            self.told.notify_one();
        }
        if shows {
            self.pulse.note_written();
        }
        tracing::trace!(transaction.name = self.name, "committed");
        Ok(())
    }

    /// Rolls the transaction back.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Pool(transaction, _writing) => Ok(transaction.rollback().await?),
            Inner::Thread(transaction) => transaction.rollback(),
            Inner::Wire(transaction) => transaction.rollback().await,
        }
    }

    /// Marks the transaction as writing events, so that its commit wakes the numbering task.
    pub(super) fn tells(&self) {
        self.tells.store(true, Ordering::Relaxed);
    }

    /// Returns the connection on which entities are read and written. Batches have no such connection.
    pub(super) fn connection(&self) -> Result<&DatabaseTransaction, StoreError> {
        match &self.inner {
            Inner::Pool(transaction, _) => Ok(transaction),
            Inner::Thread(_) | Inner::Wire(_) => {
                Err(StoreError::Unusable("entities cannot be used on a lane's connection".to_owned()))
            }
        }
    }

    /// Runs one statement, and returns the rows that it finds. Both databases take `$1` for the first value.
    pub(super) async fn rows(&self, text: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match &self.inner {
            Inner::Pool(transaction, _) => {
                let backend = transaction.get_database_backend();
                let statement = Statement::from_sql_and_values(backend, text, values);
                Ok(transaction.query_all_raw(statement).await?.into_iter().map(Row::Pool).collect())
            }
            Inner::Thread(transaction) => {
                Ok(transaction.rows(text, &values)?.into_iter().map(Row::Thread).collect())
            }
            Inner::Wire(transaction) => {
                let answers = transaction.ask(&[Question::of_values(text, &values)]).await?;
                Ok(answers.into_iter().flatten().map(Row::Wire).collect())
            }
        }
    }

    /// Runs a statement over rows of values, given column by column, and returns the rows that it finds.
    pub(super) async fn find(&self, bulk: &Bulk, columns: Vec<Vec<Value>>) -> Result<Vec<Row>, StoreError> {
        if columns.first().is_none_or(Vec::is_empty) {
            return Ok(Vec::new());
        }
        match &self.inner {
            Inner::Pool(transaction, _) => {
                let mut found = Vec::new();
                for statement in bulk.statements(self.dialect, columns) {
                    found.extend(transaction.query_all_raw(statement).await?.into_iter().map(Row::Pool));
                }
                Ok(found)
            }
            Inner::Thread(transaction) => {
                Ok(transaction.query(bulk.sqlite, &columns)?.into_iter().map(Row::Thread).collect())
            }
            Inner::Wire(transaction) => {
                let question = Question::of_columns(bulk.postgres, bulk.columns, &columns);
                let answers = transaction.ask(&[question]).await?;
                Ok(answers.into_iter().flatten().map(Row::Wire).collect())
            }
        }
    }

    /// Runs several statements, one after the other, and returns the rows that each of them finds. A lane's
    /// connection to PostgreSQL sends them at once.
    pub(super) async fn find_all(&self, asked: Vec<Asked>) -> Result<Vec<Vec<Row>>, StoreError> {
        let Inner::Wire(transaction) = &self.inner else {
            let mut found = Vec::with_capacity(asked.len());
            for asked in asked {
                found.push(match asked {
                    Asked::Rows(bulk, columns) => self.find(bulk, columns).await?,
                    Asked::One(text) => self.rows(text, Vec::new()).await?,
                });
            }
            return Ok(found);
        };
        let questions: Vec<Question<'_>> = asked.iter().filter_map(Asked::question).collect();
        let mut answers = transaction.ask(&questions).await?.into_iter();
        let found = asked.iter().map(|asked| match asked.question() {
            Some(_) => answers.next().unwrap_or_default().into_iter().map(Row::Wire).collect(),
            None => Vec::new(),
        });
        Ok(found.collect())
    }

    /// Writes rows. Fails unless each row is affected. No row may be in two of the writes.
    pub(super) async fn write(&self, mut writes: Vec<Write>) -> Result<(), StoreError> {
        drop_empty(&mut writes);
        if writes.is_empty() {
            return Ok(());
        }
        match &self.inner {
            Inner::Thread(transaction) => {
                for (bulk, columns) in &writes {
                    let affected = transaction.execute(bulk.sqlite, columns)?;
                    if affected != columns[0].len() {
                        let expected = columns[0].len();
                        return Err(StoreError::Corrupt(format!(
                            "{affected} of {expected} rows were written"
                        )));
                    }
                }
                Ok(())
            }
            Inner::Pool(transaction, _) if self.dialect == Dialect::Sqlite => {
                for statement in writes.into_iter().flat_map(row_by_row) {
                    if transaction.execute_raw(statement).await?.rows_affected() != 1 {
                        return Err(StoreError::Corrupt("a row to be written is missing".to_owned()));
                    }
                }
                Ok(())
            }
            Inner::Pool(transaction, _) => {
                transaction.query_one_raw(join_statement(writes)).await?;
                Ok(())
            }
            Inner::Wire(transaction) => transaction.write(&writes).await,
        }
    }
}

pub(super) fn drop_empty(writes: &mut Vec<Write>) {
    writes.retain(|(_, columns)| columns.first().is_some_and(|column| !column.is_empty()));
}

impl Store {
    /// Begins the transaction of a batch: BEGIN IMMEDIATE on SQLite, READ COMMITTED on PostgreSQL. On SQLite the
    /// transaction blocks the thread, so a lane has a thread of its own.
    pub async fn begin_batch(&self) -> Result<Transaction, StoreError> {
        match self.wire() {
            Some(wire) => {
                let inner = Inner::Wire(Box::new(wire.begin().await?));
                Ok(self.transaction(inner, "batch"))
            }
            None => self.begin_in_thread_as(Writer::Batch, "batch").await,
        }
    }

    /// Begins a transaction of a job, on SQLite on the lane's connection. The job must not change rows that a lane
    /// remembers.
    pub(super) async fn begin_in_thread(&self, name: &'static str) -> Result<Transaction, StoreError> {
        self.begin_in_thread_as(Writer::Job, name).await
    }

    /// Begins such a transaction for one of the kinds of writers.
    pub(super) async fn begin_in_thread_as(
        &self,
        writer: Writer,
        name: &'static str,
    ) -> Result<Transaction, StoreError> {
        let Some(lane) = self.lane() else {
            return self.begin_write_as(writer, name).await;
        };
        let turn = self.turns().take(writer).await?;
        let inner = ThreadTransaction::begin(lane.connection.clone(), turn)?;
        Ok(self.transaction(Inner::Thread(inner), name))
    }

    /// Begins a transaction of a job that may write, on a pool's connection: BEGIN IMMEDIATE on SQLite, READ
    /// COMMITTED on PostgreSQL.
    pub async fn begin_write(&self, name: &'static str) -> Result<Transaction, StoreError> {
        self.begin_write_as(Writer::Job, name).await
    }

    async fn begin_write_as(&self, writer: Writer, name: &'static str) -> Result<Transaction, StoreError> {
        let pool = self.writer()?;
        let writing = Writing::begin(self.turns().take(writer).await?, self.lane())?;
        let transaction = match self.dialect() {
            Dialect::Sqlite => {
                let mode = Some(SqliteTransactionMode::Immediate);
                let options = TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() };
                pool.begin_with_options(options).await?
            }
            // READ COMMITTED is the default of these connections.
            Dialect::Postgres => pool.begin().await?,
        };
        Ok(self.transaction(Inner::Pool(transaction, Some(writing)), name))
    }

    /// Begins a transaction that sees one state of the whole database and cannot write. On PostgreSQL, these
    /// connections default to REPEATABLE READ, READ ONLY. On SQLite, they are opened read-only, and each transaction
    /// is a snapshot.
    pub async fn begin_read(&self, name: &'static str) -> Result<Transaction, StoreError> {
        let inner = Inner::Pool(self.reader().begin().await?, None);
        Ok(self.transaction(inner, name))
    }

    fn transaction(&self, inner: Inner, name: &'static str) -> Transaction {
        let (dialect, told, pulse) = (self.dialect(), Arc::clone(self.told()), Arc::clone(self.pulse()));
        Transaction { inner, name, dialect, told, tells: AtomicBool::new(false), pulse }
    }

    /// Runs `steps` in an administrative transaction, and commits the transaction when `steps` returns it. A refusal
    /// or an error rolls it back. A transaction that collided with another transaction is repeated as a whole, with at
    /// most 5 attempts.
    pub(super) async fn run<T, F, S>(&self, name: &'static str, steps: F) -> Result<T, AdminError>
    where
        F: Fn(Transaction) -> S,
        S: Future<Output = Result<(Transaction, T), AdminError>>,
    {
        let mut attempt = 1;
        loop {
            let outcome = self.attempt(name, &steps).await;
            match outcome {
                Err(AdminError::Store(StoreError::Serialization(source) | StoreError::Locked(source)))
                    if attempt < ATTEMPTS_MAX =>
                {
                    tracing::debug!(transaction.name = name, attempt, error = %source, "transaction is repeated after a conflict");
                    tokio::time::sleep(Duration::from_millis(PAUSE_MILLIS << attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt<T, F, S>(&self, name: &'static str, steps: &F) -> Result<T, AdminError>
    where
        F: Fn(Transaction) -> S,
        S: Future<Output = Result<(Transaction, T), AdminError>>,
    {
        let (transaction, value) = steps(self.begin_write_as(Writer::Administration, name).await?).await?;
        transaction.commit().await?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use sea_orm::{ConnectionTrait, DbErr};

    use super::*;
    use crate::store::fixture::databases;

    fn collision() -> AdminError {
        StoreError::Serialization(DbErr::Custom("another one was faster".to_owned())).into()
    }

    #[tokio::test]
    async fn a_transaction_that_runs_into_others_is_repeated_with_a_bound() {
        for fixture in databases().await {
            let begun = AtomicU32::new(0);
            let third =
                fixture.store.run("test", async |transaction| match begun.fetch_add(1, Ordering::Relaxed) {
                    0 | 1 => Err(collision()),
                    attempt => Ok((transaction, attempt)),
                });
            assert_eq!(third.await.expect("at last"), 2);
            begun.store(0, Ordering::Relaxed);
            let never = fixture.store.run("test", async |_| {
                begun.fetch_add(1, Ordering::Relaxed);
                Err::<(Transaction, ()), _>(collision())
            });
            assert!(matches!(never.await, Err(AdminError::Store(StoreError::Serialization(_)))));
            assert_eq!(begun.load(Ordering::Relaxed), ATTEMPTS_MAX);
        }
    }

    #[tokio::test]
    async fn what_was_not_committed_did_not_happen() {
        for fixture in databases().await {
            let bump = "UPDATE policy SET revision = revision + 1";
            let failed = fixture.store.run("test", async |transaction| {
                transaction.connection().expect("a pool's").execute_unprepared(bump).await?;
                Err::<(Transaction, ()), _>(StoreError::Corrupt("test".to_owned()).into())
            });
            failed.await.expect_err("rolled back");
            let dropped = fixture.store.begin_write("test").await.expect("begun");
            dropped.connection().expect("a pool's").execute_unprepared(bump).await.expect("updated");
            drop(dropped);
            let read = fixture.store.begin_read("test").await.expect("begun");
            assert_eq!(read.read_revision().await.expect("a revision"), 0);
            let written = read.connection().expect("a pool's").execute_unprepared(bump).await;
            written.expect_err("it only reads");
        }
    }

    #[tokio::test]
    async fn a_reader_sees_one_state_of_the_whole() {
        for fixture in databases().await {
            let read = fixture.store.begin_read("test").await.expect("begun");
            assert_eq!(read.read_revision().await.expect("a revision"), 0);
            let write = fixture.store.begin_write("test").await.expect("begun");
            let bump = "UPDATE policy SET revision = revision + 1";
            write.connection().expect("a pool's").execute_unprepared(bump).await.expect("updated");
            write.commit().await.expect("committed");
            assert_eq!(read.read_revision().await.expect("a revision"), 0);
            read.rollback().await.expect("ended");
            let read = fixture.store.begin_read("test").await.expect("begun");
            assert_eq!(read.read_revision().await.expect("a revision"), 1);
        }
    }

    #[tokio::test]
    async fn the_time_goes_on_within_a_transaction() {
        for fixture in databases().await {
            let read = fixture.store.begin_read("test").await.expect("begun");
            let first = read.database_now().await.expect("a time");
            assert!(first > 1_700_000_000_000, "{first}");
            let mut later = first;
            for _ in 0..100_000 {
                later = read.database_now().await.expect("a time");
                if later > first {
                    break;
                }
            }
            assert!(later > first, "it stands still");
            assert_eq!(read.now(Some(7)).await.expect("a time"), 7);
        }
    }
}
