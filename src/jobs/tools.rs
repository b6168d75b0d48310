//! The tools of jobs: the parts of the server that jobs use, the course of one run (its figures, and whether it may go
//! on), and the errors with which a run fails.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
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
    /// Whether the server needs keys, and which keys were used.
    pub access: Access,
}

/// The reason why a run of a job failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// The database failed, or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine did not carry out an operation.
    #[error("an operation failed: {0:?}")]
    Engine(Failure),
    /// The check found this number of wrong rows.
    #[error("{0} row(s) of the books are wrong; the server's log names them")]
    BooksDisagree(u64),
}

/// The figures that a run counted: pairs of a name and a number, for people.
pub type Figures = Vec<(&'static str, i64)>;

/// The figures of a run under way, and whether it may go on. So the figures are known even if the run fails.
#[derive(Debug)]
pub(super) struct Course {
    figures: Mutex<Figures>,
    /// This token is cancelled when the server shuts down.
    stop: CancellationToken,
    /// Whether the run left work undone because the server is shutting down.
    left: AtomicBool,
}

impl Course {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { figures: Mutex::default(), stop, left: AtomicBool::new(false) }
    }

    /// Records a figure. Replaces the earlier figure with the same name.
    pub(super) fn count(&self, name: &'static str, value: impl TryInto<i64>) {
        let value = value.try_into().unwrap_or(i64::MAX);
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        match figures.iter_mut().find(|(known, _)| *known == name) {
            Some(figure) => figure.1 = value,
            None => figures.push((name, value)),
        }
    }

    /// Returns whether the run may take its next step. Call this only if there is a next step: `false` also records
    /// that the run left work undone.
    pub(super) fn goes_on(&self) -> bool {
        let goes_on = !self.stop.is_cancelled();
        if !goes_on {
            self.left.store(true, Ordering::Release);
        }
        goes_on
    }

    /// Waits until the server shuts down, and records that work was left undone.
    pub(super) async fn ends(&self) {
        self.stop.cancelled().await;
        self.left.store(true, Ordering::Release);
    }

    /// Returns whether the run left work undone because the server is shutting down.
    pub(super) fn was_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Returns the figures that the run has counted so far.
    pub(super) fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
