//! close-windows: tells that windows are over.

use super::{
    clockwork::{Figures, figure},
    table::{JobError, Tools},
};
use crate::{domain::window::Millis, engine::close_windows};

/// Counters of one run; the next one goes on.
const COUNTERS_MAX: usize = 100_000;

/// A window is over at its end, whether this runs or not. Each is told of once, whoever does it.
pub(super) async fn run(tools: &Tools, now: Option<Millis>) -> Result<Figures, JobError> {
    let closed = close_windows(&tools.store, &tools.policies, now, COUNTERS_MAX).await?;
    Ok(vec![figure("counters", closed.counters), figure("waiting", closed.waiting)])
}
