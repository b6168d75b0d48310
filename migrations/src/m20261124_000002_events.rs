//! The log of events. Its tables contain the events that batches write, the events that subscribers read, and the last
//! place of the log.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};
use sea_orm_migration::sea_orm::DbBackend;

use crate::dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &BOOKS).await?;
        dialect::run(manager, &LOG).await?;
        let id = match manager.get_database_backend() {
            DbBackend::Sqlite => "randomblob(16)",
            _ => "gen_random_uuid()",
        };
        let row = format!(
            "INSERT INTO event_log (id, log_id, last_sequence, pruned_through) VALUES (1, {id}, 0, 0)"
        );
        dialect::run(manager, &[&row]).await
    }
}

/// `tenants.event_number` is the number of the tenant's last event. `counters.alerts` contains the percentages whose
/// events were emitted for the counter, and its numbers of refusals. It is written only when it changes. `closed` is 1
/// if WINDOW_CLOSED was emitted or is not needed. The index contains the counters whose windows are not closed yet, in
/// the order of the windows' ends. No decision changes its columns.
const BOOKS: [&str; 4] = [
    "ALTER TABLE tenants ADD COLUMN event_number {bigint} NOT NULL DEFAULT 0",
    "ALTER TABLE counters ADD COLUMN alerts {blob}",
    "ALTER TABLE counters ADD COLUMN closed {smallint} NOT NULL DEFAULT 0",
    "CREATE INDEX counters_open ON counters (window_end, tenant_key, key) WHERE closed = 0",
];

/// A batch writes events into `pending_events`. Numbering moves them to `events` and gives them their places in the
/// log. An event of no tenant has `tenant_key` 0 and `number` 0, and gets its place in the transaction that writes it.
const LOG: [&str; 4] = [
    "CREATE TABLE pending_events (
        tenant_key {bigint} NOT NULL,
        number {bigint} NOT NULL,
        kind {smallint} NOT NULL,
        occurred_at {bigint} NOT NULL,
        body {blob} NOT NULL,
        PRIMARY KEY (tenant_key, number)
    ) {rows_by_key}",
    "CREATE TABLE events (
        sequence {bigint} NOT NULL PRIMARY KEY,
        tenant_key {bigint} NOT NULL,
        number {bigint} NOT NULL,
        kind {smallint} NOT NULL,
        occurred_at {bigint} NOT NULL,
        body {blob} NOT NULL
    ) {rows}",
    "CREATE INDEX events_tenant ON events (tenant_key, sequence)",
    "CREATE TABLE event_log (
        id {int} NOT NULL PRIMARY KEY CHECK (id = 1),
        log_id {uuid} NOT NULL,
        last_sequence {bigint} NOT NULL,
        pruned_through {bigint} NOT NULL
    ) {rows}",
];
