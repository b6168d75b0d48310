//! Statements over many rows, whose texts never vary: PostgreSQL takes one array per column, SQLite a fixed set of
//! row counts, filled up with rows of NULL, which meet no row. A text that varied with the batch would be prepared anew
//! each time, and each statement is a hop to SQLite's thread and back.

use std::sync::OnceLock;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value, sea_query::ArrayType};

/// Rows of one statement on SQLite, largest first.
const CHUNKS: [usize; 9] = [256, 128, 64, 32, 16, 8, 4, 2, 1];

/// A statement over rows of values.
pub(super) struct Bulk {
    /// Types of the columns.
    columns: &'static [ArrayType],
    /// The text for PostgreSQL: `$1` is the array of the first column, and so on.
    postgres: &'static str,
    /// The text for SQLite, with `{rows}` where one `row` for each row goes.
    sqlite: &'static str,
    /// What stands for a row; `None`: `(?, …)`, with commas in between.
    row: Option<(&'static str, &'static str)>,
    texts: OnceLock<[String; CHUNKS.len()]>,
}

impl Bulk {
    /// A statement.
    pub(super) const fn new(
        columns: &'static [ArrayType],
        postgres: &'static str,
        sqlite: &'static str,
    ) -> Self {
        Self { columns, postgres, sqlite, row: None, texts: OnceLock::new() }
    }

    /// A statement whose rows on SQLite are conditions, one of which must hold: it searches by key with those, and would
    /// scan the table with a list of row values.
    pub(super) const fn of_conditions(
        columns: &'static [ArrayType],
        postgres: &'static str,
        sqlite: &'static str,
        condition: &'static str,
    ) -> Self {
        Self { columns, postgres, sqlite, row: Some((condition, " OR ")), texts: OnceLock::new() }
    }

    /// Its text on PostgreSQL, for errors.
    pub(super) fn text(&self) -> &'static str {
        self.postgres
    }

    /// Runs it over rows, given column by column, and says how many rows it affected.
    pub(super) async fn execute(
        &self,
        connection: &impl ConnectionTrait,
        columns: Vec<Vec<Value>>,
    ) -> Result<u64, DbErr> {
        let mut affected = 0;
        for statement in self.statements(connection.get_database_backend(), columns) {
            affected += connection.execute_raw(statement).await?.rows_affected();
        }
        Ok(affected)
    }

    /// Runs it over rows, given column by column, and returns what it finds.
    pub(super) async fn query(
        &self,
        connection: &impl ConnectionTrait,
        columns: Vec<Vec<Value>>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let mut found = Vec::new();
        for statement in self.statements(connection.get_database_backend(), columns) {
            found.append(&mut connection.query_all_raw(statement).await?);
        }
        Ok(found)
    }

    fn statements(&self, backend: DbBackend, columns: Vec<Vec<Value>>) -> Vec<Statement> {
        if columns.first().is_none_or(Vec::is_empty) {
            return Vec::new();
        }
        if backend == DbBackend::Postgres {
            let arrays = self.columns.iter().zip(columns);
            let arrays = arrays.map(|(kind, values)| Value::Array(kind.clone(), Some(Box::new(values))));
            return vec![Statement::from_sql_and_values(backend, self.postgres, arrays)];
        }
        let texts = self.texts.get_or_init(|| CHUNKS.map(|rows| self.sqlite_text(rows)));
        let mut rest = columns.first().map_or(0, Vec::len);
        let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
        let mut statements = Vec::with_capacity(rest.div_ceil(CHUNKS[0]));
        while rest > 0 {
            // The smallest that takes all of the rest, or else the largest.
            let place = CHUNKS.iter().rposition(|&size| size >= rest).unwrap_or(0);
            let mut values = Vec::with_capacity(CHUNKS[place] * columns.len());
            for _ in 0..CHUNKS[place] {
                let row = columns.iter_mut().zip(self.columns);
                values.extend(row.map(|(column, kind)| column.next().unwrap_or_else(|| null(kind))));
            }
            statements.push(Statement::from_sql_and_values(backend, texts[place].as_str(), values));
            rest = rest.saturating_sub(CHUNKS[place]);
        }
        statements
    }

    fn sqlite_text(&self, rows: usize) -> String {
        let values = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let (row, between) = self.row.unwrap_or((&values, ", "));
        self.sqlite.replace("{rows}", &vec![row; rows].join(between))
    }
}

/// No value, of the type of a column.
fn null(kind: &ArrayType) -> Value {
    match kind {
        ArrayType::Bytes => Value::Bytes(None),
        ArrayType::String => Value::String(None),
        // SQLite's NULL has no type.
        _ => Value::BigInt(None),
    }
}
