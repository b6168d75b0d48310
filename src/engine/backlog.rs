//! The queue of a lane, as callers and the page of metrics see it: its length, and the age of its oldest operation.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// The length and the age of one lane's queue.
#[derive(Debug)]
pub(super) struct Backlog {
    /// Number of operations in the queue. It bounds the unbounded channel.
    operations: AtomicUsize,
    /// When the oldest operation of the queue was queued, or a moment earlier. In microseconds since `epoch`.
    since: AtomicU64,
    epoch: Instant,
}

impl Backlog {
    /// Makes the backlog of an empty queue.
    pub(super) fn new() -> Self {
        Self { operations: AtomicUsize::new(0), since: AtomicU64::new(0), epoch: Instant::now() }
    }

    /// Adds operations that are queued at this instant, unless there would then be more than `max`. Returns whether
    /// they were added.
    pub(super) fn add(&self, operations: usize, queued_at: Instant, max: usize) -> bool {
        let before = self.operations.fetch_add(operations, Ordering::AcqRel);
        if before + operations > max {
            self.operations.fetch_sub(operations, Ordering::AcqRel);
            return false;
        }
        if before == 0 {
            self.note(queued_at);
        }
        true
    }

    /// Removes operations that were queued at this instant. The operations that stay in the queue were queued later.
    pub(super) fn remove(&self, operations: usize, queued_at: Instant) {
        if self.operations.fetch_sub(operations, Ordering::AcqRel) > operations {
            self.note(queued_at);
        }
    }

    fn note(&self, since: Instant) {
        let micros = since.saturating_duration_since(self.epoch).as_micros();
        self.since.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the number of operations that wait.
    pub(super) fn len(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    /// Returns how long the oldest operation has waited, or a moment longer. Zero if none waits.
    pub(super) fn age(&self) -> Duration {
        self.age_at(Instant::now())
    }

    fn age_at(&self, now: Instant) -> Duration {
        if self.len() == 0 {
            return Duration::ZERO;
        }
        let since = Duration::from_micros(self.since.load(Ordering::Relaxed));
        now.saturating_duration_since(self.epoch).saturating_sub(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_operation() {
        let backlog = Backlog::new();
        let second = Duration::from_secs(1);
        let (first, next, now) =
            (backlog.epoch + second, backlog.epoch + second * 2, backlog.epoch + second * 3);
        assert!(backlog.add(1, first, 3));
        assert!(backlog.add(2, next, 3) && !backlog.add(1, next, 3));
        assert_eq!((backlog.len(), backlog.age_at(now)), (3, second * 2));
        backlog.remove(1, first);
        assert_eq!(
            (backlog.len(), backlog.age_at(now)),
            (2, second * 2),
            "the rest came at the same time or later"
        );
        backlog.remove(1, next);
        assert_eq!((backlog.len(), backlog.age_at(now)), (1, second));
        backlog.remove(1, next);
        assert_eq!((backlog.len(), backlog.age_at(now)), (0, Duration::ZERO));
    }
}
