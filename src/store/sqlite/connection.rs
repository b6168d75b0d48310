//! Runs SQLite in the caller's thread, on the connection of the lane.
//!
//! sqlx gives SQLite a thread of its own. Each statement is a message to that thread and back: that costs two waits for
//! a core, while the statement itself takes a microsecond. A lane has a thread already, so its batches call the driver
//! there, with one prepared statement per table and one execution per row. Jobs that change no rows that a lane
//! remembers use the connection, too. All other transactions use the pools.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use rusqlite::{
    CachedStatement, Connection, Statement, ToSql,
    config::DbConfig,
    types::{FromSql, Null, ToSqlOutput, Value as Cell, ValueRef},
};
use sea_orm::Value;

use super::{
    files::Files,
    room::Room,
    settings::{SQLITE_BUSY_TIMEOUT, SQLITE_LANE_PRAGMAS},
    turn::Turn,
};
use crate::store::error::StoreError;

/// Maximum number of prepared statements that the connection keeps. It exceeds the number of different statements.
const STATEMENTS_MAX: usize = 64;

/// The lane's connection, until it is closed. The mutex is never contended, since only the writer that has the turn to
/// write uses the connection.
#[derive(Clone, Debug)]
pub(in crate::store) struct ThreadConnection {
    connection: Arc<Mutex<Option<Connection>>>,
    files: Arc<Files>,
    room: Arc<Room>,
}

impl ThreadConnection {
    /// Opens an existing file, and copies and empties its write-ahead log. Clears `available` when the file is taken
    /// away.
    pub(super) fn open(path: &Path, available: Arc<AtomicBool>) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(SQLITE_BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        for (name, value) in SQLITE_LANE_PRAGMAS {
            connection.pragma_update(None, name, value)?;
        }
        // From here on the files of the log and of its index exist, too.
        let room = Arc::new(Room::new(&connection));
        let files = Arc::new(Files::open(path, available)?);
        Ok(Self { connection: Arc::new(Mutex::new(Some(connection))), files, room })
    }

