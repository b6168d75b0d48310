//! A row that a query found. There are three ways to a database, and each way has its own type of rows.

use rusqlite::types::FromSql;
use sea_orm::{QueryResult, TryGetable};
use tokio_postgres::types::FromSqlOwned;

use super::{
    error::StoreError,
    sqlite::connection::{self, Cells},
};

/// A row that a query found.
#[derive(Debug)]
pub enum Row {
    /// Found on a connection of a pool.
    Pool(QueryResult),
    /// Found on the connection of SQLite's lane.
    Thread(Cells),
    /// Found on a lane's connection to PostgreSQL.
    Wire(tokio_postgres::Row),
}

impl Row {
    /// Returns the value of a column, by its place from 0.
    pub(super) fn get<T>(&self, place: usize) -> Result<T, StoreError>
    where
        T: TryGetable + FromSql + FromSqlOwned,
    {
        match self {
            Row::Pool(row) => Ok(row.try_get_by_index(place)?),
            Row::Thread(cells) => connection::read(cells, place),
            Row::Wire(row) => row
                .try_get(place)
                .map_err(|_| StoreError::Corrupt(format!("column {place} has an unexpected type"))),
        }
    }
}
