//! The tools of jobs: the parts of the server that they use, the course of one run (what it has counted, and whether
//! it may continue), and the errors with which a run fails.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Engine, Failure},
    events::webhook::Deliverer,
    policy::PolicyCache,
    store::{Retention, Store, StoreError},
};

/// The parts of the server that jobs work with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The database, for jobs that read and write rows.
    pub store: Store,
    /// The engine, for jobs that change counters.
    pub engine: Arc<Engine>,
    /// The policy: resources and plans.
    pub policies: Arc<PolicyCache>,
    /// How long settled reservations, request ids and events are kept.
    pub retention: Retention,
    /// Sends events to webhooks.
    pub deliverer: Arc<Deliverer>,
}

/// Why a run of a job failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// The database failed, or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine did not carry out an operation.
    #[error("an operation failed: {0:?}")]
    Engine(Failure),
    /// The check found this many rows that do not add up.
    #[error("{0} row(s) of the books do not add up; the server's log names them")]
    BooksDisagree(u64),
}

/// The figures that a run counted: pairs of a name and a number, for people.
pub type Figures = Vec<(&'static str, i64)>;

/// The record of a run under way, so that its figures are known however the run ends.
#[derive(Debug)]
pub(super) struct Course {
    figures: Mutex<Figures>,
    /// Cancelled when the server ends.
    stop: CancellationToken,
    /// Whether the run left something undone because the server ends.
    left: AtomicBool,
}

impl Course {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { figures: Mutex::default(), stop, left: AtomicBool::new(false) }
    }

    /// Records a figure, and replaces the earlier value of the same name.
    pub(super) fn count(&self, name: &'static str, value: impl TryInto<i64>) {
        let value = value.try_into().unwrap_or(i64::MAX);
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        match figures.iter_mut().find(|(known, _)| *known == name) {
            Some(figure) => figure.1 = value,
            None => figures.push((name, value)),
        }
    }

    /// Returns whether the run may take its next step. Call this only if there is a next step: `false` is recorded as
    /// work left undone.
    pub(super) fn goes_on(&self) -> bool {
        let goes_on = !self.stop.is_cancelled();
        if !goes_on {
            self.left.store(true, Ordering::Release);
        }
        goes_on
    }

    /// Waits until the server ends, and records that work was left undone.
    pub(super) async fn ends(&self) {
        self.stop.cancelled().await;
        self.left.store(true, Ordering::Release);
    }

    /// Returns whether the run left something undone because the server ends.
    pub(super) fn was_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Returns what the run has counted so far.
    pub(super) fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
