//! The books: policy, tenants, counters, adjustments, holds, settled reservations and request ids.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};

use crate::dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &POLICY).await?;
        dialect::run(manager, &TENANTS).await?;
        dialect::run(manager, &RESERVATIONS).await
    }
}

/// Resources, plans and their revision. The key of a row is the revision that created it. A deleted resource keeps its
/// row.
const POLICY: [&str; 5] = [
    "CREATE TABLE policy (
        id {int} NOT NULL PRIMARY KEY CHECK (id = 1),
        revision {bigint} NOT NULL
    ) {rows}",
    "INSERT INTO policy (id, revision) VALUES (1, 0)",
    "CREATE TABLE resources (
        key {int} NOT NULL PRIMARY KEY,
        id {key_text} NOT NULL,
        display_name {text} NOT NULL,
        unit {text} NOT NULL,
        deleted {smallint} NOT NULL CHECK (deleted IN (0, 1)),
        created_at {bigint} NOT NULL,
        updated_at {bigint} NOT NULL
    ) {rows}",
    "CREATE UNIQUE INDEX resources_id ON resources (id) WHERE deleted = 0",
    "CREATE TABLE plans (
        key {int} NOT NULL PRIMARY KEY,
        id {key_text} NOT NULL UNIQUE,
        display_name {text} NOT NULL,
        limits {text} NOT NULL,
        created_at {bigint} NOT NULL,
        updated_at {bigint} NOT NULL
    ) {rows}",
];

/// Tenants, counters and adjustments. Decisions update no column that these indexes contain. A deleted tenant has no
/// `id`.
const TENANTS: [&str; 5] = [
    "CREATE TABLE tenants (
        key {bigint} NOT NULL PRIMARY KEY,
        id {key_text} UNIQUE,
        deleted_id {text},
        display_name {text} NOT NULL,
        plan_key {int} NOT NULL,
        zone {text} NOT NULL,
        state {smallint} NOT NULL CHECK (state IN (1, 2)),
        decided_at {bigint} NOT NULL,
        next_due {bigint} NOT NULL,
        version {bigint} NOT NULL,
        plan_since {bigint} NOT NULL,
        created_at {bigint} NOT NULL,
        updated_at {bigint} NOT NULL,
        CHECK ((id IS NULL) <> (deleted_id IS NULL))
    ) {updated_often} {rows}",
    "CREATE INDEX tenants_plan_key ON tenants (plan_key)",
    "CREATE TABLE counters (
        tenant_key {bigint} NOT NULL,
        key {blob} NOT NULL,
        resource_key {int} NOT NULL,
        period {smallint} NOT NULL,
        window_start {bigint} NOT NULL,
        window_end {bigint} NOT NULL,
        agent {text},
        user_name {text},
        model {text},
        committed {bigint} NOT NULL,
        reserved {bigint} NOT NULL,
        counted_since {bigint} NOT NULL,
        pruned {bigint} NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant_key, key)
    ) {updated_often} {rows_by_key}",
    "CREATE TABLE adjustments (
        id {uuid} NOT NULL,
        tenant_key {bigint} NOT NULL,
        counter_key {blob} NOT NULL,
        delta {bigint} NOT NULL,
        reason {text} NOT NULL,
        operator {text} NOT NULL,
        created_at {bigint} NOT NULL,
        PRIMARY KEY (id, tenant_key)
    ) {rows_by_key}",
    "CREATE INDEX adjustments_counter ON adjustments (tenant_key, counter_key)",
];

/// Holds, settled reservations and request ids. States: 2 COMMITTED, 3 RELEASED, 4 EXPIRED. Methods: 1 Reserve, 2
/// Extend, 3 Record.
///
/// Ids of reservations begin with the time. So new rows go to the end of the key's index, whatever the number of
/// tenants, and old pages are rarely used. If request ids grow with time, as UUIDs of version 7 do, their rows are
/// close together, too.
///
/// The CHECKs use BETWEEN instead of IN, because SQLite builds a table of the IN list for each row that it checks. The
/// condition of the index `holds_deadline` is always true. But only queries about deadlines contain this condition, so
/// the planner uses the index only for them.
const RESERVATIONS: [&str; 4] = [
    "CREATE TABLE holds (
        tenant_key {bigint} NOT NULL,
        id {uuid} NOT NULL,
        deadline {bigint} NOT NULL,
        body {blob} NOT NULL,
        PRIMARY KEY (id, tenant_key)
    ) {rows_by_key}",
    "CREATE INDEX holds_deadline ON holds (tenant_key, deadline) WHERE deadline IS NOT NULL",
    "CREATE TABLE reservations (
        id {uuid} NOT NULL,
        tenant_key {bigint} NOT NULL,
        state {smallint} NOT NULL CHECK (state BETWEEN 2 AND 4),
        settled_at {bigint} NOT NULL,
        body {blob} NOT NULL,
        PRIMARY KEY (id, tenant_key)
    ) {rows_by_key}",
    "CREATE TABLE requests (
        tenant_key {bigint} NOT NULL,
        request_id {key_text} NOT NULL,
        fingerprint {uuid} NOT NULL,
        method {smallint} NOT NULL CHECK (method BETWEEN 1 AND 3),
        reservation_id {uuid} NOT NULL,
        reply {blob},
        created_at {bigint} NOT NULL,
        PRIMARY KEY (request_id, tenant_key)
    ) {rows_by_key}",
];
