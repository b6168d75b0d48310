//! Where a server tries whether the database takes writes.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};
use sea_orm_migration::sea_orm::DbBackend;

use crate::dialect;

/// Makes the table.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &PROBES).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            dialect::run(manager, &[PLAIN]).await?;
        }
        Ok(())
    }
}

/// A probe replaces the rows of earlier probes. On SQLite the row stands in the root page, where the server finds it in the
/// file itself.
const PROBES: [&str; 1] = ["CREATE TABLE probes (
        id {uuid} NOT NULL PRIMARY KEY,
        body {blob} NOT NULL
    ) {rows_by_key}"];

/// A long body takes a page of the table: it is neither compressed nor moved out.
const PLAIN: &str = "ALTER TABLE probes ALTER COLUMN body SET STORAGE PLAIN";
