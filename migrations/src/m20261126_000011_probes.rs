//! Adds the table into which servers write their probes.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};
use sea_orm_migration::sea_orm::DbBackend;

use crate::dialect;

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

/// A probe replaces the rows of earlier probes. On SQLite the row is in the table's root page, so that the server can
/// read this page from the file itself.
const PROBES: [&str; 1] = ["CREATE TABLE probes (
        id {uuid} NOT NULL PRIMARY KEY,
        body {blob} NOT NULL
    ) {rows_by_key}"];

/// With PLAIN storage, PostgreSQL does not compress a long body and does not move it out of the table. So the body
/// takes a page of the table.
const PLAIN: &str = "ALTER TABLE probes ALTER COLUMN body SET STORAGE PLAIN";
