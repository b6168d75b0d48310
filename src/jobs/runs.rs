//! Runs of jobs, at most one of each job at a time: how a run begins, what it may do, and how it ends.

use std::{
    any::Any,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    task::JoinHandle,
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    table::{JOBS, Job},
    tools::{Course, Figures, JobError, Tools},
};
use crate::{
    clock::{Clock, system_now},
    domain::time::Time,
    seldom::Seldom,
};

/// Some jobs run each second, so each job is logged at most once a minute.
static ERRORS: Seldom<&str> = Seldom::new();
static REPORTS: Seldom<&str> = Seldom::new();
static FAILURES: Seldom<(&str, &str)> = Seldom::new();

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The run did all of its work.
    Succeeded,
    /// The run failed, for the reason in the text.
    Failed(String),
    /// The run took longer than the job's timeout, and was aborted.
    TimedOut,
    /// The server was shutting down, and the run left some of its work undone.
    Stopped,
}

impl Outcome {
    /// Returns the outcome as a label of a metric.
    fn label(&self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed(_) => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Stopped => "stopped",
        }
    }
}

/// One run of a job in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// When the run began.
    pub began_at: Time,
    /// How long the run took.
    pub took: Duration,
    /// How the run ended.
    pub outcome: Outcome,
    /// The figures that the run counted until its end. Runs that failed have figures, too.
    pub figures: Figures,
}

/// The reason why a job was not run, or why its outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRun {
    /// There is no job with this name.
    #[error("job {0:?} does not exist")]
    Unknown(String),
    /// The job is running in this process already.
    #[error("job {0:?} is running already")]
    Running(&'static str),
    /// The server is shutting down, and starts no more runs.
    #[error("the server is shutting down")]
    Draining,
    /// The database is unavailable, so the job was not started.
    #[error("the database is unavailable")]
    DatabaseUnavailable,
    /// The run's task ended without an outcome, which is a defect.
    #[error("the job ended without an outcome, which is a defect")]
    Broken,
}

/// Begins runs of the jobs of the table, in one process.
#[derive(Debug)]
pub(super) struct Runner {
    tools: Tools,
    clock: Clock,
    /// One slot per job, in the order of [`JOBS`].
    slots: Vec<Slot>,
    tracker: TaskTracker,
    /// When this token is cancelled, no new run begins.
    stop: CancellationToken,
    /// When this token is cancelled, runs under way are aborted.
    cut: CancellationToken,
}

#[derive(Debug, Default)]
struct Slot {
    running: AtomicBool,
    last: Mutex<Option<Run>>,
}

