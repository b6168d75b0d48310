//! What those who write to SQLite share: the connection of the lane, whose files are watched, and the thread that copies the
//! write-ahead log.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::Mutex;

use super::{checkpoint::Checkpointer, error::StoreError, thread::ThreadConnection, turn::Turn};

/// The connection of the lane, and the thread beside it.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) connection: ThreadConnection,
    checkpointer: Checkpointer,
}

/// What a transaction that writes on a connection of a pool holds until its end.
#[derive(Debug)]
pub(super) struct Writing {
    _turn: Turn,
    /// On SQLite.
    connection: Option<ThreadConnection>,
}

impl Lane {
    /// Opens a file that exists, in WAL mode. `turn` is that of all who write; `available` is cleared when the file is taken away.
    pub(super) fn open(
        path: &Path,
        turn: &Arc<Mutex<()>>,
        available: Arc<AtomicBool>,
    ) -> Result<Self, StoreError> {
        let connection = ThreadConnection::open(path, available)?;
        let checkpointer = Checkpointer::start(path, Arc::clone(turn), connection.ground())?;
        Ok(Self { connection, checkpointer })
    }

    /// Closes it, as the last of the connections.
    pub(super) fn close(&self) {
        self.checkpointer.stop();
        self.connection.close();
    }
}

impl Writing {
    /// Begins, unless the files of SQLite were taken away.
    pub(super) fn begin(turn: Turn, lane: Option<&Lane>) -> Result<Self, StoreError> {
        let connection = lane.map(|lane| lane.connection.clone());
        connection.as_ref().map_or(Ok(()), ThreadConnection::make_ready)?;
        Ok(Self { _turn: turn, connection })
    }

    /// Whether what was committed is in the database's files.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.connection.as_ref().map_or(Ok(()), ThreadConnection::check_files)
    }
}
