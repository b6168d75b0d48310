//! The clockwork: runs jobs, at a tick or by hand, one run of each at a time, and waits for them in the end.

use std::{
    any::Any,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
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
    course::{Course, Figures},
    schedule::{Schedule, ScheduleError},
    table::{JOBS, Job, JobError, Tools},
};
use crate::{
    clock::{Clock, system_now},
    domain::window::Millis,
    events::webhook::Deliverer,
    seldom::Seldom,
};

/// Some jobs run each second: a line a minute for each of them.
static ERRORS: Seldom<&str> = Seldom::new();
static REPORTS: Seldom<&str> = Seldom::new();
static FAILURES: Seldom<(&str, &str)> = Seldom::new();

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what there was to do.
    Succeeded,
    /// It did not; the text says why.
    Failed(String),
    /// It was broken off: it took longer than it may.
    TimedOut,
    /// It was broken off: the server ended.
    Stopped,
}

/// A run of a job in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// When it began.
    pub began_at: Millis,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
    /// What it counted until its end, whatever came of it.
    pub figures: Figures,
}

/// Why a job was not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRun {
    /// There is no job of this name.
    #[error("job {0:?} does not exist")]
    Unknown(String),
    /// It runs already, in this process.
    #[error("job {0:?} is running already")]
    Running(&'static str),
    /// The server ends.
    #[error("the server ends")]
    Draining,
    /// The database is away.
    #[error("the database is unavailable")]
    DatabaseUnavailable,
    /// It came to no end: a defect.
    #[error("the job broke down")]
    Broken,
}

/// A job as it stands in this process.
#[derive(Clone, Debug)]
pub struct JobState {
    /// Its row in the table.
    pub job: &'static Job,
    /// It runs now.
    pub running: bool,
    /// When it is woken next; none when there are no ticks.
    pub next_at: Option<Millis>,
    /// The run that ended last.
    pub last: Option<Run>,
}

/// Runs the jobs of the table.
#[derive(Debug)]
pub struct Clockwork {
    tools: Tools,
    clock: Clock,
    /// In the order of [`JOBS`].
    slots: Vec<Slot>,
    schedule: OnceLock<Schedule>,
    tracker: TaskTracker,
    /// No run begins any more.
    stop: CancellationToken,
    /// Those that run are broken off.
    cut: CancellationToken,
}

#[derive(Debug, Default)]
struct Slot {
    running: AtomicBool,
    last: Mutex<Option<Run>>,
}

