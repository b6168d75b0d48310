//! Ticks: the only file that knows the scheduler.
//!
//! It sleeps half a second at a time, forgets the ticks of a downtime, lets runs overlap and does not wait for them, and
//! its tasks are never dropped. So a tick only wakes a job, through a weak reference. It also waits for the next tick by
//! the time of day that it knew before: a machine whose clock is set back by an hour has no tick for an hour. So a task
//! compares the time of day with the time that passed, and has all jobs scheduled anew.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{clockwork::Clockwork, table::JOBS};
use crate::{clock::system_now, domain::window::Millis};

/// Pause between two looks at the time of day.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The time of day may fall behind by so much between two looks.
const TOLERANCE_MILLIS: Millis = 2_000;

/// The ticks cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the schedule of job {name} cannot be started")]
pub struct ScheduleError {
    name: &'static str,
    #[source]
    source: JobSchedulerError,
}

/// Ticks, until they are stopped.
#[derive(Debug)]
pub(super) struct Schedule {
    ticks: Arc<Ticks>,
    watch: AbortOnDropHandle<()>,
}

struct Ticks {
    scheduler: JobScheduler,
    clockwork: Weak<Clockwork>,
    /// In the order of [`JOBS`].
    ids: Mutex<Vec<Uuid>>,
}

impl Schedule {
    /// Starts them, in UTC.
    pub(super) async fn start(clockwork: &Weak<Clockwork>) -> Result<Self, ScheduleError> {
        let failed = |source| ScheduleError { name: "all", source };
        let scheduler = JobScheduler::new().await.map_err(failed)?;
        let ticks = Ticks { scheduler, clockwork: clockwork.clone(), ids: Mutex::default() };
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

    /// When the job at this place of the table is woken next.
    pub(super) async fn next(&self, place: usize) -> Option<Millis> {
        let id = self.ticks.id(place)?;
        let tick = self.ticks.scheduler.clone().next_tick_for_job(id).await;
        tick.ok().flatten().map(|tick| tick.timestamp_millis())
    }

    /// Stops them.
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

    /// Schedules the job at a place of the table, from now on.
    async fn add(&self, place: usize) -> Result<Uuid, ScheduleError> {
        let job = &JOBS[place];
        let failed = |source| ScheduleError { name: job.name, source };
        let clockwork = self.clockwork.clone();
        let tick = Job::new(job.schedule, move |_, _| {
            if let Some(clockwork) = clockwork.upgrade() {
                clockwork.wake(job.name);
            }
        });
        self.scheduler.add(tick.map_err(failed)?).await.map_err(failed)
    }

    /// Schedules all jobs anew, from now on.
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

/// Looks whether the clock was set back, for as long as the schedule lasts.
async fn watch(ticks: Arc<Ticks>) {
    let mut before = (Instant::now(), system_now());
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = (Instant::now(), system_now());
        if was_set_back(before, now) {
            tracing::warn!("the clock of this machine was set back: the jobs are scheduled anew");
            if let Err(error) = ticks.renew().await {
                // The next look finds it still set back.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the jobs cannot be scheduled anew"
                );
                continue;
            }
        }
        before = now;
    }
}

/// Whether the time of day fell behind the time that passed.
fn was_set_back(before: (Instant, Millis), now: (Instant, Millis)) -> bool {
    let passed = now.0.saturating_duration_since(before.0).as_millis();
    let passed = Millis::try_from(passed).unwrap_or(Millis::MAX);
    now.1.saturating_sub(before.1) < passed.saturating_sub(TOLERANCE_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_falls_behind_was_set_back() {
        let start = Instant::now();
        let later = start + LOOK_INTERVAL;
        for (passed, set_back) in [
            (30_000, false),
            (29_000, false),
            (28_000, false),
            (27_999, true),
            (-3_600_000, true),
            (86_400_000, false),
        ] {
            assert_eq!(was_set_back((start, 1_000), (later, 1_000 + passed)), set_back, "{passed}");
        }
    }

    #[tokio::test]
    async fn what_is_scheduled_anew_is_scheduled_once() {
        let schedule = Schedule::start(&Weak::new()).await.expect("it starts");
        let ids = || schedule.ticks.ids.lock().expect("nothing failed").clone();
        let old = ids();
        schedule.ticks.renew().await.expect("it is scheduled");
        let new = ids();
        assert!(new.len() == JOBS.len() && new.iter().all(|id| !old.contains(id)), "{old:?} {new:?}");
        for (place, job) in JOBS.iter().enumerate() {
            assert!(schedule.next(place).await.is_some_and(|next| next > 0), "{}", job.name);
        }
        for id in old {
            let tick = schedule.ticks.scheduler.clone().next_tick_for_job(id).await;
            assert!(!matches!(tick, Ok(Some(_))), "{tick:?}");
        }
        schedule.stop().await;
    }
}
