//! number-events: gives events their places in the log.

use super::{
    course::Course,
    table::{JobError, Tools},
};
use crate::domain::window::Millis;

/// Events of one step.
const STEP_EVENTS: usize = 1_000;

/// Most steps of one run.
const STEPS_MAX: u32 = 1_000;

/// One process numbers at a time: the others wait for it, and find less to do.
pub(super) async fn run(tools: &Tools, _now: Option<Millis>, course: &Course) -> Result<(), JobError> {
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
