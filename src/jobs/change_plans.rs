//! change-plans: writes scheduled changes of plan that are due, for tenants that have no operations at the moment.
//!
//! A change counts from its instant on, even before it is written. So no decision depends on this job. But the event
//! POLICY_CHANGED depends on it.

use super::tools::{Course, JobError, Tools};
use crate::{
    domain::{id::TenantKey, time::Time},
    engine::Failure,
};

/// Maximum number of tenants that one call of the engine changes. They fit into one batch.
const TENANTS_MAX: usize = 100;

/// Writes the changes by the engine, which locks each tenant as for any other operation, and writes what is due. If the
/// change of a tenant fails, the next run tries again.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let mut after = (Time::MIN, TenantKey(i64::MIN));
    let (mut tenants, mut failure) = (0_u64, None);
    course.count("tenants", tenants);
    loop {
        let (due, last) = tools.store.list_due_plans(now, after).await?;
        for chunk in due.chunks(TENANTS_MAX) {
            for outcome in tools.engine.sweep(chunk).await {
                match outcome {
                    Ok(_) => tenants += 1,
                    // A tenant that was deleted has no plan to change.
                    Err(Failure::Refused { .. }) => {}
                    Err(failed) => drop(failure.get_or_insert(failed)),
                }
            }
            course.count("tenants", tenants);
        }
        match last {
            Some(last) if course.goes_on() => after = last,
            Some(_) | None => break,
        }
    }
    match failure {
        None => Ok(()),
        Some(failure) => Err(JobError::Engine(failure)),
    }
}
