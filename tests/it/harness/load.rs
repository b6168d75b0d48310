//! Clients that send calls until they are stopped. The acknowledged calls are counted.

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

/// Number of concurrent clients.
const WORKERS: usize = 8;

/// Minimum time between the starts of two calls of a client.
const PAUSE: Duration = Duration::from_millis(1);

/// Clients that send a Record of one token per call, for an existing tenant, until `end` is called.
pub struct Load {
    workers: Vec<JoinHandle<()>>,
    ending: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Instant>>>,
}

impl Load {
    /// Starts the clients, each in a task.
    pub fn begin(clients: &Clients, tenant: &str) -> Self {
        let (ending, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Instant>>>::default());
        let work = |_| {
            let (clients, tenant) = (clients.clone(), tenant.to_owned());
            let (ending, acknowledged) = (Arc::clone(&ending), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                // Without the pause, a client whose calls are refused at once would loop without waiting, and would
                // take the server's processor time.
                let mut ticks = interval(PAUSE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !ending.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let begun = Instant::now();
                    if clients.record(&tenant).tokens(1).await.is_ok() {
                        acknowledged.lock().expect("the lock is not poisoned").push(begun);
                    }
                }
            })
        };
        let workers = (0..WORKERS).map(work).collect();
        Self { workers, ending, acknowledged }
    }

    /// Counts the acknowledged calls that began after this instant.
    pub fn acknowledged_since(&self, begun: Instant) -> usize {
        let acknowledged = self.acknowledged.lock().expect("the lock is not poisoned");
        acknowledged.iter().filter(|&&instant| instant > begun).count()
    }

    /// Stops the clients. Returns the total number of acknowledged calls.
    pub async fn end(self) -> usize {
        self.ending.store(true, Ordering::Relaxed);
        for worker in join_all(self.workers).await {
            worker.expect("it does not panic");
        }
        let acknowledged = self.acknowledged.lock().expect("the lock is not poisoned");
        acknowledged.len()
    }
}
