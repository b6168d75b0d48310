//! Statements on the connection of SQLite's lane. They block the caller's thread.

use sea_orm::Value;

use crate::store::{
    bulk::{Bulk, Write},
    error::StoreError,
    row::Row,
    sqlite::connection::ThreadTransaction,
};

pub(super) fn rows(
    transaction: &ThreadTransaction,
    text: &'static str,
    values: &[Value],
) -> Result<Vec<Row>, StoreError> {
    Ok(transaction.rows(text, values)?.into_iter().map(Row::Thread).collect())
}

pub(super) fn find(
    transaction: &ThreadTransaction,
    bulk: &Bulk,
    columns: &[Vec<Value>],
) -> Result<Vec<Row>, StoreError> {
    Ok(transaction.query(bulk.sqlite, columns)?.into_iter().map(Row::Thread).collect())
}

pub(super) fn write(transaction: &ThreadTransaction, writes: &[Write]) -> Result<(), StoreError> {
    for (bulk, columns) in writes {
        let affected = transaction.execute(bulk.sqlite, columns)?;
        let expected = columns[0].len();
        if affected != expected {
            return Err(StoreError::Corrupt(format!("{affected} of {expected} rows were written")));
        }
    }
    Ok(())
}
