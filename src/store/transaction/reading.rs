//! Transactions that read and cannot write.

use sea_orm::{DatabaseTransaction, TransactionTrait};

use super::{Entities, Transaction};
use crate::store::{connect::Store, error::StoreError};

/// The way of a transaction that sees one state of the whole database and cannot write.
#[derive(Debug)]
pub struct Reading(DatabaseTransaction);

impl Entities for Reading {
    fn connection(&self) -> &DatabaseTransaction {
        &self.0
    }

    async fn undo(self) -> Result<(), StoreError> {
        Ok(self.0.rollback().await?)
    }
}

impl Store {
    /// Begins a transaction that sees one state of the whole database and cannot write. On PostgreSQL, these
    /// connections default to REPEATABLE READ, READ ONLY. On SQLite, they are opened read-only, and each transaction
    /// is a snapshot.
    pub async fn begin_read(&self, name: &'static str) -> Result<Transaction<Reading>, StoreError> {
        Ok(self.transaction(Reading(self.reader().begin().await?), name).that_reads())
    }
}
