//! Ticks: the only file that uses the scheduler, `tokio_cron_scheduler`.
//!
//! The scheduler checks the clock every half second. It does not repeat the ticks that were missed while the server was
//! down. It starts a run although the previous run has not ended, does not wait for runs, and never drops its tasks. So
//! a tick only wakes a job, through a weak reference.
//!
//! The scheduler also computes each next tick from the time of day of the previous tick. If the clock is set back by
//! an hour, or is a day ahead for a moment, the next tick comes only when this time of day comes again. So every second
//! a task checks whether the clock has advanced as much as the time that has passed. If not, or if the next tick is too
//! far away, the task schedules all jobs again.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{runs::Runner, table::JOBS};
use crate::{
    clock::system_now,
    domain::time::{Span, Time},
};

/// Pause between two checks of the clock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum step of the clock, between two checks, after which all jobs are scheduled again. A smaller step delays a job
/// only by the length of the step.
const STEP_MIN: Span = Span::seconds(1);

/// Maximum time to the next tick of a job that runs each second. The scheduler is up to half a second late.
const NEXT_TICK_MAX: Span = Span::seconds(3);

/// The job whose next tick is checked. A step of the clock that delays another job delays this job, too.
const EACH_SECOND: &str = "deliver-webhooks";

/// The schedule of a job cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the schedule of job {name} cannot be started")]
pub struct ScheduleError {
    name: &'static str,
    #[source]
    source: JobSchedulerError,
}

/// The ticks of all jobs, until they are stopped.
#[derive(Debug)]
pub(super) struct Schedule {
    ticks: Arc<Ticks>,
    watch: AbortOnDropHandle<()>,
}

struct Ticks {
    scheduler: JobScheduler,
    runner: Weak<Runner>,
    /// The scheduler's ids of the jobs, in the order of [`JOBS`].
    ids: Mutex<Vec<Uuid>>,
}

impl Schedule {
    /// Starts the ticks of all jobs, in UTC.
    pub(super) async fn start(runner: &Weak<Runner>) -> Result<Self, ScheduleError> {
        let failed = |source| ScheduleError { name: "all", source };
        let scheduler = JobScheduler::new().await.map_err(failed)?;
        let ticks = Ticks { scheduler, runner: runner.clone(), ids: Mutex::default() };
        let mut ids = Vec::with_capacity(JOBS.len());
        for place in 0..JOBS.len() {
            ids.push(ticks.add(place).await?);
        }
        *ticks.ids.lock().unwrap_or_else(PoisonError::into_inner) = ids;
        ticks.scheduler.start().await.map_err(failed)?;
        let ticks = Arc::new(ticks);
        let watch = AbortOnDropHandle::new(tokio::spawn(watch(Arc::clone(&ticks))));
        Ok(Self { ticks, watch })
    }

    /// Returns the instant of the next tick of the job at this place of the table.
    pub(super) async fn next(&self, place: usize) -> Option<Time> {
        self.ticks.next(place).await
    }

    /// Stops the ticks of all jobs.
    pub(super) async fn stop(&self) {
        self.watch.abort();
        if let Err(error) = self.ticks.scheduler.clone().shutdown().await {
            tracing::warn!(error = %error, "the schedule of the jobs cannot be stopped");
        }
    }
}

