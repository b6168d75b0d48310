//! Decides what health reports: whether calls can succeed, as far as the database is concerned.
//!
//! Once a second a probe looks whether the database answers and is still the same database. Batches show whether it
//! accepts writes. While there are no batches, and after they failed, the probe makes a small write. If probes fail,
//! the server also refuses calls, which would only wait. If probes succeed but batches fail, health is NOT_SERVING
//! and calls are still accepted, so that the next successful batch shows that the database works.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use super::{ServerError, demo, tell};
use crate::{
    clock::Clock,
    store::{Dialect, Signs, Store, StoreError},
};

/// Pause between two looks, and between two attempts to connect.
const INTERVAL: Duration = Duration::from_secs(1);

/// If the database does not answer a look within this time, it counts as away.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Without a write for this time, the probe makes one. On SQLite it does so even if batches write.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// After a failed batch, if none is tried for this time, successful probes are enough for SERVING.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Number of consecutive looks that must find the database away before it counts as away. A single failed look may be
/// a brief fault.
const MISSES_MAX: u32 = 2;

/// Number of looks after which the log warns again of a database that is still away.
const REMINDER_LOOKS: u32 = 30;

/// Brings the schema up to date, and notes that the database can be used.
pub(super) async fn prepare(store: &Store, clock: &Clock, demo: bool) -> Result<(), ServerError> {
    // This check gives the best reason why the database cannot be reached.
    store.check_access().await?;
    store.migrate().await?;
    if demo {
        demo::create(store, clock).await?;
    }
    store.look().await?;
    let written = store.try_write(false).await;
    if let Err(error) = &written {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the database accepts no writes; trying again"
        );
    }
    store.set_available(written.is_ok());
    Ok(())
}

/// Probes the database for as long as the server runs.
pub(super) struct Probe {
    store: Store,
    clock: Clock,
    demo: bool,
    health: HealthReporter,
    /// Whether the schema is up to date. Until then no call was accepted.
    prepared: bool,
    /// The state that health reports.
    serving: bool,
    /// Number of consecutive looks that found the database away.
    misses: u32,
    /// Number of consecutive looks at which batches had failed since the previous look, and no batch had succeeded.
    failing: u32,
    /// When the last write succeeded; `failed`: when the last batch failed.
    written: Instant,
    failed: Instant,
}

impl Probe {
    /// Makes a probe of a database that may have been prepared already.
    pub(super) fn new(
        store: &Store,
        clock: Clock,
        (demo, prepared): (bool, bool),
        health: HealthReporter,
    ) -> Self {
        let (now, serving) = (Instant::now(), store.is_available());
        let misses = if serving { 0 } else { MISSES_MAX };
        let (store, failing) = (store.clone(), 0);
        Self { store, clock, demo, health, prepared, serving, misses, failing, written: now, failed: now }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut looks = 0_u32;
        loop {
            if let Err(error) = self.look().await
                && !self.store.is_taken()
                && (self.serving || looks.is_multiple_of(REMINDER_LOOKS))
            {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the database cannot be reached; trying again"
                );
            }
            looks = if self.misses > 0 { looks + 1 } else { 0 };
            let available = self.prepared && self.misses < MISSES_MAX;
            self.store.set_available(available);
            // The store is also unavailable for good if its files were taken away.
            let serving = self.store.is_available() && self.failing < MISSES_MAX;
            if serving != self.serving {
                self.serving = serving;
                tell(&self.health, serving).await;
                tracing::info!(health.serving = serving, "health changed");
            }
            if self.store.is_taken() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.store.until_taken() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn look(&mut self) -> Result<(), ServerError> {
        if !self.prepared {
            let prepared = prepare(&self.store, &self.clock, self.demo).await;
            self.prepared = prepared.is_ok();
            self.misses = if self.store.is_available() { 0 } else { MISSES_MAX };
            self.written = Instant::now();
            return prepared;
        }
        let signs = self.store.take_signs();
        let looked = timeout(TIMEOUT, self.ask(signs)).await;
        let silent = looked.is_err();
        let looked = looked.unwrap_or_else(|_| Err(self.store.no_answer()));
        self.count_misses(&looked, silent);
        self.count_failing(signs);
        Ok(looked?)
    }

    /// Looks whether the database answers. Looks whether it accepts writes, unless batches have just shown it.
    async fn ask(&mut self, signs: Signs) -> Result<(), StoreError> {
        self.store.look().await?;
        let doubtful = signs.failed || self.misses > 0 || self.failing > 0;
        // On SQLite the write is also the mark by which the file is recognized.
        let shown = signs.written && !signs.failed && self.store.dialect() == Dialect::Postgres;
        if shown || doubtful || self.written.elapsed() >= IDLE_TIME {
            if !shown {
                self.store.try_write(doubtful).await?;
            }
            self.written = Instant::now();
        }
        Ok(())
    }

    fn count_misses(&mut self, looked: &Result<(), StoreError>, silent: bool) {
        match looked {
            Ok(()) => {
                if self.misses >= MISSES_MAX {
                    // The probe failed for the same reason as the batches. It succeeds now, so that reason is gone.
                    self.failing = 0;
                }
                self.misses = 0;
            }
            // If PostgreSQL has not answered, its time is already used up, and another database is no brief fault.
            // SQLite may only be waiting for another process.
            Err(error) => {
                let silent = silent && self.store.dialect() == Dialect::Postgres;
                let certain = silent || matches!(error, StoreError::Unusable(_));
                self.misses += if certain { MISSES_MAX } else { 1 };
            }
        }
    }

    fn count_failing(&mut self, signs: Signs) {
        if signs.failed {
            self.failed = Instant::now();
        }
        if signs.written {
            self.failing = 0;
        } else if signs.failed {
            self.failing += 1;
        } else if self.failed.elapsed() >= QUIET_TIME {
            self.failing = 0;
        }
    }
}
