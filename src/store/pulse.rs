//! The signs by which batches show the state of the database.

use std::sync::atomic::{AtomicBool, Ordering};

/// The signs that batches have left since the signs were last taken.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    /// A batch that wrote something was committed.
    pub written: bool,
    /// A batch was given up because the database was unavailable, and no batch has written since.
    pub failed: bool,
}

/// The place where batches leave their signs, and from which the probe takes them.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    written: AtomicBool,
    failed: AtomicBool,
}

impl Pulse {
    /// Notes that a batch that wrote something was committed.
    pub(super) fn note_written(&self) {
        self.written.store(true, Ordering::Relaxed);
        self.failed.store(false, Ordering::Relaxed);
    }

    /// Notes that a batch was given up because the database was unavailable.
    pub(super) fn note_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Returns the signs since the last call, and clears them.
    pub(super) fn take(&self) -> Signs {
        let take = |sign: &AtomicBool| sign.swap(false, Ordering::Relaxed);
        Signs { written: take(&self.written), failed: take(&self.failed) }
    }
}
