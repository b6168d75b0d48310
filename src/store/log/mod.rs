//! The log of events. Transactions write events without places (`write.rs`), and numbering gives them places
//! (`number.rs`, which says why, and is the file to read first). `head.rs` knows how far the log goes, `list.rs` reads
//! it, and `prune.rs` removes its front.

mod body;
mod head;
mod list;
mod number;
mod prune;
pub(super) mod write;

pub use head::LogHead;
pub use list::Scanned;
pub use number::Numbered;
