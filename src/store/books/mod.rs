//! The books of tenants: counters, holds, reservations, requests and adjustments. A batch locks its tenants
//! (`lock.rs`), finds the rows that it needs (`find.rs`) and writes the changed rows (`write.rs`): read these three
//! files first. A batch that was decided ahead is written by `ahead.rs` alone. These files convert rows with `rows.rs`
//! and `body.rs`. Lists and jobs have `scan.rs`, `due.rs`, `close.rs`, `prune.rs`, `prune_counters.rs` with
//! `old_counters.rs`, and `recount.rs`.

mod ahead;
mod alerts;
mod amendment_body;
pub(super) mod body;
mod close;
mod columns;
mod due;
mod find;
#[cfg(test)]
mod index_tests;
mod lock;
mod old_counters;
mod prune;
mod prune_counters;
mod rare;
mod recount;
pub(super) mod rows;
mod scan;
pub(super) mod tenant;
pub(super) mod terms;
mod write;

pub use ahead::Expected;
pub use close::{ClosePlace, is_made_before};
pub use columns::Owned;
pub use due::{DuePlace, DueTenants};
pub use lock::{Along, Locked};
pub use prune::{GoOn, Pruned, Retention};
pub use rows::StoredCounter;
