//! The audit: a row for each change that a caller makes, in the change's own transaction (R8).
//!
//! `write.rs` writes the rows of administration, `correction.rs` those of batches. `list.rs` reads them, and `prune.rs`
//! removes old ones.

mod correction;
#[cfg(test)]
mod index_tests;
mod list;
mod prune;
mod write;

pub(super) use self::{correction::push_corrections, write::Deed};
pub use self::{
    list::{ChangePage, ChangeQuery},
    write::{By, Scribe, Thing},
};
