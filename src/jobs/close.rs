//! close-windows: emits WINDOW_CLOSED for windows that are over.

use std::time::Duration;

use tokio::time::Instant;

use super::tools::{Course, JobError, Tools};
use crate::{domain::time::Time, engine::close_windows};

/// Maximum number of counters that one step closes.
const STEP_COUNTERS: usize = 2_000;

/// Time after which a run takes no further step. The next run does the rest.
const RUN_MAX: Duration = Duration::from_secs(35);

/// Emits WINDOW_CLOSED for windows that are over. A window is over as soon as its end has come, even if this job does
/// not run. Each window is closed once, by the first process that closes it.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let begun = Instant::now();
    let is_busy = || tools.engine.is_busy();
    let mut counters = 0;
    loop {
        let closed = close_windows(&tools.store, &tools.policies, now, STEP_COUNTERS, is_busy).await?;
        counters += closed.counters;
        course.count("counters", counters);
        // Each step finds the same waiting counters again, so the figures of the steps are not added up.
        course.count("waiting", closed.waiting);
        if !closed.more || begun.elapsed() >= RUN_MAX || !course.goes_on() {
            break;
        }
    }
    Ok(())
}