impl Clockwork {
    /// With ticks, unless the clock is set by hand: a schedule is of the real time.
    ///
    /// # Errors
    ///
    /// When the ticks cannot be started.
    pub async fn start(tools: Tools, clock: Clock) -> Result<Arc<Self>, ScheduleError> {
        let ticks = !matches!(clock, Clock::Manual(_));
        let clockwork = Arc::new(Self {
            tools,
            clock,
            slots: JOBS.iter().map(|_| Slot::default()).collect(),
            schedule: OnceLock::new(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        });
        if ticks {
            let schedule = Schedule::start(&Arc::downgrade(&clockwork)).await?;
            // It is the only one.
            let _ = clockwork.schedule.set(schedule);
        }
        Ok(clockwork)
    }

    /// All jobs, in the order of the table.
    pub async fn list(&self) -> Vec<JobState> {
        let mut states = Vec::with_capacity(JOBS.len());
        for (place, (job, slot)) in JOBS.iter().zip(&self.slots).enumerate() {
            let next_at = match self.schedule.get() {
                Some(schedule) => schedule.next(place).await,
                None => None,
            };
            let running = slot.running.load(Ordering::Acquire);
            let last = slot.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            states.push(JobState { job, running, next_at, last });
        }
        states
    }

    /// Runs a job now, and waits for its end. It goes on when nobody waits any more.
    ///
    /// # Errors
    ///
    /// When it was not run.
    pub async fn run(self: &Arc<Self>, name: &str) -> Result<Run, NotRun> {
        self.begin(name)?.await.map_err(|_| NotRun::Broken)
    }

    /// A tick: runs a job unless it runs already. What it does not do now it does at the next tick.
    pub(super) fn wake(self: &Arc<Self>, name: &str) {
        if let Err(reason) = self.begin(name) {
            tracing::debug!(job.name = name, reason = %reason, "the job is not run at this tick");
        }
    }

    /// What tells webhooks.
    pub fn deliverer(&self) -> &Deliverer {
        &self.tools.deliverer
    }

    /// Takes no more runs, tells those that there are to take no further step, and waits for them and for what they
    /// began; what still runs then is broken off.
    pub async fn end(&self, until: tokio::time::Instant) {
        self.stop.cancel();
        let deliverer = &self.tools.deliverer;
        deliverer.stop();
        if let Some(schedule) = self.schedule.get() {
            schedule.stop().await;
        }
        self.tracker.close();
        let jobs = async {
            if timeout_at(until, self.tracker.wait()).await.is_err() {
                self.cut.cancel();
                self.tracker.wait().await;
            }
        };
        tokio::join!(jobs, deliverer.end(until));
        // A job that was looking for webhooks may have begun with one since.
        deliverer.end(until).await;
    }

    fn begin(self: &Arc<Self>, name: &str) -> Result<JoinHandle<Run>, NotRun> {
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
        let turn = Turn { clockwork: Arc::clone(self), place };
        Ok(self.tracker.spawn(turn.run()))
    }
}

/// The one run of a job. Dropped, the next one may begin.
struct Turn {
    clockwork: Arc<Clockwork>,
    place: usize,
}

impl Turn {
    async fn run(self) -> Run {
        let (job, clockwork) = (&JOBS[self.place], &self.clockwork);
        let now = clockwork.clock.now();
        let (began_at, began) = (now.unwrap_or_else(system_now), Instant::now());
        let course = Course::new(clockwork.stop.clone());
        let work = (job.run)(&clockwork.tools, now, &course);
        let outcome = conduct(job, work, &course, &clockwork.cut).await;
        let run = Run { began_at, took: began.elapsed(), outcome, figures: course.figures() };
        log(job, &run);
        *clockwork.slots[self.place].last.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.clone());
        run
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.clockwork.slots[self.place].running.store(false, Ordering::Release);
    }
}

/// Lets a run come to its end, within its time, and whatever it does.
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
                    "the job met with an error"
                );
            }
            Outcome::Failed(error.to_string())
        }
        Ok(Err(panic)) => {
            let reason = reason(&*panic);
            tracing::error!(job.name, reason, "the job broke down: a defect");
            Outcome::Failed("the job broke down: a defect, which the log tells of".to_owned())
        }
        Err(_) => Outcome::TimedOut,
    }
}

/// What a panic said.
fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("nobody knows why")
}

/// A run that found nothing to do is no news. One that did not come to its end tells what it did until then.
fn log(job: &Job, run: &Run) {
    let took_millis = u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX);
    let report = told(&run.figures);
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
        Outcome::Failed(_) => "the job failed; it is tried again at its next tick",
        Outcome::TimedOut => "the job took too long and was broken off; the next run goes on",
        Outcome::Stopped => "the job was left undone: the server ends",
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

/// Figures for people: `reservations 5, request_ids 0`.
fn told(figures: &Figures) -> impl fmt::Display {
    figures.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of some work that may take a second.
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
    async fn whatever_a_job_does_it_has_an_outcome() {
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
        assert!(reason.contains("broke down") && !reason.contains("secret"), "{reason}");
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

    #[test]
    fn jobs_are_sorted_and_explained() {
        assert!(JOBS.is_sorted_by(|a, b| a.name < b.name));
        for job in &JOBS {
            assert!(!job.description.is_empty() && !job.description.ends_with('.'), "{}", job.name);
            assert!(job.timeout > Duration::ZERO, "{}", job.name);
            assert_eq!(job.schedule.split(' ').count(), 6, "{}", job.name);
        }
    }
}
