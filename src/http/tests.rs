//! Tests of the HTTP listener with a site of fixed answers, over real sockets.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, interval},
};

use super::*;

/// The answer of `/readyz`, and the page of metrics.
struct Fixed(Result<(), &'static str>, String);

impl Site for Fixed {
    fn admit<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<(), Unadmitted>> {
        let refused = match headers.get("x-refused").map(http::HeaderValue::as_bytes) {
            Some(b"unauthenticated") => Err(Unadmitted::Unauthenticated("KEY_MISSING".to_owned())),
            Some(b"forbidden") => Err(Unadmitted::Forbidden),
            Some(_) => Err(Unadmitted::Unavailable),
            None => Ok(()),
        };
        Box::pin(async { refused })
    }

    fn readiness(&self) -> Result<(), &'static str> {
        self.0
    }

    fn metrics(&self, format: Format) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move { Ok(format!("{}{format:?}\n", self.1)) })
    }
}

/// Maximum time to wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Times that are short enough for tests, but long enough for a machine that is busy.
const SHORT: Times = Times {
    headers: Duration::from_millis(200),
    life: Duration::from_millis(300),
    grace: Duration::from_millis(100),
};

/// Serves a site on a free port until the token is cancelled.
async fn listening(site: Fixed, times: Times) -> (SocketAddr, JoinHandle<()>, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let stop = CancellationToken::new();
    (address, tokio::spawn(serve_within(listener, Arc::new(site), stop.clone(), times)), stop)
}

async fn connected(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

async fn send(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.expect("the server reads");
}

/// Reads until the server closes the connection. A server that closes while bytes are under way resets the connection.
async fn read_all(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).expect("an answer in UTF-8")
}

/// Sends some bytes to a new listener, and returns the status and the text of all answers.
async fn answer(readiness: Result<(), &'static str>, request: &str) -> String {
    let (address, serving, stop) = listening(Fixed(readiness, String::new()), TIMES).await;
    let mut socket = connected(address).await;
    send(&mut socket, request).await;
    let text = read_all(&mut socket).await;
    stop.cancel();
    timeout(PATIENCE, serving).await.expect("it ends").expect("no panic");
    text
}

