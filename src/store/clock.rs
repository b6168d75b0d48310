//! The database's time of day, which replicas share, and the revision of the policy, which is read with it.

use super::{
    connect::Dialect,
    error::StoreError,
    transaction::{Row, Transaction},
};
use crate::domain::window::Millis;

/// PostgreSQL's time of day, and not that of BEGIN as `now()` is. Rounded down, as everywhere.
macro_rules! postgres_now {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

/// The same, for statements that are put together.
pub(super) const POSTGRES_NOW: &str = postgres_now!();

/// The revision of the policy, and the database's time if it was asked for, and it has one.
pub type Head = (i64, Option<Millis>);

/// Whether the head shall have the database's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadTime {
    /// It shall, on PostgreSQL.
    Database,
    /// The process has a clock of its own.
    None,
}

impl HeadTime {
    /// The database's, when the process's clock shows none.
    pub fn beside(shown: Option<Millis>) -> Self {
        if shown.is_none() { HeadTime::Database } else { HeadTime::None }
    }
}

impl Transaction {
    /// The revision of the policy, and the database's time if it is asked for. Read after the lock: `now()` would be the
    /// time of BEGIN.
    pub async fn read_head(&self, time: HeadTime) -> Result<Head, StoreError> {
        let rows = self.rows(self.head_text(time), Vec::new()).await?;
        head_from_rows(&rows, time)
    }

    pub(super) fn head_text(&self, time: HeadTime) -> &'static str {
        match (time, self.dialect()) {
            (HeadTime::Database, Dialect::Postgres) => {
                concat!("SELECT revision, ", postgres_now!(), " FROM policy WHERE id = 1")
            }
            (HeadTime::Database, Dialect::Sqlite) | (HeadTime::None, _) => {
                "SELECT revision FROM policy WHERE id = 1"
            }
        }
    }

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

/// What the head's statement found.
pub(super) fn head_from_rows(rows: &[Row], time: HeadTime) -> Result<Head, StoreError> {
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("the policy's row is missing".to_owned()))?;
    let now = if time == HeadTime::Database { row.get(1).ok() } else { None };
    Ok((row.get(0)?, now))
}
