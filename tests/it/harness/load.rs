//! Clients that call without a pause, and remember what was acknowledged.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use super::clients::Clients;

/// Clients at once.
const WORKERS: usize = 8;

/// Between two calls of a client.
const PAUSE: Duration = Duration::from_millis(1);

/// Records of one token each, for a tenant that is there, until it is ended.
pub struct Load {
    workers: Vec<JoinHandle<()>>,
    ending: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Instant>>>,
}

impl Load {
    /// Begins.
    pub fn begin(clients: &Clients, tenant: &str) -> Self {
        let (ending, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Instant>>>::default());
        let work = |_| {
            let (clients, tenant) = (clients.clone(), tenant.to_owned());
            let (ending, acknowledged) = (Arc::clone(&ending), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                // A refusal at the door comes at once, and eight busy loops would starve the server.
                let mut ticks = interval(PAUSE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !ending.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let begun = Instant::now();
                    if clients.record(&tenant).tokens(1).await.is_ok() {
                        acknowledged.lock().expect("nobody panics with it").push(begun);
                    }
                }
            })
        };
        let workers = (0..WORKERS).map(work).collect();
        Self { workers, ending, acknowledged }
    }

    /// How many calls were acknowledged that had begun after this instant.
    pub fn acknowledged_since(&self, begun: Instant) -> usize {
        let acknowledged = self.acknowledged.lock().expect("nobody panics with it");
        acknowledged.iter().filter(|&&instant| instant > begun).count()
    }

    /// Ends, and says how many calls were acknowledged in all.
    pub async fn end(self) -> usize {
        self.ending.store(true, Ordering::Relaxed);
        for worker in join_all(self.workers).await {
            worker.expect("it does not panic");
        }
        let acknowledged = self.acknowledged.lock().expect("nobody panics with it");
        acknowledged.len()
    }
}
