//! The books in a database, SQLite or PostgreSQL: connections, named transactions, rows ⇄ domain. The only place that
//! knows SeaORM, and SQL. It knows nothing of lanes, protos, or why a row changes.

mod connect;
mod entity;
mod error;
mod migrate;
mod transaction;

pub use connect::{Dialect, Store, StoreOptions};
pub use error::{AdminError, StoreError, classify};
pub use transaction::Transaction;
