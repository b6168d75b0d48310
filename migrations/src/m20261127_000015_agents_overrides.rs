//! Adds the agents of tenants, and the overrides of limits.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};

use crate::dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &STATEMENTS).await
    }
}

/// `tenants.terms_version` is 0 for a tenant that never had agents or overrides, and changes with each change of them.
/// `agents.plan_key` is NULL for an agent without a plan of its own. `carried` is as `tenants.carried`. `overrides` has
/// NULL for everything that the override does not select or replace; `end_at` is the largest bigint if it has no end.
const STATEMENTS: [&str; 4] = [
    "ALTER TABLE tenants ADD COLUMN terms_version {bigint} NOT NULL DEFAULT 0",
    "CREATE TABLE agents (
        tenant_key {bigint} NOT NULL,
        id {key_text} NOT NULL,
        display_name {text} NOT NULL,
        plan_key {int},
        state {smallint} NOT NULL,
        carried {text} NOT NULL,
        created_at {bigint} NOT NULL,
        updated_at {bigint} NOT NULL,
        PRIMARY KEY (tenant_key, id)
    ) {rows_by_key}",
    "CREATE INDEX agents_plan ON agents (plan_key) WHERE plan_key IS NOT NULL",
    "CREATE TABLE overrides (
        tenant_key {bigint} NOT NULL,
        id {key_text} NOT NULL,
        limit_id {text} NOT NULL,
        agent {text},
        user_name {text},
        model {text},
        labels {text},
        quantity {bigint},
        enforcement {smallint},
        thresholds {text},
        start_at {bigint},
        end_at {bigint} NOT NULL,
        reason {text} NOT NULL,
        created_at {bigint} NOT NULL,
        updated_at {bigint} NOT NULL,
        PRIMARY KEY (tenant_key, id)
    ) {rows_by_key}",
];
