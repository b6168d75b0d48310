//! Since when counters and tenants' limits count, to the very change, and what was taken off counters.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};

use crate::dialect;

/// Adds the columns.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &COLUMNS).await
    }
}

/// `counters.since_order` tells apart the changes of one instant `counted_since`, 0 when it is not known; charges at
/// deadlines up to `forgiven_until` were taken off since. `tenants.carried` is JSON: what is counted since before the tenant got
/// its plan.
const COLUMNS: [&str; 3] = [
    "ALTER TABLE counters ADD COLUMN since_order {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE counters ADD COLUMN forgiven_until {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE tenants ADD COLUMN carried {text}",
];
