//! Room for SQLite on a file system that is full.
//!
//! The write-ahead log grows to 32 MB before it begins anew. On a full file system it would take whatever is freed, and then the
//! database itself has no room to grow, into which the log must be copied before it can begin anew. So once a write has
//! found no room, the whole log is copied before anything else is written, and gives back what it took; for a
//! while after that the log is kept short.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, ffi};

use super::{
    connect::{SQLITE_AUTOCHECKPOINT, SQLITE_BUSY_TIMEOUT},
    files::database_size,
};
use crate::seldom::Seldom;

/// Pages of the log from which on a commit copies it, while room is scarce: 1 MiB.
const SCARCE_AUTOCHECKPOINT: &str = "256";
/// So long after the last write that found no room it is scarce.
const SCARCE_TIME: Duration = Duration::from_secs(600);
/// Longest wait for readers of an old state, which keep the log.
const READERS_WAIT: Duration = Duration::from_millis(500);
/// What is needed beside the pages that the database has to grow by: the log itself, its index, and a batch.
const SPARE_BYTES: u64 = 1 << 20;
/// Bytes of a megabyte.
const MEGABYTE: u64 = 1_000_000;

/// Whether there is room. Who has the turn asks, and changes it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// There is, as far as anybody knows, and the log is as long as it likes.
    ample: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last write found none.
    short: bool,
    /// Since when it is scarce.
    since: Option<Instant>,
}

/// A write that finds no room is tried again each second.
static SHORT: Seldom<()> = Seldom::new();

impl Room {
    /// Begins the log anew that a server may have left on a full file system.
    pub(super) fn new(connection: &Connection) -> Self {
        let room = Self { ample: AtomicBool::new(true), state: Mutex::default() };
        if let Err(error) = copy_all(connection) {
            room.note(connection, &error);
        }
        room
    }

    /// Whether nothing has to be done before a write.
    pub(super) fn is_ample(&self) -> bool {
        self.ample.load(Ordering::Relaxed)
    }

    /// A step has failed: for want of room, perhaps.
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
                "the file system of the database takes no more (full, or over its quota): free at least {needed} MB there, and this \
                 server goes on by itself"
            );
        }
    }

    /// Copies the log and gives back what it took, if a write found no room.
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

/// Copies the whole log into the database, and truncates it, unless readers of an old state need it.
fn copy_all(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(READERS_WAIT)?;
    let copied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    connection.busy_timeout(SQLITE_BUSY_TIMEOUT)?;
    copied
}

/// FULL, and what comes of a quota or of a limit of the process: a write, a sync or the log's index that did not fit.
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

/// By how much the database has to grow before its log can begin anew, and what a batch needs.
fn needed_bytes(connection: &Connection) -> u64 {
    let file = connection.path().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len());
    database_size(connection).unwrap_or(0).saturating_sub(file) + SPARE_BYTES
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_write_without_room_has_the_log_copied_and_kept_short() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("tope.db");
        let log = || fs::metadata(folder.path().join("tope.db-wal")).expect("it is there").len();
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

        room.state.lock().expect("nobody panics with it").since = None;
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
