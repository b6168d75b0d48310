//! Statements over many rows. Their texts never vary with the number of rows, since each new text would have to be
//! prepared. PostgreSQL takes one array per column. SQLite runs in the process, and is called once per row.

use sea_orm::{DbBackend, Statement, Value, sea_query::ArrayType};

use super::dialect::{Dialect, POSTGRES_NOW};

/// Number of rows that one statement reads on a connection of SQLite's pool. The remaining rows are read one by one, so
/// that there are only two texts.
const CHUNK_ROWS: usize = 64;

/// A statement over rows of values.
pub struct Bulk {
    /// The types of the columns.
    pub(super) columns: &'static [ArrayType],
    /// The text for PostgreSQL: `$1` is the array of the first column, and so on.
    pub(super) postgres: &'static str,
    /// The text for SQLite and one row: the values are `?1` and so on. In a query each value is a `?`, in the order
    /// of the columns, so that several texts can be joined.
    pub(super) sqlite: &'static str,
}

impl Bulk {
    /// Makes the statements that a connection of a pool runs for these rows, which are given column by column. On
    /// SQLite it makes queries only: one statement reads a chunk of rows, because each statement goes to another thread
    /// and back.
    pub(super) fn statements(&self, dialect: Dialect, columns: Vec<Vec<Value>>) -> Vec<Statement> {
        let mut rows = columns.first().map_or(0, Vec::len);
        if rows == 0 {
            return Vec::new();
        }
        if dialect == Dialect::Postgres {
            return vec![Statement::from_sql_and_values(
                DbBackend::Postgres,
                self.postgres,
                self.arrays(columns),
            )];
        }
        // In joined texts, `?1` would be the value of the first row for every row.
        debug_assert!(!self.sqlite.contains("?1"), "a query with numbered values: {}", self.sqlite);
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

    /// Returns the rows as arrays, for PostgreSQL.
    fn arrays(&self, columns: Vec<Vec<Value>>) -> impl Iterator<Item = Value> {
        let arrays = self.columns.iter().zip(columns);
        arrays.map(|(kind, values)| Value::Array(kind.clone(), Some(Box::new(values))))
    }
}

/// A statement that writes, and its rows, given column by column.
pub(super) type Write = (&'static Bulk, Vec<Vec<Value>>);

/// Makes columns without any rows, for a bulk statement.
pub(super) fn empty_columns(count: usize) -> Vec<Vec<Value>> {
    vec![Vec::new(); count]
}

/// Adds a row to the columns of a bulk statement.
pub(super) fn push<const N: usize>(columns: &mut [Vec<Value>], row: [Value; N]) {
    for (column, value) in columns.iter_mut().zip(row) {
        column.push(value);
    }
}

/// Joins several writes into one statement for PostgreSQL, which saves a round trip for each write. The statement's
/// values are the columns of all writes. No write sees the effects of another, so no row may be in two writes. The
/// statement fails with a division by zero unless each row was affected.
pub(super) fn join(writes: &[Write]) -> String {
    let Joined { parts, all, .. } = Joined::of(writes);
    format!("WITH {parts} SELECT 1 / ({all})::int")
}

/// Joins writes like [`join`]. The statement also fails unless the policy has the revision that is the statement's
/// last value. Its second column returns the database's time.
pub(super) fn join_checked(writes: &[Write]) -> String {
    let Joined { parts, all, values } = Joined::of(writes);
    let (revision, now) = (values + 1, POSTGRES_NOW);
    format!("WITH {parts} SELECT 1 / ({all} AND revision = ${revision})::int, {now} FROM policy WHERE id = 1")
}

/// Writes as parts of one statement.
struct Joined {
    parts: String,
    /// The condition that each row was affected. PostgreSQL evaluates the condition from the left, so it does the
    /// writes in their order, and the inserts after them. Inserts are not counted: either all values are inserted, or
    /// the statement fails.
    all: String,
    /// The number of values of all writes.
    values: usize,
}

impl Joined {
    fn of(writes: &[Write]) -> Self {
        let (mut parts, mut counts, mut values) = (Vec::new(), Vec::new(), 0);
        for (number, (bulk, columns)) in writes.iter().enumerate() {
            let text = renumber(bulk.postgres, values);
            if text.starts_with("INSERT") {
                parts.push(format!("w{number} AS ({text})"));
            } else {
                parts.push(format!("w{number} AS ({text} RETURNING 1)"));
                counts.push(format!("(SELECT COUNT(*) FROM w{number}) = cardinality(${})", values + 1));
            }
            values += columns.len();
        }
        counts.push("true".to_owned());
        Self { parts: parts.join(", "), all: counts.join(" AND "), values }
    }
}

/// Makes the statement of [`join`], for a connection of a pool.
pub(super) fn join_statement(writes: Vec<Write>) -> Statement {
    let text = join(&writes);
    let values = writes.into_iter().flat_map(|(bulk, columns)| bulk.arrays(columns).collect::<Vec<_>>());
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}

/// Makes one statement for SQLite per row.
pub(super) fn row_by_row((bulk, columns): Write) -> Vec<Statement> {
    let rows = columns.first().map_or(0, Vec::len);
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let statement = |_| {
        let values: Vec<Value> = columns.iter_mut().filter_map(Iterator::next).collect();
        Statement::from_sql_and_values(DbBackend::Sqlite, bulk.sqlite, values)
    };
    (0..rows).map(statement).collect()
}

/// Adds `offset` to the number of each value, such as `$1`.
fn renumber(text: &str, offset: usize) -> String {
    let mut pieces = text.split('$');
    let mut renumbered = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let number: usize = piece[..end].parse().unwrap_or(0);
        renumbered.push_str(&format!("${}{}", number + offset, &piece[end..]));
    }
    renumbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_joined_writes_follow_one_another() {
        static ONE: Bulk = Bulk {
            columns: &[ArrayType::BigInt, ArrayType::Bytes],
            postgres: "DELETE FROM a USING UNNEST($1, $2) AS w (b, c) WHERE $2 = $1",
            sqlite: "",
        };
        let row = || vec![vec![Value::from(7_i64)], vec![Value::from(vec![1_u8])]];
        let statement = join_statement(vec![(&ONE, row()), (&ONE, row())]);
        assert_eq!(
            statement.sql,
            "WITH w0 AS (DELETE FROM a USING UNNEST($1, $2) AS w (b, c) WHERE $2 = $1 RETURNING 1), \
             w1 AS (DELETE FROM a USING UNNEST($3, $4) AS w (b, c) WHERE $4 = $3 RETURNING 1) \
             SELECT 1 / ((SELECT COUNT(*) FROM w0) = cardinality($1) AND (SELECT COUNT(*) FROM w1) = cardinality($3) AND true)::int"
        );
        assert_eq!(statement.values.map_or(0, |values| values.0.len()), 4);
    }
}
