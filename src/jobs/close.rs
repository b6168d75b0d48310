//! close-windows: tells that windows are over.

use super::{
    course::Course,
    table::{JobError, Tools},
};
use crate::{domain::window::Millis, engine::close_windows};

/// Counters of one step.
const STEP_COUNTERS: usize = 10_000;

/// Steps of one run; the next one goes on.
const STEPS_MAX: u32 = 10;

/// A window is over at its end, whether this runs or not. Each is told of once, whoever does it.
pub(super) async fn run(tools: &Tools, now: Option<Millis>, course: &Course) -> Result<(), JobError> {
    let mut counters = 0;
    for _ in 0..STEPS_MAX {
        let closed = close_windows(&tools.store, &tools.policies, now, STEP_COUNTERS).await?;
        counters += closed.counters;
        course.count("counters", counters);
        // Each step passes by those that wait.
        course.count("waiting", closed.waiting);
        if !closed.more || !course.goes_on() {
            break;
        }
    }
    Ok(())
}
