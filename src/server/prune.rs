//! What is done in the background: now and then, for as long as the server runs.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    engine::{Closed, close_windows},
    policy::PolicyCache,
    store::{Pruned, Retention, Store, StoreError},
};

/// Time from the start to the first round, and from the end of one to the next.
const ROUND_INTERVAL: Duration = Duration::from_secs(60);

/// Prunes in one of so many rounds: each pruning looks through all request ids.
const PRUNING_ROUNDS: u32 = 60;

/// Most windows that are closed in one round.
const CLOSED_MAX: usize = 10_000;

/// Removes what is older than its retention, and tells of windows that are over.
#[derive(Clone, Debug)]
pub(super) struct Pruner {
    pub(super) store: Store,
    pub(super) policies: Arc<PolicyCache>,
    pub(super) clock: Clock,
    pub(super) retention: Retention,
}

impl Pruner {
    /// Prunes, once.
    pub(super) async fn prune(&self) -> Result<Pruned, StoreError> {
        let pruned = self.store.prune(self.clock.now(), self.retention).await?;
        if pruned.reservations > 0 || pruned.requests > 0 || pruned.events > 0 {
            tracing::info!(
                prune.reservations = pruned.reservations,
                prune.request_ids = pruned.requests,
                prune.events = pruned.events,
                prune.transactions = pruned.transactions,
                "pruned what is older than its retention"
            );
        }
        Ok(pruned)
    }

    /// Tells of windows that are over, once.
    pub(super) async fn close_windows(&self) -> Result<Closed, StoreError> {
        let closed = close_windows(&self.store, &self.policies, self.clock.now(), CLOSED_MAX).await?;
        if closed.counters > 0 {
            tracing::info!(
                close.counters = closed.counters,
                close.waiting = closed.waiting,
                "told of windows that are over"
            );
        }
        Ok(closed)
    }

    /// Until it is stopped, which it heeds between two steps. Replicas need not know of each other.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut rounds_to_prune = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ROUND_INTERVAL) => {}
            }
            if !self.store.is_available() {
                continue;
            }
            let round = async {
                self.close_windows().await?;
                if rounds_to_prune == 0 {
                    self.prune().await?;
                    return Ok(PRUNING_ROUNDS - 1);
                }
                Ok::<u32, StoreError>(rounds_to_prune - 1)
            };
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = round => outcome,
            };
            match outcome {
                Ok(rounds) => rounds_to_prune = rounds,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "pruning was broken off; it is tried again in a minute"
                ),
            }
        }
    }
}