impl Ticks {
    fn id(&self, place: usize) -> Option<Uuid> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(place).copied()
    }

    async fn next(&self, place: usize) -> Option<Time> {
        let id = self.id(place)?;
        let tick = self.scheduler.clone().next_tick_for_job(id).await;
        tick.ok().flatten().map(|tick| Time(tick.timestamp_millis()))
    }

    async fn next_of_each_second(&self) -> Option<Time> {
        self.next(JOBS.iter().position(|job| job.name == EACH_SECOND)?).await
    }

    /// Schedules the job at this place of the table, from now on.
    async fn add(&self, place: usize) -> Result<Uuid, ScheduleError> {
        let job = &JOBS[place];
        let failed = |source| ScheduleError { name: job.name, source };
        let runner = self.runner.clone();
        let tick = Job::new(job.schedule, move |_, _| {
            if let Some(runner) = runner.upgrade() {
                runner.wake(job.name);
            }
        });
        self.scheduler.add(tick.map_err(failed)?).await.map_err(failed)
    }

    /// Schedules all jobs again, from now on.
    async fn renew(&self) -> Result<(), ScheduleError> {
        for (place, job) in JOBS.iter().enumerate() {
            let new = self.add(place).await?;
            let old = {
                let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut ids[place], new)
            };
            let removed = self.scheduler.remove(&old).await;
            removed.map_err(|source| ScheduleError { name: job.name, source })?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Ticks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticks").field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// Checks every second whether the clock was set, as long as the schedule exists.
async fn watch(ticks: Arc<Ticks>) {
    let mut before = (Instant::now(), system_now());
    let mut checks = interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        let now = (Instant::now(), system_now());
        let (step, next) = (step(before, now), ticks.next_of_each_second().await);
        if is_set(step, next.map(|next| next.saturating_since(now.1))) {
            tracing::warn!(
                clock.step_millis = step.0,
                "the clock of this machine was set; rescheduling all jobs"
            );
            if let Err(error) = ticks.renew().await {
                // `before` is not changed, so the next check tries again.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot reschedule the jobs; trying again in a second"
                );
                continue;
            }
        }
        before = now;
    }
}

/// Returns the step of the clock: how much further it advanced than the time that has passed. Negative if the clock was
/// set back.
fn step(before: (Instant, Time), now: (Instant, Time)) -> Span {
    let passed = now.0.saturating_duration_since(before.0).into();
    now.1.saturating_since(before.1.saturating_add(passed))
}

/// Returns whether jobs may wait for a wrong time, because the clock was set since the last check. `next_in` is the
/// time to the next tick of a job that runs each second. It shows whether the clock was set forward and back since the
/// last check.
fn is_set(step: Span, next_in: Option<Span>) -> bool {
    step.abs() >= STEP_MIN || next_in.is_some_and(|next_in| next_in > NEXT_TICK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_clock_is_its_advance_beyond_the_time_that_passed() {
        let start = Instant::now();
        let later = start + CHECK_INTERVAL;
        for (went, by, set) in [
            (1_000, 0, false),
            (1_999, 999, false),
            (2_000, 1_000, true),
            (1, -999, false),
            (0, -1_000, true),
            (-3_600_000, -3_601_000, true),
            (86_401_000, 86_400_000, true),
        ] {
            let found = step((start, Time(1_000)), (later, Time(1_000 + went)));
            assert_eq!((found, is_set(found, Some(Span::seconds(1)))), (Span(by), set), "{went}");
        }
    }

    #[test]
    fn the_next_tick_shows_that_the_clock_was_set_forward_and_back() {
        for (next_in, set) in [
            (None, false),
            (Some(-500), false),
            (Some(3_000), false),
            (Some(3_001), true),
            (Some(86_400_000), true),
        ] {
            assert_eq!(is_set(Span::ZERO, next_in.map(Span)), set, "{next_in:?}");
        }
        let job = JOBS.iter().find(|job| job.name == EACH_SECOND).expect("the job exists");
        assert_eq!(job.schedule, "* * * * * *");
    }

    #[tokio::test]
    async fn jobs_that_are_scheduled_again_are_scheduled_once() {
        let schedule = Schedule::start(&Weak::new()).await.expect("it starts");
        let ids = || schedule.ticks.ids.lock().expect("nothing failed").clone();
        let old = ids();
        schedule.ticks.renew().await.expect("it is scheduled");
        let new = ids();
        assert!(new.len() == JOBS.len() && new.iter().all(|id| !old.contains(id)), "{old:?} {new:?}");
        for (place, job) in JOBS.iter().enumerate() {
            assert!(schedule.next(place).await.is_some_and(|next| next > Time::EPOCH), "{}", job.name);
        }
        for id in old {
            let tick = schedule.ticks.scheduler.clone().next_tick_for_job(id).await;
            assert!(!matches!(tick, Ok(Some(_))), "{tick:?}");
        }
        schedule.stop().await;
    }
}
