//! expire-holds: ends holds whose deadline has passed, for tenants that have no operations at the moment.
//!
//! A due hold does not count, even before it is swept. So no decision depends on this job. But the state in the hold's
//! row and the event RESERVATION_EXPIRED depend on it. A tenant whose due holds were all settled is swept, too: the
//! sweep corrects `next_due`, so that later runs do not list the tenant again.

use super::tools::{Course, JobError, Tools};
use crate::{
    domain::{id::TenantKey, time::Time},
    engine::Failure,
    store::{DueTenants, StoreError},
};

/// Maximum number of tenants that one call of the engine sweeps. They fit into one batch.
const TENANTS_MAX: usize = 100;

/// Maximum number of rounds of one run. The next run does the rest.
const ROUNDS_MAX: u32 = 500;

/// Sweeps tenants by the engine, which locks each tenant as for any other operation. Holds that are settled in the
/// meantime are skipped. If the sweep of a tenant fails, later rounds skip the tenant, so that it does not delay other
/// tenants.
pub(super) async fn run(tools: &Tools, now: Option<Time>, course: &Course) -> Result<(), JobError> {
    let mut sweep = Sweep { tools, now, course, tenants: 0, holds: 0, rounds: 0, failure: None };
    let mut after = (Time::MIN, TenantKey(i64::MIN));
    sweep.record_figures();
    loop {
        let DueTenants { due, last } = tools.store.list_due_tenants(now, after).await?;
        for chunk in due.chunks(TENANTS_MAX) {
            sweep.sweep(chunk.to_vec()).await?;
        }
        match last {
            Some(last) if sweep.rounds < ROUNDS_MAX && course.goes_on() => after = last,
            Some(_) | None => break,
        }
    }
    match sweep.failure {
        None => Ok(()),
        Some(failure) => Err(JobError::Engine(failure)),
    }
}

struct Sweep<'a> {
    tools: &'a Tools,
    now: Option<Time>,
    course: &'a Course,
    tenants: u64,
    holds: u64,
    rounds: u32,
    /// The first failure of a tenant's sweep.
    failure: Option<Failure>,
}

impl Sweep<'_> {
    fn record_figures(&self) {
        self.course.count("tenants", self.tenants);
        self.course.count("holds", self.holds);
    }

    /// Sweeps tenants in rounds, until a round expires no holds. `left` has the number of due holds of each tenant.
    async fn sweep(&mut self, mut left: Vec<(TenantKey, u64)>) -> Result<(), StoreError> {
        self.tenants += left.iter().filter(|(_, count)| *count > 0).count() as u64;
        // Each run makes at least one round.
        let course = self.course;
        let goes_on = |rounds: u32| rounds == 0 || (rounds < ROUNDS_MAX && course.goes_on());
        while !left.is_empty() && goes_on(self.rounds) {
            self.rounds += 1;
            let keys: Vec<TenantKey> = left.iter().map(|(tenant, _)| *tenant).collect();
            let before: u64 = left.iter().map(|(_, count)| count).sum();
            let failed = self.round(&keys).await;
            left = self.tools.store.count_due_holds(self.now, &keys).await?;
            let after: u64 = left.iter().map(|(_, count)| count).sum();
            self.holds += before.saturating_sub(after);
            self.record_figures();
            // A tenant that was deleted in the meantime keeps its holds for ever.
            if after >= before {
                break;
            }
            left.retain(|(tenant, _)| !failed.contains(tenant));
        }
        Ok(())
    }

    /// Sweeps each tenant once, and returns the tenants whose sweep failed.
    async fn round(&mut self, keys: &[TenantKey]) -> Vec<TenantKey> {
        let mut failed = Vec::new();
        for (key, outcome) in keys.iter().zip(self.tools.engine.sweep(keys).await) {
            match outcome {
                // A tenant that was deleted has nothing to sweep.
                Ok(_) | Err(Failure::Refused { .. }) => {}
                Err(failure) => {
                    failed.push(*key);
                    self.failure.get_or_insert(failure);
                }
            }
        }
        failed
    }
}
