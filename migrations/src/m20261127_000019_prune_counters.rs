//! Adds the columns for the pruning of counters, and for the bound of a tenant's counters.

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

/// `tenants.counters` is the number of the tenant's counters whose windows are an hour long or longer. A server of the previous release does not keep it up to
/// date, so the job `prune` counts again. `tenants.forgotten_at` is when the job last removed LIFETIME counters of the
/// tenant; 0 if it never did. Only the job writes the columns of `counters`: since `idle_since` the counter had the
/// figures `idle_figures`. 0: the job has not seen the counter yet.
const COLUMNS: [&str; 5] = [
    "ALTER TABLE tenants ADD COLUMN counters {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE tenants ADD COLUMN forgotten_at {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE counters ADD COLUMN idle_since {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE counters ADD COLUMN idle_figures {blob}",
    "UPDATE tenants SET counters = (SELECT COUNT(*) FROM counters
      WHERE tenant_key = tenants.key AND window_start <= window_end - 3600000)",
];
