//! The pools of connections to a SQLite file: one connection that writes, and a few that only read.

use std::path::Path;

use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseConnection, Statement};

use super::settings::{SQLITE_AUTOCHECKPOINT, SQLITE_BUSY_TIMEOUT, SQLITE_SYNCHRONOUS};
use crate::store::pool::pool_options;

/// Returns whether a file can be read. SQLite makes a write-ahead log next to a file even if it only reads, which
/// fails in a folder that this process may not write to.
pub(in crate::store) async fn is_readable(reader: &DatabaseConnection) -> bool {
    let question =
        Statement::from_string(reader.get_database_backend(), "SELECT COUNT(*) FROM sqlite_schema");
    reader.query_one_raw(question).await.is_ok()
}

/// Returns whether the file contains the whole database, so that its write-ahead log is missing or empty.
pub(in crate::store) fn has_no_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(true, |log| log.len() == 0)
}

/// The use that a connection makes of a SQLite file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Access {
    /// Reads and writes, and creates a file that is missing.
    Write,
    /// Reads only, while another process may write.
    Read,
    /// Reads a file in a folder to which this process cannot write the log and its index. No other process may write
    /// the file meanwhile.
    ReadAsItIs,
}

/// Makes the settings of a pool whose connections have this access.
pub(in crate::store) fn sqlite_options(path: &Path, connections_max: u32, access: Access) -> ConnectOptions {
    // The path is set below as it is, because the driver would decode a path in a URL.
    let mut options = pool_options("sqlite:tope", connections_max);
    options.min_connections(1).idle_timeout(None);
    let path = path.to_owned();
    options.map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite = sqlite.filename(&path).busy_timeout(SQLITE_BUSY_TIMEOUT);
        match access {
            Access::Read => sqlite.read_only(true),
            Access::ReadAsItIs => sqlite.read_only(true).immutable(true),
            Access::Write => sqlite
                .create_if_missing(true)
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", SQLITE_SYNCHRONOUS)
                .pragma("wal_autocheckpoint", SQLITE_AUTOCHECKPOINT),
        }
    });
    options
}
