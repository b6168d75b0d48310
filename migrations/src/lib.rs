//! The schema for SQLite and PostgreSQL, as a list of migrations. The list is append-only: a released migration never
//! changes. No migration imports entities, because entities follow the present schema.

use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait, async_trait::async_trait};

pub use sea_orm_migration;

mod dialect;
mod m20261124_000001_books;
mod m20261124_000002_events;
mod m20261124_000003_webhooks;
mod m20261126_000004_since;
mod m20261126_000005_reset_requests;
mod m20261126_000010_tenants_due;
mod m20261126_000011_probes;
mod m20261126_000012_tenant_calendars;
mod m20261126_000013_uncovered;
mod m20261126_000014_counter_labels;
mod m20261127_000015_agents_overrides;
mod m20261127_000016_policy_settings;
mod m20261127_000018_next_plan;
mod m20261127_000019_prune_counters;
mod m20261127_000020_keys;
mod m20261127_000021_changes;
mod m20261127_000022_certificate_keys;

/// All migrations, in the order in which they run.
pub struct Migrator;

#[async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_books::Migration),
            Box::new(m20261124_000002_events::Migration),
            Box::new(m20261124_000003_webhooks::Migration),
            Box::new(m20261126_000004_since::Migration),
            Box::new(m20261126_000005_reset_requests::Migration),
            Box::new(m20261126_000010_tenants_due::Migration),
            Box::new(m20261126_000011_probes::Migration),
            Box::new(m20261126_000012_tenant_calendars::Migration),
            Box::new(m20261126_000013_uncovered::Migration),
            Box::new(m20261126_000014_counter_labels::Migration),
            Box::new(m20261127_000015_agents_overrides::Migration),
            Box::new(m20261127_000016_policy_settings::Migration),
            Box::new(m20261127_000018_next_plan::Migration),
            Box::new(m20261127_000019_prune_counters::Migration),
            Box::new(m20261127_000020_keys::Migration),
            Box::new(m20261127_000021_changes::Migration),
            Box::new(m20261127_000022_certificate_keys::Migration),
        ]
    }
}
