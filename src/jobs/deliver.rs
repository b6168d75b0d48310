//! deliver-webhooks: starts tasks that send the deliveries that are due, in the background.

use super::tools::{Course, JobError, Tools};
use crate::domain::time::Time;

/// Starts the tasks, but does not wait for the endpoints. So a slow endpoint does not delay the job.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let begun = tools.deliverer.begin(now).await?;
    course.count("deliveries", begun.deliveries);
    course.count("webhooks", begun.webhooks);
    Ok(())
}
