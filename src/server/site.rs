//! The pages of the HTTP listener. Figures that some part of the server has anyway are collected when the page of
//! metrics is asked for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::HeaderMap;
use tokio::{
    net::TcpListener,
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{callers::admit_to_metrics, health::Health};
use crate::{
    access::Keyring,
    clock::Clock,
    engine::Engine,
    events::Feed,
    http::{Site, Unadmitted, serve},
    metrics::{Format, Metrics},
    store::{BookFigures, Store},
};

/// Maximum time to count rows in the database. The page comes without these figures if it takes longer.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// Minimum time between two counts of rows.
const COUNT_PAUSE: Duration = Duration::from_secs(15);

/// The time between two counts is at least this many times as long as a count takes. So counting takes at most one
/// hundredth of one connection's time, however many rows there are.
const COUNT_PAUSE_TIMES: u32 = 100;

/// The parts of a server that the pages show.
pub(super) struct Pages {
    store: Store,
    clock: Clock,
    engine: Arc<Engine>,
    feed: Arc<Feed>,
    health: Health,
    /// The keys that the metrics need. `None`: they need none.
    keyring: Option<Arc<Keyring>>,
    /// When rows may be counted again.
    next_count: Mutex<Option<Instant>>,
}

/// The running HTTP listener.
#[derive(Debug)]
pub(super) struct HttpListener {
    address: SocketAddr,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

impl HttpListener {
    /// Starts to serve the pages on a listener with this address.
    pub(super) fn start(listener: TcpListener, address: SocketAddr, pages: Pages) -> Self {
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Arc::new(pages), stop.clone()));
        Self { address, serving, stop }
    }

    /// Returns the address and port of the listener.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the requests that were accepted, and ends.
    pub(super) async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(error = %error, "the task of the HTTP listener panicked");
        }
    }
}

impl Site for Pages {
    fn admit<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<(), Unadmitted>> {
        Box::pin(async move {
            match &self.keyring {
                Some(keyring) => admit_to_metrics(keyring, headers).await,
                None => Ok(()),
            }
        })
    }

    fn readiness(&self) -> Result<(), &'static str> {
        self.health.readiness()
    }

    fn metrics(&self, format: Format) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let metrics = self.store.metrics();
            metrics.database.up.set(i64::from(self.store.is_available()));
            metrics.database.serving.set(i64::from(self.readiness().is_ok()));
            metrics.watchers.set(i64::try_from(self.feed.watchers()).unwrap_or(i64::MAX));
            for (lane, (operations, oldest)) in self.engine.queues().enumerate() {
                metrics.lanes.set(lane, operations, oldest);
            }
            self.count_rows(metrics).await;
            metrics.render(format)
        })
    }
}

impl Pages {
    /// Makes the pages of a server.
    pub(super) fn new(
        store: &Store,
        clock: &Clock,
        engine: &Arc<Engine>,
        feed: &Arc<Feed>,
        health: &Health,
        keyring: Option<Arc<Keyring>>,
    ) -> Self {
        Self {
            store: store.clone(),
            clock: clock.clone(),
            engine: Arc::clone(engine),
            feed: Arc::clone(feed),
            health: health.clone(),
            keyring,
            next_count: Mutex::default(),
        }
    }

    /// Counts rows, unless they were counted a short time ago. While the database is away, the figures are unknown.
    async fn count_rows(&self, metrics: &Metrics) {
        if !self.store.is_available() {
            if let Ok(mut next_count) = self.next_count.try_lock() {
                *next_count = None;
            }
            return show(metrics, None);
        }
        // While another request counts, this one shows the figures of before.
        let Ok(mut next_count) = self.next_count.try_lock() else { return };
        let began = Instant::now();
        if next_count.is_some_and(|next| began < next) {
            return;
        }
        let counted = timeout(COUNT_TIMEOUT, self.store.count_figures(self.clock.now())).await;
        *next_count = Some(Instant::now() + COUNT_PAUSE.max(began.elapsed() * COUNT_PAUSE_TIMES));
        if let Ok(Err(error)) = &counted {
            tracing::debug!(error = error as &dyn std::error::Error, "cannot count rows for the metrics");
        }
        show(metrics, counted.ok().and_then(Result::ok));
    }
}

fn show(metrics: &Metrics, figures: Option<BookFigures>) {
    let count = |count: fn(&BookFigures) -> i64| figures.as_ref().map(|figures| count(figures) as f64);
    metrics.database.open_holds.set(count(|figures| figures.open_holds));
    metrics.events.unnumbered.set(count(|figures| figures.unnumbered_events));
    metrics.deliveries.pending.set(count(|figures| figures.pending_deliveries));
    let age = |figures: BookFigures| figures.oldest_delivery.0 as f64 / 1_000.0;
    metrics.deliveries.oldest.set(figures.map(age));
}
