//! deliver-webhooks: has what is to be sent to webhooks sent, in the background.

use super::{
    clockwork::{Figures, figure},
    table::{JobError, Tools},
};
use crate::domain::window::Millis;

/// Does not wait for the endpoints, so that a slow one holds up nothing.
pub(super) async fn run(tools: &Tools, now: Option<Millis>) -> Result<Figures, JobError> {
    let begun = tools.deliverer.begin(now).await?;
    Ok(vec![figure("deliveries", begun.deliveries), figure("webhooks", begun.webhooks)])
}
