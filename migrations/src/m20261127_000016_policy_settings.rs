//! Adds the columns for the settings of the policy.

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

/// `default_plan_key` is the plan of tenants that calls create, and `default_zone` their time zone. Without a
/// `default_plan_key` calls create no tenants. `settings_at` is the time of the last change of these settings. All are
/// NULL until the first change.
const COLUMNS: [&str; 3] = [
    "ALTER TABLE policy ADD COLUMN default_plan_key {int}",
    "ALTER TABLE policy ADD COLUMN default_zone {text}",
    "ALTER TABLE policy ADD COLUMN settings_at {bigint}",
];
