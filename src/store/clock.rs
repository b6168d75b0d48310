//! The database's time of day, which replicas share.

use super::{connect::Dialect, error::StoreError, transaction::Transaction};
use crate::domain::window::Millis;

/// PostgreSQL's time of day, and not that of BEGIN as `now()` is. Rounded down, as everywhere.
macro_rules! postgres_now {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}
pub(super) use postgres_now;

impl Transaction {
    /// What the database's clock shows at this statement, and not when the transaction began.
    pub async fn database_now(&self) -> Result<Millis, StoreError> {
        let text = match self.dialect() {
            Dialect::Sqlite => "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Dialect::Postgres => concat!("SELECT ", postgres_now!()),
        };
        let rows = self.rows(text, Vec::new()).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("no time of day".to_owned()))?;
        row.get(0)
    }

    /// Now: what the process's clock shows, or the database's when it has none to show.
    pub async fn now(&self, shown: Option<Millis>) -> Result<Millis, StoreError> {
        match shown {
            Some(now) => Ok(now),
            None => self.database_now().await,
        }
    }
}
