//! Statements over many rows, whose texts never vary, since a text that varied with the batch would be prepared anew each
//! time. PostgreSQL takes one array per column; SQLite is in the process, and is asked once per row.

use sea_orm::{DbBackend, Statement, Value, sea_query::ArrayType};

use super::Dialect;

/// Rows that a connection of SQLite's pool is asked for at once; the rest one by one, so that there are two texts.
const CHUNK_ROWS: usize = 64;

/// A statement over rows of values.
pub(super) struct Bulk {
    /// Types of the columns.
    pub(super) columns: &'static [ArrayType],
    /// The text for PostgreSQL: `$1` is the array of the first column, and so on.
    pub(super) postgres: &'static str,
    /// The text for SQLite, for one row, whose values are `?1` and so on. In a query each is a `?`, in the order of the
    /// columns, so that several can be joined.
    pub(super) sqlite: &'static str,
}

impl Bulk {
    /// What a connection of a pool has to run for these rows, which are given column by column. On SQLite only queries:
    /// a chunk of rows at once, since there each statement is a hop to another thread and back.
    pub(super) fn statements(&self, dialect: Dialect, columns: Vec<Vec<Value>>) -> Vec<Statement> {
        let mut rows = columns.first().map_or(0, Vec::len);
        if rows == 0 {
            return Vec::new();
        }
        if dialect == Dialect::Postgres {
            let arrays = self.columns.iter().zip(columns);
            let arrays = arrays.map(|(kind, values)| Value::Array(kind.clone(), Some(Box::new(values))));
            return vec![Statement::from_sql_and_values(DbBackend::Postgres, self.postgres, arrays)];
        }
        let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
        let mut statements = Vec::with_capacity(rows / CHUNK_ROWS + rows % CHUNK_ROWS);
        while rows > 0 {
            let chunk = if rows < CHUNK_ROWS { 1 } else { CHUNK_ROWS };
            let values: Vec<Value> = (0..chunk)
                .flat_map(|_| columns.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>())
                .collect();
            let text = vec![self.sqlite; chunk].join(" UNION ALL ");
            statements.push(Statement::from_sql_and_values(DbBackend::Sqlite, text, values));
            rows -= chunk;
        }
        statements
    }
}
