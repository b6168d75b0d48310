//! The books in a database, SQLite or PostgreSQL: connections, named transactions, rows ⇄ domain. The only place that
//! knows SeaORM, rusqlite, and SQL. It knows nothing of lanes, protos, or why a row changes.

mod admin;
mod backup;
mod batch;
mod body;
mod bulk;
mod clock;
mod connect;
mod deliveries;
mod due;
mod entity;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod migrate;
mod place;
mod policy;
mod prune;
mod scan;
mod tenant;
mod thread;
mod transaction;
mod verify;

pub use admin::{
    NewPlan, NewResource, NewTenant, NewWebhook, Page, PlanChange, PlannedTenant, ResourceChange,
    TenantChange, WebhookChange,
};
pub use batch::Owned;
pub use connect::{Dialect, Store, StoreOptions};
pub use deliveries::{DeliveryQuery, Errand, Expanded, Lease};
pub use due::DueTenants;
pub use error::{AdminError, StoreError, classify};
pub use prune::{Pruned, Retention};
pub use transaction::Transaction;
pub use verify::Report;