impl Runner {
    /// Makes a runner that has not run a job yet.
    pub(super) fn new(tools: Tools, clock: Clock) -> Self {
        Self {
            tools,
            clock,
            slots: JOBS.iter().map(|_| Slot::default()).collect(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Returns whether the job at this place of the table is running, and the latest run that has ended.
    pub(super) fn state(&self, place: usize) -> (bool, Option<Run>) {
        let slot = &self.slots[place];
        let running = slot.running.load(Ordering::Acquire);
        let last = slot.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (running, last)
    }

    /// Returns the parts of the server that the jobs work with.
    pub(super) fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Handles a tick: starts a run, unless a run is under way. If a run cannot be started, the next tick starts a run.
    pub(super) fn wake(self: &Arc<Self>, name: &str) {
        if let Err(reason) = self.begin(name) {
            tracing::debug!(job.name = name, reason = %reason, "skipping this run of the job");
        }
    }

    /// Stops all jobs: no new run begins, and runs under way take no further step.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the runs under way. Aborts them at `until`.
    pub(super) async fn end(&self, until: tokio::time::Instant) {
        self.tracker.close();
        if timeout_at(until, self.tracker.wait()).await.is_err() {
            self.cut.cancel();
            self.tracker.wait().await;
        }
    }

    /// Begins a run of a job, and returns its task.
    fn begin(self: &Arc<Self>, name: &str) -> Result<JoinHandle<Run>, NotRun> {
        self.claim(name).map(Claim::begin)
    }

    /// Claims the next run of a job. Until the claim is dropped or has run, no other run of the job begins.
    pub(super) fn claim(self: &Arc<Self>, name: &str) -> Result<Claim, NotRun> {
        let place = JOBS.iter().position(|job| job.name == name);
        let place = place.ok_or_else(|| NotRun::Unknown(name.to_owned()))?;
        if self.stop.is_cancelled() {
            return Err(NotRun::Draining);
        }
        if !self.tools.store.is_available() {
            return Err(NotRun::DatabaseUnavailable);
        }
        let slot = &self.slots[place];
        if slot.running.swap(true, Ordering::AcqRel) {
            return Err(NotRun::Running(JOBS[place].name));
        }
        Ok(Claim { runner: Arc::clone(self), place })
    }
}

/// The right to run a job. When this value is dropped, the next run may begin.
#[derive(Debug)]
pub struct Claim {
    runner: Arc<Runner>,
    place: usize,
}

impl Claim {
    /// Runs the job, and waits for the end of the run. If this future is dropped, the run goes on.
    ///
    /// # Errors
    ///
    /// The run ended without an outcome.
    pub async fn run(self) -> Result<Run, NotRun> {
        self.begin().await.map_err(|_| NotRun::Broken)
    }

    fn begin(self) -> JoinHandle<Run> {
        let tracker = self.runner.tracker.clone();
        tracker.spawn(self.carry_out())
    }

    async fn carry_out(self) -> Run {
        let (job, runner) = (&JOBS[self.place], &self.runner);
        let now = runner.clock.now();
        let (began_at, began) = (now.unwrap_or_else(system_now), Instant::now());
        let course = Course::new(runner.stop.clone());
        let work = (job.run)(&runner.tools, now, &course);
        let outcome = conduct(job, work, &course, &runner.cut).await;
        let run = Run { began_at, took: began.elapsed(), outcome, figures: course.figures() };
        log(job, &run);
        let metrics = runner.tools.store.metrics();
        metrics.jobs.record(job.name, run.outcome.label(), run.began_at.0, run.took);
        *runner.slots[self.place].last.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.clone());
        run
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.runner.slots[self.place].running.store(false, Ordering::Release);
    }
}

/// Waits for the end of a run, but not longer than the job's timeout. Catches a panic.
async fn conduct(
    job: &Job,
    work: BoxFuture<'_, Result<(), JobError>>,
    course: &Course,
    cut: &CancellationToken,
) -> Outcome {
    let work = timeout(job.timeout, AssertUnwindSafe(work).catch_unwind());
    let ended = tokio::select! {
        ended = work => ended,
        () = cut.cancelled() => return Outcome::Stopped,
    };
    match ended {
        Ok(Ok(Ok(()))) if course.was_left() => Outcome::Stopped,
        Ok(Ok(Ok(()))) => Outcome::Succeeded,
        Ok(Ok(Err(error))) => {
            if let Some(left_out) = ERRORS.due(job.name) {
                tracing::warn!(
                    job.name,
                    error = &error as &dyn std::error::Error,
                    log.left_out = left_out,
                    "an error ended this run of the job"
                );
            }
            Outcome::Failed(error.to_string())
        }
        Ok(Err(panic)) => {
            let reason = reason(&*panic);
            tracing::error!(job.name, reason, "the job panicked, which is a defect");
            Outcome::Failed("the job panicked, which is a defect; the server's log has the reason".to_owned())
        }
        Err(_) => Outcome::TimedOut,
    }
}

/// Returns the message of a panic.
fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the panic has no message")
}

/// Logs the end of a run with its figures: at `debug` if the run found nothing to do, at `info` if it changed
/// something, and at `warn` if it did not succeed.
fn log(job: &Job, run: &Run) {
    let took_millis = u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX);
    let report = in_words(&run.figures);
    let what = match &run.outcome {
        Outcome::Succeeded if run.figures.iter().all(|(_, value)| *value == 0) => {
            tracing::debug!(job.name, job.took_millis = took_millis, "the job found nothing to do");
            return;
        }
        Outcome::Succeeded => {
            if let Some(left_out) = REPORTS.due(job.name) {
                tracing::info!(
                    job.name,
                    job.took_millis = took_millis,
                    job.report = %report,
                    log.left_out = left_out,
                    "the job ran"
                );
            }
            return;
        }
        Outcome::Failed(_) => "the job failed; the next run tries again",
        Outcome::TimedOut => "the job exceeded its timeout and was stopped; the next run continues",
        Outcome::Stopped => "the job stopped early because the server is shutting down",
    };
    if let Some(left_out) = FAILURES.due((job.name, what)) {
        tracing::warn!(
            job.name,
            job.took_millis = took_millis,
            job.report = %report,
            log.left_out = left_out,
            "{what}"
        );
    }
}

/// Formats figures for people: `reservations 5, request_ids 0`.
fn in_words(figures: &Figures) -> impl fmt::Display {
    figures.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the outcome of some work, with a timeout of one second.
    async fn outcome(work: impl Future<Output = Result<(), JobError>> + Send, course: &Course) -> Outcome {
        let job = Job {
            name: "test",
            schedule: "",
            description: "",
            timeout: Duration::from_secs(1),
            run: |_, _, _| Box::pin(async { Ok(()) }),
        };
        conduct(&job, Box::pin(work), course, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn every_run_of_a_job_has_an_outcome() {
        let stop = CancellationToken::new();
        let course = Course::new(stop.clone());
        let count = async |value: i64| {
            course.count("steps", value);
            Ok(())
        };
        assert_eq!(outcome(count(1), &course).await, Outcome::Succeeded);
        let panics = async {
            course.count("steps", 2);
            panic!("{}", "a secret")
        };
        let Outcome::Failed(reason) = outcome(panics, &course).await else { panic!("it did not fail") };
        assert!(reason.contains("panicked") && !reason.contains("secret"), "{reason}");
        let fails = async { Err(JobError::BooksDisagree(7)) };
        assert!(matches!(outcome(fails, &course).await, Outcome::Failed(reason) if reason.contains('7')));
        assert_eq!(outcome(std::future::pending(), &course).await, Outcome::TimedOut);
        assert!(course.goes_on());
        stop.cancel();
        assert_eq!(outcome(count(3), &course).await, Outcome::Succeeded, "nothing was left");
        assert!(!course.goes_on());
        assert_eq!(outcome(count(4), &course).await, Outcome::Stopped);
        assert_eq!(course.figures(), [("steps", 4)]);
    }
}
