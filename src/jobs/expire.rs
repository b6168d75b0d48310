//! expire-holds: ends the holds that are due of tenants for which nothing is decided any more.
//!
//! A due hold counts no longer, whether it was swept or not, so nothing depends on this job but what is told of the hold:
//! its state, and the event.

use super::{
    clockwork::{Figures, figure},
    table::{JobError, Tools},
};
use crate::{
    domain::{id::TenantKey, window::Millis},
    engine::Failure,
    store::DueTenants,
};

/// Tenants that are swept at once; together they are a batch or less.
const TENANTS_MAX: usize = 100;

/// Most rounds of one run: what is left then is left to the next one.
const ROUNDS_MAX: u32 = 500;

/// Has the engine sweep them, which locks each tenant as any operation does. A hold that is settled meanwhile is none
/// any more.
pub(super) async fn run(tools: &Tools, now: Option<Millis>) -> Result<Figures, JobError> {
    let (mut tenants, mut holds, mut rounds) = (0_u64, 0_u64, 0_u32);
    let mut after = TenantKey(i64::MIN);
    loop {
        let DueTenants { due, last } = tools.store.list_due_tenants(now, after).await?;
        for chunk in due.chunks(TENANTS_MAX) {
            let mut left: Vec<(TenantKey, u64)> = chunk.to_vec();
            tenants += left.len() as u64;
            while !left.is_empty() && rounds < ROUNDS_MAX {
                rounds += 1;
                let keys: Vec<TenantKey> = left.iter().map(|(tenant, _)| *tenant).collect();
                sweep(tools, &keys).await?;
                let before: u64 = left.iter().map(|(_, count)| count).sum();
                left = tools.store.count_due_holds(now, &keys).await?;
                let after: u64 = left.iter().map(|(_, count)| count).sum();
                holds += before.saturating_sub(after);
            }
        }
        match last {
            Some(last) if rounds < ROUNDS_MAX => after = last,
            Some(_) | None => return Ok(vec![figure("tenants", tenants), figure("holds", holds)]),
        }
    }
}

async fn sweep(tools: &Tools, tenants: &[TenantKey]) -> Result<(), JobError> {
    for outcome in tools.engine.sweep(tenants).await {
        match outcome {
            // One that is not there any more has nothing to sweep.
            Ok(_) | Err(Failure::Refused { .. }) => {}
            Err(failure) => return Err(JobError::Engine(failure)),
        }
    }
    Ok(())
}
