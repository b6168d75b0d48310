//! The two kinds of databases, and the SQL expression of PostgreSQL's time.

/// The kind of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A file that one process writes.
    Sqlite,
    /// A server that replicas share.
    Postgres,
}

/// PostgreSQL's time of day at this point, rounded down to milliseconds. The function `now()` would return the time of
/// BEGIN.
macro_rules! postgres_now {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

pub(super) use postgres_now;

/// The text of the macro `postgres_now`, for statements that are assembled at run time.
pub(super) const POSTGRES_NOW: &str = postgres_now!();
