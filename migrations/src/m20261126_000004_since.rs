//! Adds columns for the change since which a counter or a shape counts, and for charges that no longer count.

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

/// `counters.since_order` is the order of the change among several changes at the instant `counted_since`; 0 if it is
/// unknown. Charges that were made at deadlines up to `forgiven_until` no longer count in the counter.
/// `tenants.carried` is JSON: the shapes that have been counted since before the tenant got its plan.
const COLUMNS: [&str; 3] = [
    "ALTER TABLE counters ADD COLUMN since_order {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE counters ADD COLUMN forgiven_until {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE tenants ADD COLUMN carried {text}",
];
