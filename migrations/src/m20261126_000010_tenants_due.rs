//! Which tenants have holds that may be due, without a look at each tenant.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};

use crate::dialect;

/// Makes the index.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &TENANTS).await
    }
}

/// A decision mostly leaves `next_due` as it is: it is a lower bound, which moves when it has come, and when a tenant without
/// open holds gets one. While it stays, PostgreSQL's updates are HOT, and SQLite's do not name it.
const TENANTS: [&str; 1] = ["CREATE INDEX tenants_next_due ON tenants (next_due, key) WHERE id IS NOT NULL"];
