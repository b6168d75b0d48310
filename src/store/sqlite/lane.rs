//! The parts that all writers of a SQLite file share: the lane's connection, which checks the files, and the thread
//! that copies the write-ahead log.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::sync::Mutex;

use super::{checkpoint::Checkpointer, connection::ThreadConnection, turn::Turn};
use crate::store::error::StoreError;

/// The lane's connection, and the thread that copies its write-ahead log.
#[derive(Clone, Debug)]
pub(in crate::store) struct Lane {
    pub(in crate::store) connection: ThreadConnection,
    checkpointer: Checkpointer,
}

/// The turn to write, which a writing transaction on a pool's connection keeps until its end.
#[derive(Debug)]
pub(in crate::store) struct PoolTurn {
    _turn: Turn,
    /// The lane's connection, which checks the files. `None` on PostgreSQL.
    connection: Option<ThreadConnection>,
}

impl Lane {
    /// Opens an existing file that is in WAL mode. `turn` is the turn to write, which all writers share. Clears
    /// `available` when the file is taken away.
    pub(in crate::store) fn open(
        path: &Path,
        turn: &Arc<Mutex<()>>,
        available: Arc<AtomicBool>,
    ) -> Result<Self, StoreError> {
        let connection = ThreadConnection::open(path, available)?;
        let (files, room) = connection.files_and_room();
        let checkpointer = Checkpointer::start(path, Arc::clone(turn), files, room)?;
        Ok(Self { connection, checkpointer })
    }

    /// Stops the thread that copies the write-ahead log, and closes the lane's connection. The server must have closed all
    /// its other connections to the file before.
    pub(in crate::store) fn close(&self) {
        self.checkpointer.stop();
        self.connection.close();
    }
}

impl PoolTurn {
    /// Prepares a write: checks that SQLite's files are in place, and makes room if the file system had none. Fails if
    /// the files were taken away.
    pub(in crate::store) fn begin(turn: Turn, lane: Option<&Lane>) -> Result<Self, StoreError> {
        let connection = lane.map(|lane| lane.connection.clone());
        connection.as_ref().map_or(Ok(()), ThreadConnection::make_ready)?;
        Ok(Self { _turn: turn, connection })
    }

    /// Checks after a COMMIT that it went into the database's own files.
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        self.connection.as_ref().map_or(Ok(()), ThreadConnection::check_files)
    }
}
