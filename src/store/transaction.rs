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
    /// The database that it runs on.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Makes it last. After [`StoreError::Unavailable`] it is not known whether it does.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.inner.commit().await?;
        tracing::trace!(transaction.name = self.name, "committed");
        Ok(())
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

    /// Runs `steps` in a transaction that may write, and commits it when they hand it back. A refusal or an error rolls
    /// it back; one that ran into another transaction is repeated whole, up to 5 times in all.
    pub(super) async fn run<T, F, S>(&self, name: &'static str, steps: F) -> Result<T, AdminError>
    where
        F: Fn(Transaction) -> S,
        S: Future<Output = Result<(Transaction, T), AdminError>>,
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

    async fn attempt<T, F, S>(&self, name: &'static str, steps: &F) -> Result<T, AdminError>
    where
        F: Fn(Transaction) -> S,
        S: Future<Output = Result<(Transaction, T), AdminError>>,
    {
        let (transaction, value) = steps(self.begin_write(name).await?).await?;
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
                transaction.connection().execute_unprepared(bump).await?;
                Err::<(Transaction, ()), _>(StoreError::Corrupt("test".to_owned()).into())
            });
            failed.await.expect_err("rolled back");
            let dropped = fixture.store.begin_write("test").await.expect("begun");
            dropped.connection().execute_unprepared(bump).await.expect("updated");
            drop(dropped);
            let read = fixture.store.begin_read("test").await.expect("begun");
            assert_eq!(read.read_revision().await.expect("a revision"), 0);
            let written = read.connection().execute_unprepared(bump).await;
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
            write.connection().execute_unprepared(bump).await.expect("updated");
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
