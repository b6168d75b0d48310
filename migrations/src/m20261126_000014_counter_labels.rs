//! Adds the column for the labels that a counter counts separately.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};

use crate::dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &COLUMNS).await
    }
}

/// `counters.labels` is JSON: keys and values of the labels that the counter counts separately. It repeats the key of
/// the counter, for people who read the tables.
const COLUMNS: [&str; 1] = ["ALTER TABLE counters ADD COLUMN labels {text}"];
