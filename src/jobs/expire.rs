//! expire-holds: ends the holds that are due of tenants for which nothing is decided any more.
//!
//! A due hold counts no longer, whether it was swept or not, so nothing depends on this job but what others learn of the
//! hold: its state, and the event. A tenant whose due holds were all settled is swept, too, so that `next_due` moves on
//! and no later run comes upon it.

use super::{
    course::Course,
    table::{JobError, Tools},
};
use crate::{
    domain::{id::TenantKey, window::Millis},
    engine::Failure,
    store::{DueTenants, StoreError},
};

/// Tenants that are swept at once; together they are a batch or less.
const TENANTS_MAX: usize = 100;

/// Most rounds of one run: what is left then is left to the next one.
const ROUNDS_MAX: u32 = 500;

/// Has the engine sweep them, which locks each tenant as any operation does. A hold that is settled meanwhile is none
/// any more. A tenant that cannot be swept is left out, so that it holds up no other.
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
    /// The first one.
    failure: Option<Failure>,
}

impl Sweep<'_> {
    fn tell(&self) {
        self.course.count("tenants", self.tenants);
        self.course.count("holds", self.holds);
    }

    /// In rounds, as long as they end holds.
    async fn sweep(&mut self, mut left: Vec<(TenantKey, u64)>) -> Result<(), StoreError> {
        self.tenants += left.iter().filter(|(_, count)| *count > 0).count() as u64;
        // A run that has begun makes one round.
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
            // One that was deleted meanwhile keeps its holds for ever.
            if after >= before {
                break;
            }
            left.retain(|(tenant, _)| !failed.contains(tenant));
        }
        Ok(())
    }

    /// Says whose sweep failed.
    async fn round(&mut self, keys: &[TenantKey]) -> Vec<TenantKey> {
        let mut failed = Vec::new();
        for (key, outcome) in keys.iter().zip(self.tools.engine.sweep(keys).await) {
            match outcome {
                // One that is not there any more has nothing to sweep.
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
