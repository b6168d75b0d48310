//! prune-events: removes events that are older than their retention, and deliveries of such events.

use super::tools::{Course, JobError, Tools};
use crate::{domain::time::Time, store::PrunedDeliveries};

/// Removes old events, and then the deliveries whose event was removed. Removes the deliveries even if removing events
/// failed.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let go_on = |pruned: PrunedDeliveries| {
        course.count("deliveries", pruned.deliveries);
        course.count("unsent", pruned.unsent);
        course.goes_on()
    };
    course.count("events", 0);
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
    events?;
    Ok(deliveries?)
}
