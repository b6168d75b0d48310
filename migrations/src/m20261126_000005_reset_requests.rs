//! Drops the restriction of methods in `requests`, since ResetUsage now has a `request_id`, too.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};
use sea_orm_migration::sea_orm::DbBackend;

use crate::dialect;

/// Drops the CHECK on the column `method`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DbBackend::Sqlite => dialect::run(manager, &REBUILD).await,
            _ => dialect::run(manager, &["ALTER TABLE requests DROP CONSTRAINT requests_method_check"]).await,
        }
    }
}

/// SQLite cannot drop a CHECK, so the rows move to a table without it. Methods: 1 Reserve, 2 Extend, 3 Record, 4
/// ResetUsage. For ResetUsage, `reservation_id` is the id from which the ids of its adjustments are derived.
const REBUILD: [&str; 4] = [
    "CREATE TABLE requests_rebuilt (
        tenant_key {bigint} NOT NULL,
        request_id {key_text} NOT NULL,
        fingerprint {uuid} NOT NULL,
        method {smallint} NOT NULL,
        reservation_id {uuid} NOT NULL,
        reply {blob},
        created_at {bigint} NOT NULL,
        PRIMARY KEY (request_id, tenant_key)
    ) {rows_by_key}",
    "INSERT INTO requests_rebuilt (tenant_key, request_id, fingerprint, method, reservation_id, reply, created_at)
     SELECT tenant_key, request_id, fingerprint, method, reservation_id, reply, created_at
       FROM requests ORDER BY request_id, tenant_key",
    "DROP TABLE requests",
    "ALTER TABLE requests_rebuilt RENAME TO requests",
];
