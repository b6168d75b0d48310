//! Named transactions: to write, to read one state of the whole, and with bounded repeats.

use std::time::Duration;

use sea_orm::{DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};

use super::{
    connect::{Dialect, Store},
    error::{AdminError, StoreError},
};

/// How often a transaction is begun that runs into others, before it gives up.
const ATTEMPTS_MAX: u32 = 5;

/// Pause before the second attempt; doubled for each further one.
const PAUSE_MILLIS: u64 = 10;

/// A transaction that was begun. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Transaction {
    inner: DatabaseTransaction,
    name: &'static str,
    dialect: Dialect,
}

impl Transaction {
    /// What it was begun for.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The database that it runs on.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Makes it last. After [`StoreError::Unavailable`] it is not known whether it does.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.inner.commit().await?)
    }

    /// Undoes it.
    pub async fn rollback(self) -> Result<(), StoreError> {
        Ok(self.inner.rollback().await?)
    }

    /// Where statements run.
    pub(super) fn connection(&self) -> &DatabaseTransaction {
        &self.inner
    }
}

impl Store {
    /// Begins a transaction that may write: BEGIN IMMEDIATE on SQLite, READ COMMITTED on PostgreSQL.
    pub async fn begin_write(&self, name: &'static str) -> Result<Transaction, StoreError> {
        let inner = match self.dialect() {
            Dialect::Sqlite => {
                let mode = Some(SqliteTransactionMode::Immediate);
                let options = TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() };
                self.writer()?.begin_with_options(options).await?
            }
            // READ COMMITTED is the default of these connections.
            Dialect::Postgres => self.writer()?.begin().await?,
        };
        Ok(Transaction { inner, name, dialect: self.dialect() })
    }

    /// Begins a transaction that sees one state of the whole and cannot write. REPEATABLE READ, READ ONLY is the default
    /// of these connections on PostgreSQL; on SQLite they are opened read-only, and its snapshots are such.
    pub async fn begin_read(&self, name: &'static str) -> Result<Transaction, StoreError> {
        let inner = self.reader().begin().await?;
        Ok(Transaction { inner, name, dialect: self.dialect() })
    }

    /// Runs `steps` in a transaction that may write and commits it. A refusal or an error rolls it back; one that
    /// ran into another transaction is repeated whole, up to 5 times in all.
    pub async fn run<T, F>(&self, name: &'static str, steps: F) -> Result<T, AdminError>
    where
        F: AsyncFn(&Transaction) -> Result<T, AdminError>,
    {
        let mut attempt = 1;
        loop {
            let outcome = self.attempt(name, &steps).await;
            match outcome {
                Err(AdminError::Store(StoreError::Serialization(source))) if attempt < ATTEMPTS_MAX => {
                    tracing::debug!(transaction.name = name, attempt, error = %source, "transaction is repeated");
                    tokio::time::sleep(Duration::from_millis(PAUSE_MILLIS << attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt<T, F>(&self, name: &'static str, steps: &F) -> Result<T, AdminError>
    where
        F: AsyncFn(&Transaction) -> Result<T, AdminError>,
    {
        let transaction = self.begin_write(name).await?;
        match steps(&transaction).await {
            Ok(value) => {
                transaction.commit().await?;
                Ok(value)
            }
            Err(error) => {
                // The first error is the one to tell; a connection that cannot roll back is given up by its pool.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }
}
