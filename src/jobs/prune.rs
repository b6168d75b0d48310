//! prune: removes request ids and settled reservations that are older than their retention.

use super::tools::{Course, JobError, Tools};
use crate::{domain::time::Time, store::Pruned};

/// Prunes both tables. Replicas may do this at the same time: only one replica removes and counts a row.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let go_on = |pruned: Pruned| {
        course.count("reservations", pruned.reservations);
        course.count("request_ids", pruned.requests);
        course.count("refused", pruned.refused);
        course.count("transactions", pruned.transactions);
        course.goes_on()
    };
    if go_on(Pruned::default()) {
        tools.store.prune(now, tools.retention, &go_on).await?;
    }
    Ok(())
}
