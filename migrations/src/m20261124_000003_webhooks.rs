//! Webhooks, and the deliveries of events to them.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait::async_trait,
};

use crate::dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, &WEBHOOKS).await
    }
}

/// Keys of webhooks are random, and no key is used twice. `tenants` and `kinds` are JSON. States of webhooks: 1 ACTIVE,
/// 2 DISABLED, 3 GONE, 4 FAILED; of deliveries: 1 PENDING, 2 DELIVERED, 3 FAILED. `cursor` is the place in the log up
/// to which the webhook's deliveries were created. `claimed_until` is the time until which only one process sends to
/// the webhook, or 0. A `next_attempt_at` of 0 means at once.
const WEBHOOKS: [&str; 4] = [
    "CREATE TABLE webhooks (
        key {bigint} NOT NULL PRIMARY KEY,
        id {key_text} NOT NULL UNIQUE,
        url {text} NOT NULL,
        description {text} NOT NULL,
        tenants {text} NOT NULL,
        kinds {text} NOT NULL,
        state {smallint} NOT NULL CHECK (state BETWEEN 1 AND 4),
        secret {blob} NOT NULL,
        old_secret {blob},
        old_secret_until {bigint},
        cursor {bigint} NOT NULL,
        failing_since {bigint},
        claimed_until {bigint} NOT NULL,
        created_at {bigint} NOT NULL,
        updated_at {bigint} NOT NULL
    ) {rows}",
    "CREATE TABLE deliveries (
        webhook_key {bigint} NOT NULL,
        sequence {bigint} NOT NULL,
        state {smallint} NOT NULL CHECK (state BETWEEN 1 AND 3),
        attempts {int} NOT NULL,
        next_attempt_at {bigint} NOT NULL,
        attempted_at {bigint},
        response_status {smallint} NOT NULL,
        error {text} NOT NULL,
        created_at {bigint} NOT NULL,
        PRIMARY KEY (webhook_key, sequence)
    ) {rows_by_key}",
    "CREATE INDEX deliveries_pending ON deliveries (webhook_key, next_attempt_at, sequence) WHERE state = 1",
    "CREATE INDEX deliveries_failed ON deliveries (webhook_key, sequence) WHERE state = 3",
];
