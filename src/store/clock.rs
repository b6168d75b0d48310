//! Reads the policy's revision, and the present time from the database's clock, which all replicas share. On PostgreSQL
//! one query can read both.

use super::{
    dialect::{Dialect, postgres_now},
    error::StoreError,
    row::Row,
    transaction::{Statements, Transaction},
};
use crate::domain::time::Time;

/// The policy's revision. On PostgreSQL also the database's time, if it was requested.
pub type Head = (i64, Option<Time>);

/// Whether the head contains the database's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadTime {
    /// The head contains the time, on PostgreSQL only.
    Database,
    /// The head contains no time, because the time of the process's clock counts.
    None,
}

impl HeadTime {
    /// Requests the database's time if `shown`, the time of the process's clock, is `None`.
    pub fn unless_shown(shown: Option<Time>) -> Self {
        if shown.is_none() { HeadTime::Database } else { HeadTime::None }
    }
}

impl<W: Statements> Transaction<W> {
    /// Reads the policy's revision, and the database's time if requested. The caller must read the head after it has
    /// locked the tenants, since the time of a batch is not the time of its BEGIN.
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

    /// Returns the database's time of day at this statement, not at BEGIN.
    pub async fn database_now(&self) -> Result<Time, StoreError> {
        let text = match self.dialect() {
            Dialect::Sqlite => "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Dialect::Postgres => concat!("SELECT ", postgres_now!()),
        };
        let rows = self.rows(text, Vec::new()).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("the database gave no time".to_owned()))?;
        row.get(0)
    }

    /// Returns the time that counts: `shown`, the time of the process's clock, or the database's if `shown` is `None`.
    pub async fn now(&self, shown: Option<Time>) -> Result<Time, StoreError> {
        match shown {
            Some(now) => Ok(now),
            None => self.database_now().await,
        }
    }
}

/// Reads the rows that the text of [`Transaction::head_text`] finds.
pub(super) fn head_from_rows(rows: &[Row], time: HeadTime) -> Result<Head, StoreError> {
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("the table policy has no row".to_owned()))?;
    let now = if time == HeadTime::Database { row.get(1).ok() } else { None };
    Ok((row.get(0)?, now))
}
