//! What health says: whether calls get what they ask for, as far as the database is concerned.
//!
//! Each second the database is asked whether it answers, and is still the same. Whether it takes writes is shown by the batches
//! themselves, as long as there are some; while there are none, and when they fail, a probe writes. A probe that fails closes the
//! door to calls, too, for they would wait in vain. When the probe succeeds and batches fail, the door stays open, and the next batch
//! that succeeds is the proof.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use super::{ServerError, demo, tell};
use crate::{
    clock::Clock,
    store::{Dialect, Signs, Store, StoreError},
};

/// Pause between two looks, and between two attempts to reach a database that is away.
const INTERVAL: Duration = Duration::from_secs(1);

/// A database that does not answer a look within this time is away.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A database that has taken no write for so long is tried; SQLite in any case.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// When no batch was tried for so long after one had failed, a probe that succeeds is believed.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Looks in a row that find the database away: one may be a hiccup.
const MISSES_MAX: u32 = 2;

/// How many looks pass until a database that stays away is told of again.
const REMINDER_LOOKS: u32 = 30;

/// Brings the schema up to date, and says that the database can be used.
pub(super) async fn prepare(store: &Store, clock: &Clock, demo: bool) -> Result<(), ServerError> {
    // Says best why the database cannot be reached.
    store.check_access().await?;
    store.migrate().await?;
    if demo {
        demo::create(store, clock).await?;
    }
    store.look().await?;
    let written = store.try_write(false).await;
    if let Err(error) = &written {
        tracing::error!(error = error as &dyn std::error::Error, "the database takes no writes; trying on");
    }
    store.set_available(written.is_ok());
    Ok(())
}

/// Looks at the database for as long as the server runs.
pub(super) struct Probe {
    store: Store,
    clock: Clock,
    demo: bool,
    health: HealthReporter,
    /// The schema is up to date. Until then there is nothing to lose.
    prepared: bool,
    /// What health says.
    serving: bool,
    /// Looks in a row that found the database away.
    misses: u32,
    /// Looks in a row after which batches had failed, and none had succeeded.
    failing: u32,
    /// When the last write succeeded, and when the last batch failed.
    written: Instant,
    failed: Instant,
}

impl Probe {
    /// A probe of a database that may have been prepared already.
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
                tracing::error!(error = &error as &dyn std::error::Error, "the database is away; trying on");
            }
            looks = if self.misses > 0 { looks + 1 } else { 0 };
            let available = self.prepared && self.misses < MISSES_MAX;
            self.store.set_available(available);
            // It is not available either when its files were taken away.
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

    /// Whether the database answers and, unless batches have just shown it, takes writes.
    async fn ask(&mut self, signs: Signs) -> Result<(), StoreError> {
        self.store.look().await?;
        let doubtful = signs.failed || self.misses > 0 || self.failing > 0;
        // On SQLite it is a mark as well, by which the file is known.
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
                    // The probe has seen what the batches had, and sees that it is over.
                    self.failing = 0;
                }
                self.misses = 0;
            }
            // A server that is silent has had its time, and another database is no hiccup. SQLite may wait for a neighbour.
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
