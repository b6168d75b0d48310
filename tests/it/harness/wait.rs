//! Waits for a condition, for a bounded time.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Maximum time that a test waits for a condition.
pub const PATIENCE: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(10);

/// Calls `ask` until it returns an answer. Fails the test if no answer comes in time.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout_at(end, ask()).await {
            Ok(Some(answer)) => return answer,
            Ok(None) if Instant::now() < end => {}
            Ok(None) => panic!("waited {PATIENCE:?} in vain: {what}"),
            Err(_) => panic!("waited {PATIENCE:?} in vain, the last time without an answer: {what}"),
        }
    }
}
