//! Makes room for SQLite on a full file system.
//!
//! The write-ahead log grows to 32 MB before SQLite overwrites it from its beginning. On a full file system the log
//! would take all space that is freed, and the database could not grow. But SQLite can overwrite the log only after
//! copying it into the database. So after a write that found no room, the whole log is copied and truncated before the
//! next write. For a while after that, the log is kept short.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, ffi};

use super::{
    files::database_size,
    settings::{SQLITE_AUTOCHECKPOINT, SQLITE_BUSY_TIMEOUT},
};
use crate::seldom::Seldom;

/// Length of the log, in pages, from which on a commit copies it while room is scarce: 1 MiB.
const SCARCE_AUTOCHECKPOINT: &str = "256";
/// Room counts as scarce for this time after the last write that found none.
const SCARCE_TIME: Duration = Duration::from_secs(600);
/// Maximum time to wait for readers of an old state of the database. While they read, the log cannot be truncated.
const READERS_WAIT: Duration = Duration::from_millis(500);
/// Free space that is needed for the log, its index and a batch, in addition to the pages by which the database must
/// grow.
const SPARE_BYTES: u64 = 1 << 20;
const MEGABYTE: u64 = 1_000_000;

/// The state of room on the file system, as writes have shown it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Whether no recent write has found the file system full, so that the log may grow to its usual length.
    ample: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the last write found no room.
    short: bool,
    /// When a write last found no room.
    since: Option<Instant>,
}

/// Limits the log line: a write that finds no room is tried again each second.
static SHORT: Seldom<()> = Seldom::new();

impl Room {
    /// Makes the state, and copies the log that an earlier server may have left on a full file system.
    pub(super) fn new(connection: &Connection) -> Self {
        let room = Self { ample: AtomicBool::new(true), state: Mutex::default() };
        if let Err(error) = copy_all(connection) {
            room.note(connection, &error);
        }
        room
    }

    /// Returns whether a write needs no preparation.
    pub(super) fn is_ample(&self) -> bool {
        self.ample.load(Ordering::Relaxed)
    }

    /// Notes that a statement has failed, if the reason is a lack of room.
    pub(super) fn note(&self, connection: &Connection, error: &rusqlite::Error) {
        if !is_short(error) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.short, state.since) = (true, Some(Instant::now()));
        self.ample.store(false, Ordering::Relaxed);
        if let Some(left_out) = SHORT.due(()) {
            let needed = needed_bytes(connection).div_ceil(MEGABYTE);
            tracing::error!(
                error = error as &dyn std::error::Error,
                log.left_out = left_out,
                "the file system of the database is full, or over its quota: free at least {needed} MB there; \
                 the server then continues without a restart"
            );
        }
    }

    /// Prepares a write. If the last write found no room, copies and truncates the log. Once room is no longer scarce,
    /// lets the log grow to its usual length again.
    pub(super) fn make(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let (short, over) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.short, state.since.is_none_or(|since| since.elapsed() >= SCARCE_TIME))
        };
        if short {
            copy_all(connection)?;
            connection.pragma_update(None, "wal_autocheckpoint", SCARCE_AUTOCHECKPOINT)?;
            self.state.lock().unwrap_or_else(PoisonError::into_inner).short = false;
        } else if over {
            connection.pragma_update(None, "wal_autocheckpoint", SQLITE_AUTOCHECKPOINT)?;
            self.ample.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Copies the whole log into the database, and truncates the log unless readers of an old state need it.
fn copy_all(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(READERS_WAIT)?;
    let copied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    connection.busy_timeout(SQLITE_BUSY_TIMEOUT)?;
    copied
}

/// Returns whether an error means a lack of room: SQLITE_FULL, or a write, a sync or a log's index that failed because
/// of a quota or a limit of the process.
fn is_short(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(
        code,
        Some(
            ffi::SQLITE_FULL
                | ffi::SQLITE_IOERR_WRITE
                | ffi::SQLITE_IOERR_FSYNC
                | ffi::SQLITE_IOERR_TRUNCATE
                | ffi::SQLITE_IOERR_SHMSIZE
        )
    )
}

/// Returns how many bytes must be free: those by which the database must grow before its log can be overwritten, and
/// those that a batch needs.
fn needed_bytes(connection: &Connection) -> u64 {
    let file = connection.path().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len());
    database_size(connection).unwrap_or(0).saturating_sub(file) + SPARE_BYTES
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn after_a_write_without_room_the_log_is_copied_and_kept_short() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("tope.db");
        let log = || fs::metadata(folder.path().join("tope.db-wal")).expect("the file exists").len();
        let connection = Connection::open(&path).expect("opened");
        connection.pragma_update(None, "journal_mode", "WAL").expect("set");
        connection.pragma_update(None, "wal_autocheckpoint", SQLITE_AUTOCHECKPOINT).expect("set");
        let room = Room::new(&connection);
        connection
            .execute_batch("CREATE TABLE t (body BLOB); INSERT INTO t VALUES (randomblob(1000000))")
            .expect("inserted");
        assert!(room.is_ample() && log() > 1_000_000, "{}", log());

        connection.pragma_update(None, "max_page_count", 1).expect("set");
        let insert = "INSERT INTO t VALUES (randomblob(1000000))";
        let error = connection.execute(insert, []).expect_err("it does not fit");
        room.note(&connection, &error);
        assert!(!room.is_ample());
        room.make(&connection).expect("the database itself has room");
        assert_eq!(log(), 0);
        let pages = |connection: &Connection| {
            connection
                .query_row("PRAGMA wal_autocheckpoint", [], |row| row.get::<_, u32>(0))
                .expect("a number")
        };
        assert_eq!(pages(&connection), 256);
        assert!(!room.is_ample(), "it is scarce for a while");

        room.state.lock().expect("the lock is not poisoned").since = None;
        room.make(&connection).expect("nothing to do");
        assert!(room.is_ample());
        assert_eq!(pages(&connection), 65_536);
    }

    #[test]
    fn other_errors_are_no_lack_of_room() {
        let connection = Connection::open_in_memory().expect("opened");
        let room = Room::new(&connection);
        let error = connection.execute("INSERT INTO absent VALUES (1)", []).expect_err("there is none");
        room.note(&connection, &error);
        assert!(room.is_ample());
    }
}
