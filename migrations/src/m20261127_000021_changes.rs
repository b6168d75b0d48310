//! Adds the audit: the changes that callers make, with who made them.

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

/// `changes.id` is a UUID of version 7 for the instant `changed_at`, so its order is that of time. `thing` is the id of
/// what was changed. `before` and `after` are JSON. An empty text means that there is no such value.
const STATEMENTS: [&str; 6] = [
    "CREATE TABLE changes (
        id {uuid} NOT NULL PRIMARY KEY,
        changed_at {bigint} NOT NULL,
        caller {text} NOT NULL,
        address {text} NOT NULL,
        rpc {text} NOT NULL,
        kind {smallint} NOT NULL,
        thing {text} NOT NULL,
        tenant {text} NOT NULL,
        before {text} NOT NULL,
        after {text} NOT NULL,
        request_id {text} NOT NULL,
        revision {bigint}
    ) {rows_by_key}",
    "CREATE INDEX changes_thing ON changes (thing, id)",
    "CREATE INDEX changes_tenant ON changes (tenant, id)",
    "CREATE INDEX changes_caller ON changes (caller, id)",
    "CREATE INDEX changes_rpc ON changes (rpc, id)",
    "CREATE INDEX changes_kind ON changes (kind, id)",
];
