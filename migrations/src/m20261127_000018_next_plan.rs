//! Adds the columns for the scheduled change of a tenant's plan.

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

/// `next_plan_key` is the plan that the tenant gets at `next_plan_at`. Both are NULL if no change is scheduled. The
/// indexes contain only tenants with a scheduled change: the first one finds the changes that are due, the second one
/// the tenants that are to get a plan.
const TENANTS: [&str; 4] = [
    "ALTER TABLE tenants ADD COLUMN next_plan_key {int}",
    "ALTER TABLE tenants ADD COLUMN next_plan_at {bigint}",
    "CREATE INDEX tenants_next_plan_at ON tenants (next_plan_at, key) WHERE next_plan_at IS NOT NULL",
    "CREATE INDEX tenants_next_plan_key ON tenants (next_plan_key) WHERE next_plan_at IS NOT NULL",
];
