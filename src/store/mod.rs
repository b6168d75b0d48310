//! The tables of a database, SQLite or PostgreSQL: connections, named transactions, rows ⇄ domain. Only this module
//! uses SeaORM, rusqlite, tokio-postgres and SQL. It does not use lanes or protos, and does not know why a row changes.
//!
//! Read `connect.rs` and `transaction` first: they open a database, and run transactions on it. They use `sqlite`
//! and `postgres`, which contain the parts that only one kind of database needs. `books`, `log`, `webhooks`, `admin`,
//! `audit` and `verify` contain the statements.

mod admin;
mod audit;
mod books;
mod bulk;
mod carry_row;
mod clock;
mod connect;
mod dialect;
mod entity;
mod error;
mod figures;
#[cfg(test)]
pub(crate) mod fixture;
mod keys;
mod location;
mod log;
mod migrate;
mod policy;
mod pool;
mod postgres;
mod probe;
mod pulse;
mod row;
mod settings;
mod sqlite;
mod time;
mod transaction;
mod verify;
mod webhooks;

use transaction::{Job, Writes};

pub use admin::{
    AgentChange, AnchorTime, KeyChange, MadeOverride, NewAgent, NewKey, NewPlan, NewResource, NewTenant,
    NextPlanChange, OverrideChange, Page, PlanChange, PlanChangePlace, PlannedAgent, PlannedNext,
    PlannedTenant, ResourceChange, SettingsChange, TenantChange,
};
pub use audit::{By, ChangePage, ChangeQuery, Scribe, Thing};
pub use books::{
    Along, ClosePlace, DuePlace, DueTenants, Expected, GoOn, Locked, Owned, Pruned, Retention, StoredCounter,
    is_made_before,
};
pub use clock::{Head, HeadTime};
pub use connect::{Store, StoreOptions};
pub use dialect::Dialect;
pub use error::{AdminError, StoreError, classify};
pub use figures::BookFigures;
pub use keys::StoredKeys;
pub use log::{LogHead, Numbered, Scanned};
pub use postgres::Listener;
pub use pulse::Signs;
pub use transaction::{Batch, DataVersion, Reading, Statements, Transaction, Writing};
pub use verify::Report;
pub use webhooks::{
    DeliveryPage, DeliveryQuery, DueDelivery, DueWebhooks, Expanded, Lease, NewWebhook, Next,
    PrunedDeliveries, WebhookChange,
};
