//! Adds an index of tenants that may have due holds, so that no job reads every tenant.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};

use crate::dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &TENANTS).await
    }
}

/// `next_due` is a lower bound of the tenant's earliest deadline. It changes when that instant has come, and when a
/// tenant without open holds gets a hold. Most decisions do not change it. Then PostgreSQL's updates of the row are
/// HOT, and SQLite's updates do not name the column.
const TENANTS: [&str; 1] = ["CREATE INDEX tenants_next_due ON tenants (next_due, key) WHERE id IS NOT NULL"];
