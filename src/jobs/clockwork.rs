//! The clockwork starts runs of jobs: at a tick, or when a caller asks for a run. When the server shuts down, the
//! clockwork waits for the runs.

use std::sync::Arc;

use super::{
    runs::{Claim, NotRun, Run, Runner},
    schedule::{Schedule, ScheduleError},
    table::{JOBS, Job},
    tools::Tools,
};
use crate::{clock::Clock, domain::time::Time, events::webhook::Deliverer};

/// A job and its runs in this process.
#[derive(Clone, Debug)]
pub struct JobState {
    /// The job's row in the table.
    pub job: &'static Job,
    /// Whether the job is running now.
    pub running: bool,
    /// The instant of the next tick of the job. `None` without a schedule.
    pub next_at: Option<Time>,
    /// The latest run that has ended. `None` if no run has ended yet.
    pub last: Option<Run>,
}

/// Runs the jobs of the table, in one process.
#[derive(Debug)]
pub struct Clockwork {
    runner: Arc<Runner>,
    /// The ticks. `None`: jobs run only when a caller asks for a run.
    schedule: Option<Schedule>,
}

impl Clockwork {
    /// Starts the clockwork. If a test sets the clock, there are no ticks, because a schedule follows the real time.
    ///
    /// # Errors
    ///
    /// Fails when the ticks cannot be started.
    pub async fn start(tools: Tools, clock: Clock) -> Result<Arc<Self>, ScheduleError> {
        let ticks = !matches!(clock, Clock::Manual(_));
        let runner = Arc::new(Runner::new(tools, clock));
        let schedule = if ticks { Some(Schedule::start(&Arc::downgrade(&runner)).await?) } else { None };
        Ok(Arc::new(Self { runner, schedule }))
    }

    /// Lists the state of all jobs, in the order of the table.
    pub async fn list(&self) -> Vec<JobState> {
        let mut states = Vec::with_capacity(JOBS.len());
        for (place, job) in JOBS.iter().enumerate() {
            let next_at = match &self.schedule {
                Some(schedule) => schedule.next(place).await,
                None => None,
            };
            let (running, last) = self.runner.state(place);
            states.push(JobState { job, running, next_at, last });
        }
        states
    }

    /// Claims a run of a job, which the caller then begins.
    ///
    /// # Errors
    ///
    /// The reason why the job cannot run.
    pub fn claim(&self, name: &str) -> Result<Claim, NotRun> {
        self.runner.claim(name)
    }

    /// Returns the deliverer, which sends events to webhooks.
    pub fn deliverer(&self) -> &Deliverer {
        &self.runner.tools().deliverer
    }

    /// Stops the clockwork. No new run begins, and runs under way take no further step. Waits for these runs and for
    /// attempts at webhooks. At `until`, the runs and attempts that are still under way are aborted.
    pub async fn end(&self, until: tokio::time::Instant) {
        self.runner.stop();
        let deliverer = self.deliverer();
        deliverer.stop();
        if let Some(schedule) = &self.schedule {
            schedule.stop().await;
        }
        tokio::join!(self.runner.end(until), deliverer.end(until));
        // A run that was listing webhooks may have started a task in the meantime.
        deliverer.end(until).await;
    }
}
