//! The books in a database, SQLite or PostgreSQL: connections, named transactions, rows ⇄ domain. The only module
//! that knows SeaORM, rusqlite, tokio-postgres, and SQL. It knows nothing of lanes, protos, or why a row changes.

mod admin;
mod ahead;
mod backup;
mod batch;
mod body;
mod bulk;
mod checkpoint;
mod clock;
mod close;
mod connect;
mod deliveries;
mod delivery_list;
mod delivery_prune;
mod due;
mod entity;
mod error;
mod event;
mod event_body;
mod event_prune;
mod files;
#[cfg(test)]
pub(crate) mod fixture;
mod lane;
mod listen;
mod lock;
mod migrate;
mod place;
mod policy;
mod probe;
mod prune;
mod room;
mod scan;
mod tenant;
mod thread;
mod told;
mod transaction;
mod turn;
mod verify;
mod wire;

pub use admin::{
    NewPlan, NewResource, NewTenant, NewWebhook, Page, PlanChange, PlannedTenant, ResourceChange,
    TenantChange, WebhookChange,
};
pub use ahead::Expected;
pub use batch::{Owned, StoredCounter};
pub use clock::{Head, HeadTime};
pub use close::{ClosePlace, is_made_before};
pub use connect::{Dialect, Store, StoreOptions};
pub use deliveries::{DueWebhooks, Errand, Expanded, Lease, Next};
pub use delivery_list::{DeliveryPage, DeliveryQuery};
pub use delivery_prune::PrunedDeliveries;
pub use due::{DuePlace, DueTenants};
pub use error::{AdminError, StoreError, classify};
pub use event::{LogHead, LookedAt, Numbered};
pub use listen::Listener;
pub use lock::{Along, Locked};
pub use probe::Signs;
pub use prune::{GoOn, Pruned, Retention};
pub use transaction::Transaction;
pub use verify::Report;
