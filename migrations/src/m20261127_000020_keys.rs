//! Adds the keys of callers.

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

/// `keys.hash` is the SHA-256 of the secret. `tenants` and `agents` are JSON lists of ids. `expire_at` and
/// `last_used_at` are NULL for never. `policy.keys_revision` is the revision of the policy at the last change of keys.
const STATEMENTS: [&str; 2] = [
    "CREATE TABLE keys (
        id {key_text} NOT NULL PRIMARY KEY,
        hash {blob} NOT NULL,
        role {smallint} NOT NULL,
        tenants {text} NOT NULL,
        agents {text} NOT NULL,
        display_name {text} NOT NULL,
        state {smallint} NOT NULL,
        expire_at {bigint},
        last_used_at {bigint},
        created_at {bigint} NOT NULL,
        updated_at {bigint} NOT NULL
    ) {rows_by_key}",
    "ALTER TABLE policy ADD COLUMN keys_revision {bigint} NOT NULL DEFAULT 0",
];
