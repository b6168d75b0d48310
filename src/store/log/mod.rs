//! The log of events. Transactions write events without places (`write.rs`), and numbering gives them places
//! (`number.rs`, which says why, and is the file to read first). `head.rs` reads and writes the first and last places
//! of the log, `list.rs` reads events, and `prune.rs` removes the oldest events.

mod body;
mod head;
mod list;
mod number;
mod prune;
pub(super) mod write;

pub use head::LogHead;
pub use list::Scanned;
pub use number::Numbered;
