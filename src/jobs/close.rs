//! close-windows: emits WINDOW_CLOSED for windows that are over.

use super::tools::{Course, JobError, Tools};
use crate::{domain::time::Time, engine::close_windows};

/// Maximum number of counters that one step closes.
const STEP_COUNTERS: usize = 10_000;

/// Maximum number of steps of one run. The next run does the rest.
const STEPS_MAX: u32 = 10;

/// Emits WINDOW_CLOSED for windows that are over. A window is over as soon as its end has come, even if this job does
/// not run. Each window is closed once, by the first process that closes it.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let mut counters = 0;
    for _ in 0..STEPS_MAX {
        let closed = close_windows(&tools.store, &tools.policies, now, STEP_COUNTERS).await?;
        counters += closed.counters;
        course.count("counters", counters);
        // Each step finds the same waiting counters again, so the figures of the steps are not added up.
        course.count("waiting", closed.waiting);
        if !closed.more || !course.goes_on() {
            break;
        }
    }
    Ok(())
}