    /// Closes the connection. No statement may be running on it.
    pub(super) fn close(&self) {
        let connection = self.lock().take();
        if let (Some(connection), true) = (connection, self.is_taken()) {
            // SQLite must not copy the log into a file that another program has put there.
            let flag = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = connection.set_db_config(flag, true) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "SQLite may still copy the write-ahead log while it closes"
                );
            }
        }
    }

    /// Fails if the files were taken away. Makes room if the file system had none. The caller must have the turn to
    /// write.
    pub(super) fn make_ready(&self) -> Result<(), StoreError> {
        self.files.refuse_taken()?;
        if self.room.is_ample() { Ok(()) } else { self.run(|connection| self.room.make(connection)) }
    }

    /// Returns the checks of the database's files, and the state of room on their file system.
    pub(super) fn files_and_room(&self) -> (Arc<Files>, Arc<Room>) {
        (Arc::clone(&self.files), Arc::clone(&self.room))
    }

    /// Returns whether the files were taken away.
    pub(in crate::store) fn is_taken(&self) -> bool {
        self.files.refuse_taken().is_err()
    }

    /// Waits until the files were taken away.
    pub(in crate::store) async fn until_taken(&self) {
        self.files.until_taken().await;
    }

    /// Checks that the last commit went into the database's own files. The caller must have the turn to write.
    pub(super) fn check_files(&self) -> Result<(), StoreError> {
        self.files.check_quickly()
    }

    /// Makes the next mark of this server, for the table of probes.
    pub(in crate::store) fn next_mark(&self) -> Result<Vec<u8>, StoreError> {
        self.run(|connection| self.files.next_mark(connection))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(&self, steps: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>) -> Result<T, StoreError> {
        match &*self.lock() {
            Some(connection) => Ok(steps(connection).inspect_err(|error| self.room.note(connection, error))?),
            None => Err(closed()),
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unusable("the database is closed".to_owned())
}

/// A transaction on the lane's connection. If it is dropped, it is rolled back.
#[derive(Debug)]
pub(in crate::store) struct ThreadTransaction {
    connection: ThreadConnection,
    open: bool,
    /// The result of `PRAGMA data_version`: it changes when another connection has changed the database.
    pub(in crate::store) data_version: i64,
    _turn: Turn,
}

/// The cells of a row.
pub(in crate::store) type Cells = Vec<Cell>;

impl ThreadTransaction {
    /// Begins the transaction with BEGIN IMMEDIATE.
    pub(in crate::store) fn begin(connection: ThreadConnection, turn: Turn) -> Result<Self, StoreError> {
        connection.make_ready()?;
        let data_version = connection.run(|connection| {
            step(connection, "BEGIN IMMEDIATE")?;
            let version = connection
                .prepare_cached("PRAGMA data_version")
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
            version.or_else(|error| undo(connection).and(Err(error)))
        })?;
        Ok(Self { connection, open: true, data_version, _turn: turn })
    }

    /// Commits. Fails if the files were taken away, since the changes are then lost.
    pub(in crate::store) fn commit(mut self) -> Result<(), StoreError> {
        self.connection.run(|connection| step(connection, "COMMIT"))?;
        self.open = false;
        self.connection.check_files()
    }

    /// Rolls the transaction back.
    pub(in crate::store) fn rollback(mut self) -> Result<(), StoreError> {
        self.open = false;
        self.connection.run(undo)
    }

    /// Runs a statement for each row of values, given column by column, and returns how many rows it affected.
    pub(in crate::store) fn execute(&self, text: &str, columns: &[Vec<Value>]) -> Result<usize, StoreError> {
        self.connection.run(|connection| {
            let mut statement = connection.prepare_cached(text)?;
            let mut affected = 0;
            for row in 0..columns.first().map_or(0, Vec::len) {
                bind(&mut statement, columns.iter().map(|column| &column[row]))?;
                affected += statement.raw_execute()?;
            }
            Ok(affected)
        })
    }

    /// Runs a statement for each row of values, given column by column, and returns the rows that it finds.
    pub(in crate::store) fn query(
        &self,
        text: &str,
        columns: &[Vec<Value>],
    ) -> Result<Vec<Cells>, StoreError> {
        self.connection.run(|connection| {
            let mut statement = connection.prepare_cached(text)?;
            let mut found = Vec::new();
            for row in 0..columns.first().map_or(0, Vec::len) {
                bind(&mut statement, columns.iter().map(|column| &column[row]))?;
                collect(&mut statement, &mut found)?;
            }
            Ok(found)
        })
    }

    /// Runs one statement. The first value is bound to `$1`, wherever `$1` stands in the text.
    pub(in crate::store) fn rows(&self, text: &str, values: &[Value]) -> Result<Vec<Cells>, StoreError> {
        self.connection.run(|connection| {
            let mut statement = connection.prepare_cached(text)?;
            let mut found = Vec::new();
            for (number, value) in (1..).zip(values) {
                // SQLite takes `$1` for a name, and numbers names in the order in which they appear.
                if let Some(place) = statement.parameter_index(&format!("${number}"))? {
                    statement.raw_bind_parameter(place, Bound(value))?;
                }
            }
            collect(&mut statement, &mut found)?;
            Ok(found)
        })
    }
}

impl Drop for ThreadTransaction {
    fn drop(&mut self) {
        if self.open {
            // If the rollback fails, the next BEGIN fails, too, and reports it.
            let _ = self.connection.run(undo);
        }
    }
}

fn step(connection: &Connection, text: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(text)?.raw_execute().map(|_| ())
}

/// Rolls back, unless an error has done so already.
fn undo(connection: &Connection) -> Result<(), rusqlite::Error> {
    if connection.is_autocommit() { Ok(()) } else { step(connection, "ROLLBACK") }
}

fn bind<'a>(
    statement: &mut Statement<'_>,
    values: impl Iterator<Item = &'a Value>,
) -> Result<(), rusqlite::Error> {
    for (place, value) in values.enumerate() {
        statement.raw_bind_parameter(place + 1, Bound(value))?;
    }
    Ok(())
}

fn collect(statement: &mut CachedStatement<'_>, found: &mut Vec<Cells>) -> Result<(), rusqlite::Error> {
    let count = statement.column_count();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        found.push((0..count).map(|place| row.get(place)).collect::<Result<_, _>>()?);
    }
    Ok(())
}

/// A value of SeaORM, bound without a copy.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, rusqlite::Error> {
        match self.0 {
            Value::Bool(value) => value.to_sql(),
            Value::SmallInt(value) => value.to_sql(),
            Value::Int(value) => value.to_sql(),
            Value::BigInt(value) => value.to_sql(),
            Value::String(value) => value.to_sql(),
            Value::Bytes(value) => value.to_sql(),
            Value::Uuid(Some(value)) => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(value.as_bytes()))),
            Value::Uuid(None) => Null.to_sql(),
            other => Err(rusqlite::Error::ToSqlConversionFailure(
                format!("cannot bind a value of this type: {other:?}").into(),
            )),
        }
    }
}

/// Converts the cell at a place to a value of the program.
pub(in crate::store) fn read<T: FromSql>(cells: &Cells, place: usize) -> Result<T, StoreError> {
    let cell = cells.get(place).map(ValueRef::from).and_then(|cell| T::column_result(cell).ok());
    cell.ok_or_else(|| StoreError::Corrupt(format!("column {place} has an unexpected type")))
}
