//! Transactions that write entities and rows on a connection of a pool: those of administration, with bounded
//! repeats, and those of jobs that need entities or change rows that a lane remembers.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use super::{Entities, Statements, Transaction, Writes};
use crate::store::{
    bulk::{Write, join_statement, row_by_row},
    connect::Store,
    dialect::Dialect,
    error::{AdminError, StoreError},
    sqlite::{lane::PoolTurn, turn::Writer},
};

/// Maximum number of attempts of a transaction that collides with other transactions.
pub(in crate::store) const ATTEMPTS_MAX: u32 = 5;

/// The pause after attempt N is this number of milliseconds, doubled N times.
pub(in crate::store) const PAUSE_MILLIS: u64 = 10;

/// The way of a transaction that reads and writes on a connection of a pool. On SQLite it has the turn to write.
#[derive(Debug)]
pub struct Writing {
    transaction: DatabaseTransaction,
    turn: PoolTurn,
}

impl Entities for Writing {
    fn connection(&self) -> &DatabaseTransaction {
        &self.transaction
    }

    async fn undo(self) -> Result<(), StoreError> {
        Ok(self.transaction.rollback().await?)
    }
}

impl Writes for Writing {
    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match self.dialect() {
            Dialect::Sqlite => {
                for statement in writes.into_iter().flat_map(row_by_row) {
                    if self.transaction.execute_raw(statement).await?.rows_affected() != 1 {
                        return Err(StoreError::Corrupt(
                            "a statement did not find the row that it must write".to_owned(),
                        ));
                    }
                }
            }
            Dialect::Postgres => drop(self.transaction.query_one_raw(join_statement(writes)).await?),
        }
        Ok(())
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await?;
        self.turn.check()
    }
}

impl Store {
    /// Begins a transaction of a job on a connection of a pool: BEGIN IMMEDIATE on SQLite, READ COMMITTED on
    /// PostgreSQL. For jobs that need entities, or change rows that a lane remembers.
    pub async fn begin_write(&self, name: &'static str) -> Result<Transaction<Writing>, StoreError> {
        Ok(self.transaction(self.writing(Writer::Job).await?, name))
    }

    pub(super) async fn writing(&self, writer: Writer) -> Result<Writing, StoreError> {
        let pool = self.writer()?;
        let turn = PoolTurn::begin(self.turns().take(writer).await?, self.lane())?;
        let transaction = match self.dialect() {
            Dialect::Sqlite => {
                let mode = Some(SqliteTransactionMode::Immediate);
                let options = TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() };
                pool.begin_with_options(options).await?
            }
            // READ COMMITTED is the default of these connections.
            Dialect::Postgres => pool.begin().await?,
        };
        Ok(Writing { transaction, turn })
    }

    /// Runs `steps` in an administrative transaction, and commits the transaction when `steps` returns it. A refusal
    /// or an error rolls it back. A transaction that collided with another transaction is repeated as a whole, with at
    /// most 5 attempts.
    pub(in crate::store) async fn run<T, F, S>(&self, name: &'static str, steps: F) -> Result<T, AdminError>
    where
        F: Fn(Transaction<Writing>) -> S,
        S: Future<Output = Result<(Transaction<Writing>, T), AdminError>>,
    {
        let mut attempt = 1;
        loop {
            let outcome = self.attempt(name, &steps).await;
            match outcome {
                Err(AdminError::Store(StoreError::Serialization(source) | StoreError::Locked(source)))
                    if attempt < ATTEMPTS_MAX =>
                {
                    tracing::debug!(transaction.name = name, attempt, error = %source, "a transaction is repeated after a conflict");
                    tokio::time::sleep(Duration::from_millis(PAUSE_MILLIS << attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt<T, F, S>(&self, name: &'static str, steps: &F) -> Result<T, AdminError>
    where
        F: Fn(Transaction<Writing>) -> S,
        S: Future<Output = Result<(Transaction<Writing>, T), AdminError>>,
    {
        let way = self.writing(Writer::Administration).await?;
        let (transaction, value) = steps(self.transaction(way, name)).await?;
        transaction.commit().await?;
        Ok(value)
    }
}
