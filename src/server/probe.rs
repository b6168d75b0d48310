//! Decides what health reports: whether calls can succeed with this database.
//!
//! Once a second a probe checks whether the database answers and is still the same database. Batches show whether the
//! database accepts writes. While there are no batches, and after batches failed, the probe makes a small write. If
//! probes fail, the server refuses calls, too, because they would only wait. If probes succeed but batches fail, health
//! is NOT_SERVING, but calls are still accepted: the next successful batch shows that the database works again.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    ServerError, demo,
    health::{Health, Readiness},
};
use crate::{
    clock::Clock,
    store::{Dialect, Signs, Store, StoreError},
};

/// Pause between two probes, and between two attempts to connect.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time that a probe waits for the database. After this time the probe has failed.
const TIMEOUT: Duration = Duration::from_secs(3);

/// If nothing was written for this time, the probe makes a small write. On SQLite the probe does so even if batches
/// write.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// After a failed batch, if no batch is tried for this time, successful probes are enough for SERVING.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Number of consecutive probes that must fail before the database counts as away. A single failed probe may be a brief
/// fault.
const MISSES_MAX: u32 = 2;

/// Number of probes after which the log warns again of a database that is still away.
const REMINDER_PROBES: u32 = 30;

/// Brings the schema up to date, and marks the database as usable.
pub(super) async fn prepare(store: &Store, clock: &Clock, demo: bool) -> Result<(), ServerError> {
    // The error of this check gives the best reason why the database cannot be reached.
    store.check_access().await?;
    store.migrate().await?;
    if demo {
        demo::create(store, clock).await?;
    }
    store.try_read().await?;
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
    health: Health,
    /// Whether the schema is up to date. No call is accepted before.
    prepared: bool,
    /// The state that health reports.
    readiness: Readiness,
    /// Number of consecutive probes that failed.
    misses: u32,
    /// Number of consecutive probes that found failed batches, but no successful batch, since the previous probe.
    failing: u32,
    /// The time of the latest successful write. `failed` is the time of the latest failed batch.
    written: Instant,
    failed: Instant,
}

impl Probe {
    /// Makes a probe of a database. If the database is not `prepared` yet, the probe prepares it, with the data of
    /// `--demo` if `demo` is set.
    pub(super) fn new(store: &Store, clock: Clock, demo: bool, prepared: bool, health: Health) -> Self {
        let (now, available) = (Instant::now(), store.is_available());
        let (readiness, misses) = (Readiness::of(available, true), if available { 0 } else { MISSES_MAX });
        let (store, failing) = (store.clone(), 0);
        Self { store, clock, demo, health, prepared, readiness, misses, failing, written: now, failed: now }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut probes = 0_u32;
        loop {
            if let Err(error) = self.probe_once().await
                && !self.store.is_taken()
                && (self.readiness == Readiness::Serving || probes.is_multiple_of(REMINDER_PROBES))
            {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the database cannot be reached; trying again"
                );
            }
            probes = if self.misses > 0 { probes + 1 } else { 0 };
            let available = self.prepared && self.misses < MISSES_MAX;
            self.store.set_available(available);
            // The store stays unavailable if its files were removed or replaced.
            let readiness = Readiness::of(self.store.is_available(), self.failing < MISSES_MAX);
            let before = std::mem::replace(&mut self.readiness, readiness);
            if readiness != before {
                self.health.report(readiness).await;
                let serving = readiness == Readiness::Serving;
                if serving || before == Readiness::Serving {
                    tracing::info!(health.serving = serving, "health changed");
                }
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

    async fn probe_once(&mut self) -> Result<(), ServerError> {
        if !self.prepared {
            let prepared = prepare(&self.store, &self.clock, self.demo).await;
            self.prepared = prepared.is_ok();
            self.misses = if self.store.is_available() { 0 } else { MISSES_MAX };
            self.written = Instant::now();
            return prepared;
        }
        let signs = self.store.take_signs();
        let probed = timeout(TIMEOUT, self.ask(signs)).await;
        let silent = probed.is_err();
        let probed = probed.unwrap_or_else(|_| Err(self.store.no_answer()));
        self.count_misses(&probed, silent);
        self.count_failing(signs);
        Ok(probed?)
    }

    /// Checks whether the database answers. Also checks whether it accepts writes, unless batches have just shown it.
    async fn ask(&mut self, signs: Signs) -> Result<(), StoreError> {
        self.store.try_read().await?;
        let doubtful = signs.failed || self.misses > 0 || self.failing > 0;
        // On SQLite the server also recognizes its file by the mark that this write makes.
        let shown = signs.written && !signs.failed && self.store.dialect() == Dialect::Postgres;
        if shown || doubtful || self.written.elapsed() >= IDLE_TIME {
            if !shown {
                self.store.try_write(doubtful).await?;
            }
            self.written = Instant::now();
        }
        Ok(())
    }

    fn count_misses(&mut self, probed: &Result<(), StoreError>, silent: bool) {
        match probed {
            Ok(()) => {
                if self.misses >= MISSES_MAX {
                    // The probe failed for the same reason as the batches. The probe succeeds now, so the reason no
                    // longer exists.
                    self.failing = 0;
                }
                self.misses = 0;
            }
            // If PostgreSQL has not answered, the whole timeout has passed already. If the database is another
            // database, this is no brief fault, either. But SQLite may only be waiting for another process.
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
