//! The HTTP listener for operators and their machines: whether the process lives, whether it is ready, and its metrics.
//! It is HTTP/1.1, on an address of its own.
//!
//! The listener bounds what a client may take from the server: the number of connections, the size of headers, the time
//! for a request and for its answer, and the life of a connection.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::BoxFuture;
use http::{StatusCode, header::CONTENT_TYPE};
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

use crate::{metrics, seldom::Seldom};

/// Maximum number of open connections. The server closes each further connection at once.
pub const CONNECTIONS_MAX: usize = 64;

/// Maximum size of the line and the headers of a request.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Maximum time for the headers of a request, and for which a connection may wait for the next request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time to make a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The life of a connection. After that time it takes no further request.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// Maximum time for the last answer of a connection, and for which the listener waits for its connections at the end.
const GRACE: Duration = Duration::from_secs(2);

/// The pause after an `accept` that failed because file descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The answers that the listener gives.
pub trait Site: Send + Sync + 'static {
    /// Returns `Ok` if calls can succeed, or the reason why not, in a few words.
    fn readiness(&self) -> Result<(), &'static str>;

    /// Makes the page of metrics. `Err`: a defect.
    fn metrics(&self) -> BoxFuture<'_, Result<String, String>>;
}

/// Serves the pages until `shutdown` is cancelled. Then it answers the requests that it has accepted, and ends.
pub async fn serve(listener: TcpListener, site: Arc<dyn Site>, shutdown: CancellationToken) {
    let router = router(site);
    let connections = TaskTracker::new();
    loop {
        let socket = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match socket {
            Ok((socket, _)) if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(run_connection(socket, router.clone(), shutdown.clone()));
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
    let _ = timeout(GRACE, connections.wait()).await;
}

async fn pause_after(error: &io::Error) {
    static FAILED: Seldom<()> = Seldom::new();
    if let Some(left_out) = FAILED.due(()) {
        tracing::warn!(error = %error, log.left_out = left_out, "the HTTP listener cannot accept a connection");
    }
    sleep(ACCEPT_PAUSE).await;
}

async fn run_connection(socket: TcpStream, router: Router, shutdown: CancellationToken) {
    let mut http1 = http1::Builder::new();
    http1.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX);
    let mut connection = pin!(http1.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router)));
    tokio::select! {
        served = connection.as_mut() => return note(served),
        () = shutdown.cancelled() => {}
        () = sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(served) = timeout(GRACE, connection).await {
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

async fn metrics(State(site): State<Arc<dyn Site>>) -> Result<Response, Infallible> {
    Ok(match timeout(PAGE_TIMEOUT, site.metrics()).await {
        Ok(Ok(page)) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Ok(Err(error)) => {
            tracing::error!(error, "the page of metrics cannot be written, which is a defect");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the metrics were not collected in time\n").into_response()
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Fixed(Result<(), &'static str>);

    impl Site for Fixed {
        fn readiness(&self) -> Result<(), &'static str> {
            self.0
        }

        fn metrics(&self) -> BoxFuture<'_, Result<String, String>> {
            Box::pin(async { Ok("a 1\n".to_owned()) })
        }
    }

    /// Sends some bytes to a new listener, and returns the status and the text of all answers.
    async fn answer(site: Fixed, request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut socket =
            TcpStream::connect(listener.local_addr().expect("a bound address")).await.expect("it listens");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Arc::new(site), stop.clone()));
        socket.write_all(request.as_bytes()).await.expect("the server reads");
        let mut text = String::new();
        socket.read_to_string(&mut text).await.expect("an answer in UTF-8");
        stop.cancel();
        timeout(Duration::from_secs(20), serving).await.expect("it ends").expect("no panic");
        text
    }

    #[tokio::test]
    async fn each_page_has_its_status_and_its_text() {
        let cases = [
            ("GET /livez", Err("away"), "200 OK", "ok\n"),
            ("GET /readyz", Ok(()), "200 OK", "ok\n"),
            ("GET /readyz", Err("away"), "503 Service Unavailable", "away\n"),
            ("GET /metrics", Ok(()), "200 OK", "a 1\n"),
            ("GET /metrics?x=y", Ok(()), "200 OK", "a 1\n"),
            ("GET /", Ok(()), "404 Not Found", "/readyz\n"),
            ("GET /livez/", Ok(()), "404 Not Found", "/readyz\n"),
            ("POST /metrics", Ok(()), "405 Method Not Allowed", "\r\n\r\n"),
            ("DELETE /livez", Ok(()), "405 Method Not Allowed", "\r\n\r\n"),
            ("HEAD /livez", Ok(()), "200 OK", "\r\n\r\n"),
        ];
        for (request, readiness, status, end) in cases {
            let text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let found = answer(Fixed(readiness), &text).await;
            assert!(found.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {found}");
            assert!(found.ends_with(end), "{request}: {found}");
        }
    }

    #[tokio::test]
    async fn headers_that_are_too_large_and_bytes_that_are_no_request_are_refused() {
        let large = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(20_000));
        let found = answer(Fixed(Ok(())), &large).await;
        assert!(found.starts_with("HTTP/1.1 431 "), "{found}");
        let found = answer(Fixed(Ok(())), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(!found.contains("200"), "{found}");
    }
}
