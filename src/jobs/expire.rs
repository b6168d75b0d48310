//! expire-holds: ends due holds of tenants for which nothing is decided.
//!
//! A due hold does not count, whether or not it was swept. So no decision depends on this job, but the hold's state in
//! its row and the event do. A tenant whose due holds were all settled is swept as well: the sweep corrects
//! `next_due`, so that no later run lists the tenant again.

use super::tools::{Course, JobError, Tools};
use crate::{
    domain::{id::TenantKey, window::Millis},
    engine::Failure,
    store::{DueTenants, StoreError},
};

/// Number of tenants that one call sweeps: at most one batch.
const TENANTS_MAX: usize = 100;

/// Maximum number of rounds of one run. The next run does the rest.
const ROUNDS_MAX: u32 = 500;

/// Sweeps tenants through the engine, which locks each tenant as for any operation. A hold that is settled meanwhile is
/// skipped. A tenant whose sweep fails is left out, so that it does not delay the others.
pub(super) async fn run(tools: &Tools, now: Option<Millis>, course: &Course) -> Result<(), JobError> {
    let mut sweep = Sweep { tools, now, course, tenants: 0, holds: 0, rounds: 0, failure: None };
    let mut after = (Millis::MIN, TenantKey(i64::MIN));
    sweep.tell();
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
    now: Option<Millis>,
    course: &'a Course,
    tenants: u64,
    holds: u64,
    rounds: u32,
    /// The first failure of a tenant.
    failure: Option<Failure>,
}

impl Sweep<'_> {
    fn tell(&self) {
        self.course.count("tenants", self.tenants);
        self.course.count("holds", self.holds);
    }

    /// Sweeps tenants, each with its number of due holds, in rounds, as long as a round ends holds.
    async fn sweep(&mut self, mut left: Vec<(TenantKey, u64)>) -> Result<(), StoreError> {
        self.tenants += left.iter().filter(|(_, count)| *count > 0).count() as u64;
        // A run that has begun makes at least one round.
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
            self.tell();
            // A tenant that was deleted meanwhile keeps its holds forever.
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
