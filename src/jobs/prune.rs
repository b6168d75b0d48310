//! prune: removes request ids, settled reservations and counters that are older than their retention.

use super::tools::{Course, JobError, Tools};
use crate::{clock::mint_version, domain::time::Time, store::Pruned};

/// Prunes the three tables, and corrects the numbers of tenants' counters. Replicas may do this at the same time: only one replica removes and counts a row.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let go_on = |pruned: Pruned| {
        course.count("reservations", pruned.reservations);
        course.count("request_ids", pruned.requests);
        course.count("refused", pruned.refused);
        course.count("counters", pruned.counters);
        course.count("adjustments", pruned.adjustments);
        course.count("recounted", pruned.recounted);
        course.count("transactions", pruned.transactions);
        course.goes_on()
    };
    if go_on(Pruned::default()) {
        tools.store.prune(now, tools.retention, mint_version, &go_on).await?;
    }
    Ok(())
}
