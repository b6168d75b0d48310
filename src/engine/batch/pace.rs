//! Measures how long each phase of a batch takes, and logs the times at DEBUG.

use tokio::time::Instant;

/// A phase of a batch that is decided under the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for the connection; on SQLite also BEGIN.
    Begin,
    /// Waiting for the locks, policy and time; on PostgreSQL also BEGIN.
    Lock,
    /// Reading rows that are not remembered.
    Load,
    /// Deciding, and finding the holds on which retry hints depend.
    Decide,
    /// Writing the changes, and COMMIT.
    Commit,
}

/// The time that each phase took so far, in microseconds.
pub(super) struct Pace {
    latest: Instant,
    micros: [u128; 5],
}

impl Pace {
    /// Starts to measure the first phase.
    pub(super) fn start() -> Self {
        Self { latest: Instant::now(), micros: [0; 5] }
    }

    /// Ends a phase. The next phase begins now.
    pub(super) fn mark(&mut self, phase: Phase) {
        let now = Instant::now();
        self.micros[phase as usize] += now.duration_since(self.latest).as_micros();
        self.latest = now;
    }

    /// Logs the time of each phase.
    pub(super) fn log(&self, operations: usize) {
        let [begin, lock, load, decide, commit] = self.micros;
        tracing::debug!(
            batch.operations = operations,
            batch.begin_micros = begin,
            batch.lock_micros = lock,
            batch.load_micros = load,
            batch.decide_micros = decide,
            batch.commit_micros = commit,
            "batch committed"
        );
    }
}
