//! prune: removes what is older than its retention.

use super::{
    clockwork::{Figures, figure},
    table::{JobError, Tools},
};
use crate::domain::window::Millis;

/// Walks all that is kept for a while. Replicas may do it at once: each row is removed, and counted, by one of them.
pub(super) async fn run(tools: &Tools, now: Option<Millis>) -> Result<Figures, JobError> {
    let pruned = tools.store.prune(now, tools.retention).await?;
    let deliveries = tools.store.prune_deliveries().await?;
    Ok(vec![
        figure("reservations", pruned.reservations),
        figure("request_ids", pruned.requests),
        figure("events", pruned.events),
        figure("deliveries", deliveries),
        figure("refused", pruned.refused),
        figure("transactions", pruned.transactions),
    ])
}
