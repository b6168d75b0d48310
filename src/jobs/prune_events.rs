//! prune-events: removes events and changes in the audit that are older than their retention, and deliveries of such
//! events.

use super::tools::{Course, JobError, Tools};
use crate::{domain::time::Time, store::PrunedDeliveries};

/// Removes old events, then the deliveries whose event was removed, then old changes. If one of these fails, the others
/// are removed all the same.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let go_on = |pruned: PrunedDeliveries| {
        course.count("deliveries", pruned.deliveries);
        course.count("unsent", pruned.unsent);
        course.goes_on()
    };
    course.count("events", 0);
    course.count("changes", 0);
    if !go_on(PrunedDeliveries::default()) {
        return Ok(());
    }
    let events = tokio::select! {
        events = tools.store.prune_log(now, tools.retention) => events,
        () = course.ends() => return Ok(()),
    };
    if let Ok(events) = events {
        course.count("events", events);
    }
    let deliveries = tools.store.prune_deliveries(&go_on).await;
    let removed = |changes: u64| {
        course.count("changes", changes);
        course.goes_on()
    };
    let changes = if course.goes_on() {
        tools.store.prune_changes(now, tools.retention, &removed).await
    } else {
        Ok(())
    };
    events?;
    deliveries?;
    Ok(changes?)
}
