//! number-events: gives events their places in the log, if no server's feed has done so.

use super::tools::{Course, JobError, Tools};
use crate::domain::time::Time;

/// Maximum number of events that one step numbers.
const STEP_EVENTS: usize = 1_000;

/// Maximum number of steps of one run.
const STEPS_MAX: u32 = 1_000;

/// Numbers events in steps. Only one process numbers at a time. Other processes wait for that process, and then find
/// less work.
pub(super) async fn run(tools: &Tools, _now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let mut events = 0;
    for _ in 0..STEPS_MAX {
        let numbered = tools.store.number_events(STEP_EVENTS).await?;
        events += numbered.events;
        course.count("events", events);
        if numbered.events < STEP_EVENTS || !course.goes_on() {
            break;
        }
    }
    Ok(())
}
