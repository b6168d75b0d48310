//! Adds the column for the calendars of a tenant.

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

/// `tenants.calendars` is JSON: the zones that the tenant had and has, and the starts of its subscription. It is NULL
/// for a tenant that has had one zone, and whose subscription began when the tenant was created.
const COLUMNS: [&str; 1] = ["ALTER TABLE tenants ADD COLUMN calendars {text}"];
