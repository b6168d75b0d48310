//! How long the phases of a batch take: logged at DEBUG, for who looks for time.

use tokio::time::Instant;

/// A phase of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for the connection, and BEGIN on SQLite.
    Begin,
    /// Waiting for the tenants, policy and time; BEGIN on PostgreSQL.
    Lock,
    /// Reading what is not remembered.
    Load,
    /// Deciding, and looking up when refused callers may come again.
    Decide,
    /// Writing what changed, and COMMIT.
    Commit,
}

/// When each phase ended.
pub(super) struct Pace {
    latest: Instant,
    micros: [u128; 5],
}

impl Pace {
    /// Begins with the first phase.
    pub(super) fn start() -> Self {
        Self { latest: Instant::now(), micros: [0; 5] }
    }

    /// A phase has ended, and the next one begins.
    pub(super) fn mark(&mut self, phase: Phase) {
        let now = Instant::now();
        self.micros[phase as usize] += now.duration_since(self.latest).as_micros();
        self.latest = now;
    }

    /// Says how long all of them took.
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
