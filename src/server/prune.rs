//! Pruning in the background: now and then, for as long as the server runs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    store::{Pruned, Retention, Store, StoreError},
};

/// Time from the start to the first pruning, and to the next try while the database is away.
const FIRST_DELAY: Duration = Duration::from_secs(60);

/// Time from the end of one to the next: each looks through all request ids.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// Removes what is older than its retention.
#[derive(Clone, Debug)]
pub(super) struct Pruner {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) retention: Retention,
}

impl Pruner {
    /// Once.
    pub(super) async fn prune(&self) -> Result<Pruned, StoreError> {
        let pruned = self.store.prune(self.clock.now(), self.retention).await?;
        if pruned.reservations > 0 || pruned.requests > 0 {
            tracing::info!(
                prune.reservations = pruned.reservations,
                prune.request_ids = pruned.requests,
                prune.transactions = pruned.transactions,
                "pruned what is older than its retention"
            );
        }
        Ok(pruned)
    }

    /// Until it is stopped, which it heeds between two steps. Replicas need not know of each other.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut delay = FIRST_DELAY;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            delay = FIRST_DELAY;
            if !self.store.is_available() {
                continue;
            }
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.prune() => outcome,
            };
            match outcome {
                Ok(_) => delay = INTERVAL,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "pruning was broken off; it is tried again in a minute"
                ),
            }
        }
    }
}
