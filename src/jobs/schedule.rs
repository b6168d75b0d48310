//! Ticks: the only file that knows the scheduler.
//!
//! It sleeps half a second at a time, forgets the ticks of a downtime, lets runs overlap and does not wait for them, and
//! its tasks are never dropped. So a tick only wakes a job, through a weak reference.

use std::sync::Weak;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use uuid::Uuid;

use super::{clockwork::Clockwork, table::JOBS};
use crate::domain::window::Millis;

/// The ticks cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the schedule of job {name} cannot be started")]
pub struct ScheduleError {
    name: &'static str,
    #[source]
    source: JobSchedulerError,
}

/// Ticks, until they are stopped.
pub(super) struct Schedule {
    scheduler: JobScheduler,
    /// In the order of [`JOBS`].
    ids: Vec<Uuid>,
}

impl Schedule {
    /// Starts them, in UTC.
    pub(super) async fn start(clockwork: &Weak<Clockwork>) -> Result<Self, ScheduleError> {
        let failed = |name| move |source| ScheduleError { name, source };
        let scheduler = JobScheduler::new().await.map_err(failed("all"))?;
        let mut ids = Vec::with_capacity(JOBS.len());
        for job in &JOBS {
            let (name, clockwork) = (job.name, clockwork.clone());
            let tick = Job::new(job.schedule, move |_, _| {
                if let Some(clockwork) = clockwork.upgrade() {
                    clockwork.wake(name);
                }
            });
            let tick = tick.map_err(failed(name))?;
            ids.push(scheduler.add(tick).await.map_err(failed(name))?);
        }
        scheduler.start().await.map_err(failed("all"))?;
        Ok(Self { scheduler, ids })
    }

    /// When the job at this place of the table is woken next.
    pub(super) async fn next(&self, place: usize) -> Option<Millis> {
        let tick = self.scheduler.clone().next_tick_for_job(*self.ids.get(place)?).await;
        tick.ok().flatten().map(|tick| tick.timestamp_millis())
    }

    /// Stops them.
    pub(super) async fn stop(&self) {
        if let Err(error) = self.scheduler.clone().shutdown().await {
            tracing::warn!(error = %error, "the schedule of the jobs cannot be stopped");
        }
    }
}

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schedule").field("ids", &self.ids).finish_non_exhaustive()
    }
}
