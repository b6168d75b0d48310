//! The parts of the store that only a SQLite file needs. One process writes the file, and its writers take turns to
//! write: see `turn.rs`. Batches run in the lane's own thread: `connection.rs` is the file to read first. All other
//! transactions use pools. `checkpoint.rs` copies the write-ahead log, `room.rs` handles a full file system, and
//! `files.rs` notices when somebody takes the files away. `lane.rs` puts these parts together.

mod backup;
pub(super) mod check;
mod checkpoint;
pub(super) mod connection;
mod files;
pub(super) mod lane;
pub(super) mod pool;
mod room;
mod settings;
pub(super) mod turn;
