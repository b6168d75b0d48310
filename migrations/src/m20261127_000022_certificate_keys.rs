//! Adds the name in a client's certificate to which a key is bound.

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

/// `keys.certificate_san` is NULL for a key with a secret. A server of the previous release does not read the column.
/// To this server, a key with a name is a key whose secret nobody knows.
const STATEMENTS: [&str; 2] = [
    "ALTER TABLE keys ADD COLUMN certificate_san {key_text}",
    "CREATE UNIQUE INDEX keys_certificate_san ON keys (certificate_san) WHERE certificate_san IS NOT NULL",
];
