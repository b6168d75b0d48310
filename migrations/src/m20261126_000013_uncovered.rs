//! Adds the column that says what happens to resources that no limit of a plan covers.

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

/// `plans.uncovered` is 1 if operations on resources that no limit covers pass (METER), and 2 if they are refused
/// (REFUSE). Existing plans have METER. So do the plans that the previous release creates.
const COLUMNS: [&str; 1] = ["ALTER TABLE plans ADD COLUMN uncovered {smallint} NOT NULL DEFAULT 1"];
