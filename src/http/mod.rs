//! The HTTP listener for operators and their machines: whether the process lives, whether it is ready, and its metrics.
//! It is HTTP/1.1, on an address of its own.
//!
//! The listener bounds what a client may take from the server: the number of connections, the size of headers, the time
//! for a request and for its answer, and the life of a connection.

mod accept;

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::BoxFuture;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::accept::format_for;
use crate::{metrics::Format, seldom::Seldom};

/// Maximum number of open connections. The server closes each further connection at once.
pub const CONNECTIONS_MAX: usize = 64;

/// Maximum size of the line and the headers of a request.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Maximum time to make a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The times that bound a connection.
const TIMES: Times =
    Times { headers: Duration::from_secs(10), life: Duration::from_secs(60), grace: Duration::from_secs(2) };

/// The pause after an `accept` that failed because file descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Times that bound a connection.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Maximum time for the headers of a request, and for which a connection may wait for the next request.
    headers: Duration,
    /// The life of a connection. After that time it takes no further request.
    life: Duration,
    /// Maximum time for the last answer of a connection, and for which the listener waits for its connections at the
    /// end.
    grace: Duration,
}

/// Why a client may not read the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unadmitted {
    /// The client has shown no valid key. The text says why.
    Unauthenticated(String),
    /// The key does not permit it.
    Forbidden,
    /// The keys cannot be loaded.
    Unavailable,
}

/// The answers that the listener gives.
pub trait Site: Send + Sync + 'static {
    /// Decides whether a client with these headers may read the metrics.
    fn admit<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<(), Unadmitted>>;

    /// Returns `Ok` if calls can succeed, or the reason why not, in a few words.
    fn readiness(&self) -> Result<(), &'static str>;

    /// Makes the page of metrics in a format. `Err`: a defect.
    fn metrics(&self, format: Format) -> BoxFuture<'_, Result<String, String>>;
}

/// Serves the pages until `shutdown` is cancelled. Then it answers the requests that it has accepted, and ends.
pub async fn serve(listener: TcpListener, site: Arc<dyn Site>, shutdown: CancellationToken) {
    serve_within(listener, site, shutdown, TIMES).await;
}

async fn serve_within(listener: TcpListener, site: Arc<dyn Site>, shutdown: CancellationToken, times: Times) {
    let router = router(site);
    let connections = TaskTracker::new();
    loop {
        let socket = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match socket {
            Ok((socket, _)) if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(run_connection(socket, router.clone(), shutdown.clone(), times));
            }
            Ok(_) => {
                static FULL: Seldom<()> = Seldom::new();
                if let Some(left_out) = FULL.due(()) {
                    tracing::warn!(
                        http.connections = CONNECTIONS_MAX,
                        log.left_out = left_out,
                        "too many connections of the HTTP listener: closing new ones"
                    );
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    connections.close();
    // Connections end by themselves within the same time.
    let _ = timeout(times.grace, connections.wait()).await;
}

async fn pause_after(error: &io::Error) {
    static FAILED: Seldom<()> = Seldom::new();
    if let Some(left_out) = FAILED.due(()) {
        tracing::warn!(error = %error, log.left_out = left_out, "the HTTP listener cannot accept a connection");
    }
    sleep(ACCEPT_PAUSE).await;
}

async fn run_connection(socket: TcpStream, router: Router, shutdown: CancellationToken, times: Times) {
    let mut http1 = http1::Builder::new();
    http1.timer(TokioTimer::new()).header_read_timeout(times.headers).max_buf_size(HEADER_BYTES_MAX);
    let mut connection = pin!(http1.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router)));
    tokio::select! {
        served = connection.as_mut() => return note(served),
        () = shutdown.cancelled() => {}
        () = sleep(times.life) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(served) = timeout(times.grace, connection).await {
        note(served);
    }
}

fn note(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(error = %error, "a connection of the HTTP listener failed");
    }
}

fn router(site: Arc<dyn Site>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "there is no such page; see /metrics, /livez and /readyz\n")
        })
        .with_state(site)
}

async fn readyz(State(site): State<Arc<dyn Site>>) -> Response {
    match site.readiness() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(site): State<Arc<dyn Site>>, headers: HeaderMap) -> Response {
    let format = format_for(&headers);
    let page = async {
        site.admit(&headers).await?;
        Ok::<_, Unadmitted>(site.metrics(format).await)
    };
    match timeout(PAGE_TIMEOUT, page).await {
        Ok(Ok(Ok(page))) => ([(CONTENT_TYPE, format.content_type())], page).into_response(),
        Ok(Ok(Err(error))) => {
            tracing::error!(error, "the page of metrics cannot be written, which is a defect");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Ok(Err(unadmitted)) => unadmitted.into_response(),
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the metrics were not collected in time\n").into_response()
        }
    }
}

impl IntoResponse for Unadmitted {
    fn into_response(self) -> Response {
        match self {
            Unadmitted::Unauthenticated(reason) => {
                (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], format!("{reason}\n"))
                    .into_response()
            }
            Unadmitted::Forbidden => {
                let text = "the metrics need a key of the role viewer, operator or admin for all tenants\n";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Unadmitted::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "the keys cannot be loaded\n").into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests;
