//! A run under way: what it counted until now, and whether it is to end.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// What a run counted: names and numbers, for people.
pub type Figures = Vec<(&'static str, i64)>;

/// What a run tells of itself while it runs, so that it is known however it ends.
#[derive(Debug)]
pub(super) struct Course {
    figures: Mutex<Figures>,
    /// The server ends.
    stop: CancellationToken,
    /// The run left something undone for that.
    left: AtomicBool,
}

impl Course {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { figures: Mutex::default(), stop, left: AtomicBool::new(false) }
    }

    /// A figure as it stands now.
    pub(super) fn count(&self, name: &'static str, value: impl TryInto<i64>) {
        let value = value.try_into().unwrap_or(i64::MAX);
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        match figures.iter_mut().find(|(known, _)| *known == name) {
            Some(figure) => figure.1 = value,
            None => figures.push((name, value)),
        }
    }

    /// Whether to take the next step. To be asked when there is one.
    pub(super) fn goes_on(&self) -> bool {
        let goes_on = !self.stop.is_cancelled();
        if !goes_on {
            self.left.store(true, Ordering::Release);
        }
        goes_on
    }

    /// Waits until there is no next step.
    pub(super) async fn ends(&self) {
        self.stop.cancelled().await;
        self.left.store(true, Ordering::Release);
    }

    /// Whether something was left undone since the server ends.
    pub(super) fn was_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// What was counted until now.
    pub(super) fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
