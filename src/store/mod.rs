//! The books in a database, SQLite or PostgreSQL: connections, named transactions, rows ⇄ domain. The only module
//! that knows SeaORM, rusqlite, tokio-postgres, and SQL. It knows nothing of lanes, protos, or why a row changes.

mod admin;
mod ahead;
mod batch;
mod body;
mod bulk;
mod clock;
mod close;
mod connect;
mod deliveries;
mod delivery_list;
mod delivery_prune;
mod dialect;
mod due;
mod entity;
mod error;
mod event;
mod event_body;
mod event_prune;
#[cfg(test)]
pub(crate) mod fixture;
mod location;
mod lock;
mod migrate;
mod policy;
mod pool;
mod postgres;
mod probe;
mod prune;
mod pulse;
mod row;
mod scan;
mod sqlite;
mod tenant;
mod told;
mod transaction;
mod verify;

pub use admin::{
    NewPlan, NewResource, NewTenant, NewWebhook, Page, PlanChange, PlannedTenant, ResourceChange,
    TenantChange, WebhookChange,
};
pub use ahead::Expected;
pub use batch::{Owned, StoredCounter};
pub use clock::{Head, HeadTime};
pub use close::{ClosePlace, is_made_before};
pub use connect::{Store, StoreOptions};
pub use deliveries::{DueWebhooks, Errand, Expanded, Lease, Next};
pub use delivery_list::{DeliveryPage, DeliveryQuery};
pub use delivery_prune::PrunedDeliveries;
pub use dialect::Dialect;
pub use due::{DuePlace, DueTenants};
pub use error::{AdminError, StoreError, classify};
pub use event::{LogHead, LookedAt, Numbered};
pub use lock::{Along, Locked};
pub use postgres::Listener;
pub use prune::{GoOn, Pruned, Retention};
pub use pulse::Signs;
pub use transaction::Transaction;
pub use verify::Report;