#[tokio::test]
async fn each_page_has_its_status_and_its_text() {
    let cases = [
        ("GET /livez", Err("away"), "200 OK", "ok\n"),
        ("GET /readyz", Ok(()), "200 OK", "ok\n"),
        ("GET /readyz", Err("away"), "503 Service Unavailable", "away\n"),
        ("GET /metrics", Ok(()), "200 OK", "Text\n"),
        ("GET /metrics?x=y", Ok(()), "200 OK", "Text\n"),
        ("GET /", Ok(()), "404 Not Found", "/readyz\n"),
        ("GET /livez/", Ok(()), "404 Not Found", "/readyz\n"),
        ("GET /../metrics", Ok(()), "404 Not Found", "/readyz\n"),
        ("HEAD /livez", Ok(()), "200 OK", "\r\n\r\n"),
        ("HEAD /readyz", Err("away"), "503 Service Unavailable", "\r\n\r\n"),
    ];
    for (request, readiness, status, end) in cases {
        let text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let found = answer(readiness, &text).await;
        assert!(found.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {found}");
        assert!(found.ends_with(end), "{request}: {found}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_refused_with_the_methods_that_are_allowed() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        for path in ["/livez", "/readyz", "/metrics"] {
            let body = "connection: close\r\ncontent-length: 2\r\n\r\n{}";
            let found = answer(Ok(()), &format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{body}")).await;
            assert!(found.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{method} {path}: {found}");
            assert!(found.contains("\r\nallow: GET,HEAD\r\n"), "{method} {path}: {found}");
        }
    }
}

#[tokio::test]
async fn the_client_chooses_the_format_of_the_metrics() {
    let text = ("*/*", "text/plain; version=0.0.4; charset=utf-8", "Text\n");
    let openmetrics = "application/openmetrics-text";
    let other = (openmetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8", "OpenMetrics\n");
    for (accept, content_type, page) in [text, other] {
        let request = format!("GET /metrics HTTP/1.1\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
        let found = answer(Ok(()), &request).await;
        assert!(found.contains(&format!("\r\ncontent-type: {content_type}\r\n")), "{found}");
        assert!(found.ends_with(page), "{found}");
    }
}

#[tokio::test]
async fn headers_that_are_too_large_and_bytes_that_are_no_request_are_refused() {
    let large = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    let found = answer(Ok(()), &large).await;
    assert!(found.starts_with("HTTP/1.1 431 "), "{found}");
    let many = "x: y\r\n".repeat(1_000);
    let found = answer(Ok(()), &format!("GET /livez HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    assert!(found.starts_with("HTTP/1.1 431 "), "{found}");
    for nonsense in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "GET /livez\r\n\r\n"] {
        let found = answer(Ok(()), nonsense).await;
        assert!(!found.contains(" 200 "), "{nonsense:?}: {found}");
    }
}

#[tokio::test]
async fn a_request_whose_head_does_not_arrive_is_dropped() {
    for begun in ["", "GET /metr", "GET /metrics HTTP/1.1\r\nhost: x\r\n"] {
        let times = Times { life: PATIENCE, ..SHORT };
        let (address, serving, stop) = listening(Fixed(Ok(()), String::new()), times).await;
        let mut socket = connected(address).await;
        let began = Instant::now();
        send(&mut socket, begun).await;
        let found = timeout(PATIENCE, read_all(&mut socket)).await.expect("the server closes the connection");
        assert!(!found.contains(" 200 "), "{begun:?}: {found}");
        assert!(began.elapsed() >= times.headers, "{begun:?}");
        stop.cancel();
        serving.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_the_page_is_dropped() {
    let (address, serving, stop) = listening(Fixed(Ok(()), "x".repeat(64 << 20)), SHORT).await;
    let mut socket = connected(address).await;
    send(&mut socket, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let closed = async {
        let mut pause = interval(Duration::from_millis(10));
        // A socket whose other end is closed can soon no longer be written to.
        while socket.write_all(b"x").await.is_ok() {
            pause.tick().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("the server closes the connection");
    stop.cancel();
    serving.await.expect("no panic");
}

#[tokio::test]
async fn connections_above_the_bound_are_closed_at_once() {
    let (address, serving, stop) = listening(Fixed(Ok(()), String::new()), TIMES).await;
    let mut sockets = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        sockets.push(served_once(address).await);
    }
    assert_eq!(read_all(&mut connected(address).await).await, "");
    drop(sockets);
    stop.cancel();
    serving.await.expect("no panic");
}

#[tokio::test]
async fn the_listener_ends_although_clients_keep_their_connections() {
    let (address, serving, stop) = listening(Fixed(Ok(()), String::new()), TIMES).await;
    let (idle, silent, mut slow) =
        (served_once(address).await, connected(address).await, connected(address).await);
    send(&mut slow, "GET /li").await;
    stop.cancel();
    timeout(PATIENCE, serving).await.expect("it ends").expect("no panic");
    for mut socket in [idle, silent, slow] {
        timeout(PATIENCE, read_all(&mut socket)).await.expect("the server closes the connection");
    }
    TcpStream::connect(address).await.expect_err("it no longer listens");
}

/// Opens a connection, and makes a request on it.
async fn served_once(address: SocketAddr) -> TcpStream {
    let mut socket = connected(address).await;
    send(&mut socket, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut status = [0; 15];
    socket.read_exact(&mut status).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    socket
}

#[tokio::test]
async fn only_the_metrics_ask_who_reads_them() {
    let cases = [
        ("unauthenticated", "401 Unauthorized", "KEY_MISSING\n"),
        ("forbidden", "403 Forbidden", "for all tenants\n"),
        ("unavailable", "503 Service Unavailable", "the keys cannot be loaded\n"),
    ];
    for (refused, status, text) in cases {
        let end = format!("HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-refused: {refused}\r\n\r\n");
        let answered = answer(Ok(()), &format!("GET /metrics {end}")).await;
        assert!(
            answered.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answered.ends_with(text),
            "{answered}"
        );
        assert_eq!(answered.contains("www-authenticate: Bearer"), refused == "unauthenticated", "{answered}");
        for page in ["/livez", "/readyz"] {
            let answered = answer(Ok(()), &format!("GET {page} {end}")).await;
            assert!(answered.starts_with("HTTP/1.1 200 OK\r\n"), "{answered}");
        }
    }
}
