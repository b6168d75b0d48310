//! Copies SQLite's write-ahead log into the database, while batches run.
//!
//! By default, SQLite copies the log within a COMMIT once the log is long. Then every call that waits for that batch
//! waits until thousands of pages are written and synced. Here, a thread with its own connection copies the log a few
//! times a second, while batches run. When the whole log is copied and nobody writes, SQLite starts to write the log
//! from its beginning again. So once the log is long, the thread takes the turn to write, and copies the last few
//! pages. While the file system has little room, the lane itself keeps the log short.
//!
//! Before each copy, the thread checks that the files are still those that the server opened. It must not copy pages
//! into a file that another program has put there.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;

use super::{files::Files, room::Room, settings::SQLITE_BUSY_TIMEOUT};
use crate::{seldom::Seldom, store::error::StoreError};

/// Pause between two copies of the log.
const PAUSE: Duration = Duration::from_millis(250);
/// Length of the log, in pages, from which on the thread tries to copy all of it, so that SQLite overwrites the log
/// from its beginning.
const LONG_PAGES: i64 = 8_192;
/// The thread takes the turn to write only if at most this many pages remain to copy. More pages remain while a reader
/// uses an old state of the database.
const REST_PAGES: i64 = 1_024;

/// The thread that copies the log. It ends when it is stopped, or when all copies of the store are dropped.
#[derive(Clone, Debug)]
pub(super) struct Checkpointer(Arc<Mutex<Option<(Sender<()>, JoinHandle<()>)>>>);

/// The state of the log after a copy.
struct Copied {
    /// All pages in the log.
    pages: i64,
    /// Pages that are not copied yet.
    rest: i64,
}

impl Checkpointer {
    /// Starts the thread for an existing file. `turn` is the turn to write, which all writers share.
    pub(super) fn start(
        path: &Path,
        turn: Arc<tokio::sync::Mutex<()>>,
        files: Arc<Files>,
        room: Arc<Room>,
    ) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(SQLITE_BUSY_TIMEOUT)?;
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("tope-checkpoint".to_owned())
            .spawn(move || Copier { connection, turn, files, room }.run(&stopped))
            .map_err(|error| {
                StoreError::Unusable(format!(
                    "cannot start the thread that copies the write-ahead log: {error}"
                ))
            })?;
        Ok(Self(Arc::new(Mutex::new(Some((stop, thread))))))
    }

    /// Stops the thread, and waits until its connection is closed.
    pub(super) fn stop(&self) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the thread that copies the write-ahead log panicked");
            }
        }
    }
}

/// Limits the log line: a copy that fails is tried again four times a second.
static FAILED: Seldom<()> = Seldom::new();

/// The state of the thread.
struct Copier {
    connection: Connection,
    turn: Arc<tokio::sync::Mutex<()>>,
    files: Arc<Files>,
    room: Arc<Room>,
}

impl Copier {
    fn run(&self, stopped: &Receiver<()>) {
        while matches!(stopped.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout)) {
            if self.check().is_err() {
                // The fault was logged when it was found.
                return;
            }
            let Err(error) = self.copy_some() else { continue };
            self.room.note(&self.connection, &error);
            // Without room, `Room` logs the cause, and the lane copies the log itself.
            if self.room.is_ample()
                && let Some(left_out) = FAILED.due(())
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    log.left_out = left_out,
                    "the write-ahead log could not be copied into the database; trying again"
                );
            }
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.files.find_fault().is_none() {
            return Ok(());
        }
        // The files are checked again while no other connection of this process writes.
        let _turn = self.turn.blocking_lock();
        self.files.check()
    }

    fn copy_some(&self) -> Result<(), rusqlite::Error> {
        if !self.room.is_ample() || copy(&self.connection)?.pages < LONG_PAGES {
            return Ok(());
        }
        // Batches added few pages during the first copy, so the second copy is fast.
        if copy(&self.connection)?.rest <= REST_PAGES {
            let _turn = self.turn.blocking_lock();
            copy(&self.connection)?;
        }
        Ok(())
    }
}

/// Copies the pages that can be copied without making a reader or a writer wait.
fn copy(connection: &Connection) -> Result<Copied, rusqlite::Error> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |row| {
        let (pages, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Copied { pages, rest: pages - copied })
    })
}
