//! The course of one run of a job: what it has counted, and whether it may go on.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// What a run counted: pairs of a name and a number, for people.
pub type Figures = Vec<(&'static str, i64)>;

/// What a run records while it is under way, so that the figures are known however the run ends.
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

    /// Whether the run may take its next step. Call this only if there is one: a no is recorded as work left undone.
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

    /// Whether the run left something undone because the server ends.
    pub(super) fn was_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// What the run has counted so far.
    pub(super) fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
