//! Settings of the connections to a SQLite file.

use std::time::Duration;

/// Maximum time that SQLite waits for a lock of another process, such as a backup.
pub(super) const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Each commit is synced to the disk before its batch is answered.
pub(super) const SQLITE_SYNCHRONOUS: &str = "FULL";

/// Length of the write-ahead log, in pages of 4 KiB, from which on a commit copies it into the database. The log never
/// gets that long while the thread of `checkpoint.rs` runs.
pub(super) const SQLITE_AUTOCHECKPOINT: &str = "65536";

/// Settings of the lane's connection. The page cache has 32 MiB.
pub(super) const SQLITE_LANE_PRAGMAS: [(&str, &str); 4] = [
    ("synchronous", SQLITE_SYNCHRONOUS),
    ("temp_store", "MEMORY"),
    ("cache_size", "-32768"),
    ("wal_autocheckpoint", SQLITE_AUTOCHECKPOINT),
];
