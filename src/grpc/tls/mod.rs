//! TLS of the gRPC listener: the settings of new connections, which follow the files.
//!
//! The provider of cryptography is ring. It is passed on where it is needed, and not installed for the process.

mod files;
mod names;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::files::{Loaded, Moment, Stamp};
pub use self::files::{TlsError, TlsFiles};
pub(super) use self::names::peer_names;
use crate::metrics::Metrics;

/// The pause between two looks at the files.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// The certificate, the key and the CAs of clients that new connections use. Open connections keep those with which
/// they began.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
}

/// What the last look found.
#[derive(Debug)]
struct Seen {
    stamps: [Option<Stamp>; 3],
    loaded: Loaded,
    /// Whether the log contains that the certificate in use is not valid.
    warned: bool,
}

impl Tls {
    /// Reads the files. A certificate that has expired or is not valid yet is used, with a warning: clients refuse it,
    /// but the server is ready for the next certificate.
    ///
    /// # Errors
    ///
    /// When a file is missing or malformed, or the key does not fit the certificate.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        // The stamps come first. So a change while the files are read is noticed at the next look.
        let stamps = files.stamps();
        let loaded = files.load()?;
        let current = RwLock::new(Arc::clone(&loaded.config));
        let tls = Self { files, current, seen: Mutex::new(Seen { stamps, loaded, warned: false }) };
        tls.warn_of_time();
        Ok(tls)
    }

    /// Returns what begins TLS on a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Reads the files again when they change, and at SIGHUP, until `stop` is cancelled. If the new files cannot be
    /// used, the old ones stay in use and the log contains a warning. `metrics` shows when the certificate expires.
    /// SIGHUP is caught from the call of this function on.
    pub(super) fn follow(
        self: Arc<Self>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let hangups = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::warn!(error = %error, "SIGHUP does not read the files of TLS"))
            .ok();
        self.look_until(stop, metrics, hangups)
    }

    async fn look_until(
        self: Arc<Self>,
        stop: CancellationToken,
        metrics: Arc<Metrics>,
        mut hangups: Option<Signal>,
    ) {
        let mut looks = interval(LOOK_PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            metrics.tls_expiry.set(Some(self.expires().0 as f64));
            let forced = tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => false,
                () = next(&mut hangups) => true,
            };
            let tls = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || tls.look(forced)).await {
                tracing::error!(error = %error, "the task that reads the files of TLS panicked");
            }
        }
    }

    fn expires(&self) -> Moment {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).loaded.expires
    }

    /// Reads the files again if they have changed or the look is forced.
    fn look(&self, forced: bool) {
        let stamps = self.files.stamps();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !forced && seen.stamps == stamps {
            drop(seen);
            return self.warn_of_time();
        }
        seen.stamps = stamps;
        let loaded = self.files.load().and_then(|loaded| loaded.check_time(Moment::now()).map(|()| loaded));
        match loaded {
            Ok(loaded) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded.config);
                tracing::info!(tls.expires = %loaded.expires, "new connections use the new files of TLS");
                seen.loaded = loaded;
                seen.warned = false;
            }
            Err(error) => {
                tracing::warn!(error = %error, "the new files of TLS cannot be used; the old ones stay in use");
            }
        }
    }

    /// Logs once that the certificate in use has expired or is not valid yet.
    fn warn_of_time(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.warned {
            return;
        }
        if let Err(error) = seen.loaded.check_time(Moment::now()) {
            tracing::warn!(error = %error, "clients refuse the certificate");
            seen.warned = true;
        }
    }
}

/// Waits for the next signal. Without signals, waits for ever.
async fn next(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => drop(signals.recv().await),
        None => std::future::pending().await,
    }
}
