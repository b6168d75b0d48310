//! The HTTP/2 server: tonic's routes on hyper, without tonic's `Server`.
//!
//! tonic's `Server` ends late calls as CANCELLED, in a place that our layers cannot reach. It also puts boxes and
//! layers around each call that are not needed here. This server only accepts connections, serves them, and shuts down
//! in order.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::Router;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tower::{Layer, Service as _};

use super::{
    body::Reply,
    gate::{Gate, GateFuture},
    layer::{Contract, ContractFuture, ContractLayer},
    measure::{Measured, rpc_table},
    room::{CONNECTIONS_MAX, Rooms, Share},
    rpc::Rpc,
    socket::{GREETING_TIMEOUT, Socket, Stream},
    streams::{Inbox, WithCalls},
    tcp::Tcp,
};
use crate::{
    access::PeerNames,
    grpc::tls::{Tls, peer_names},
    metrics::{Metrics, RpcTable},
    seldom::Seldom,
    traces::Traces,
};

/// Maximum number of calls that one connection may have open. The number is larger than a batch and smaller than the
/// queue of a lane. HTTP/2 makes a client with more calls wait until some of its calls end.
const STREAMS_PER_CONNECTION_MAX: u32 = 4_096;

/// Maximum number of bytes that a client may send on one stream before the server reads them. A Batch of 1,000
/// operations fits.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Maximum number of bytes that a client may send on one connection before the server reads them. Bodies are read as
/// they arrive, so this number bounds how much is read in one step. It is large, so that window updates are rare.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Maximum size of the headers of one call, as HTTP/2 counts it.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Maximum number of streams of one connection that the client has reset before the server accepted them. With its
/// default of 20, hyper closes the whole connection if the deadlines of many calls pass at the same time. A client that
/// resets more streams than this attacks the server (rapid reset).
const PENDING_RESETS_MAX: usize = 1_024;

/// The server pings a connection after it was silent for this time.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// The server closes a connection whose ping is not answered within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of bytes that are buffered on one stream for a client that does not read. One message that is larger
/// may exceed this number.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Maximum time in which calls that stream may end by themselves after the server begins to shut down.
const STREAMS_GRACE: Duration = Duration::from_secs(1);

/// Maximum number of bytes that TLS buffers on one connection for a client that does not read, in addition to
/// [`SEND_BUFFER_BYTES`].
const TLS_BUFFER_BYTES: usize = 32 * 1024;

/// The pause after an `accept` that failed because file descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What observes the calls of a listener.
#[derive(Clone, Debug, Default)]
pub struct Observers {
    /// The figures of all calls.
    pub metrics: Arc<Metrics>,
    /// The spans of sampled calls. `None`: no call is traced.
    pub traces: Option<Arc<Traces>>,
}

/// Serves `routes`, with [`ContractLayer`] around them, until `shutdown` is cancelled. Each call is recorded in
/// the metrics, and in the traces if it is sampled.
/// With `tls`, all connections are encrypted, and its files are followed.
///
/// Then the server accepts no new connection, sends GOAWAY to each client, and answers the calls that it has accepted.
/// After `drain` it closes the connections that are still open. It drops calls that stream after a second, so that
/// clients that do not read do not delay the shutdown.
///
/// # Errors
///
/// Fails if the listener cannot be used. A connection that fails is logged at DEBUG, and the others go on.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    shutdown: CancellationToken,
    drain: Duration,
    observers: Observers,
    tls: Option<Arc<Tls>>,
) -> io::Result<()> {
    let Observers { metrics, traces } = observers;
    let address = listener.local_addr()?;
    tracing::debug!(net.address = %address, "accepting connections");
    if let Some(tls) = &tls {
        tokio::spawn(Arc::clone(tls).follow(Arc::clone(&metrics), shutdown.clone()));
    }
    let routes = routes.prepare().into_axum_router();
    let connections = TaskTracker::new();
    let (rooms, rpcs) = (Arc::<Rooms>::default(), Arc::new(rpc_table(&metrics)));
    let ends = Ends { shutdown, ..Ends::default() };
    let mut full = false;
    loop {
        let socket = tokio::select! {
            () = ends.shutdown.cancelled() => break,
            socket = accept(&listener) => socket,
        };
        let was_full = std::mem::replace(&mut full, connections.len() >= CONNECTIONS_MAX);
        if full {
            if !was_full {
                tracing::warn!(net.connections = CONNECTIONS_MAX, "too many connections: closing new ones");
            }
            continue;
        }
        // Without TCP_NODELAY small replies wait up to 40 ms for an acknowledgement.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(error = %error, "cannot set TCP_NODELAY");
        }
        let door = (routes.clone(), Arc::clone(&rpcs), traces.clone());
        let share = Share::of(&rooms, socket.peer_addr().ok());
        connections.spawn(run_connection(socket, tls.clone(), door, share, ends.clone()));
    }
    drop(listener);
    connections.close();
    let ended = async {
        if timeout(STREAMS_GRACE, connections.wait()).await.is_err() {
            ends.streams.cancel();
            connections.wait().await;
        }
    };
    if timeout(drain, ended).await.is_err() {
        tracing::warn!(
            net.connections = connections.len(),
            "shutdown: closing connections that are still open after drain_seconds"
        );
        ends.streams.cancel();
        ends.cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// The steps of a shutdown, in this order. Each step begins when its token is cancelled.
#[derive(Clone, Debug, Default)]
struct Ends {
    /// No new connection and no new call is accepted.
    shutdown: CancellationToken,
    /// Calls that stream are dropped, and connections without calls are closed.
    streams: CancellationToken,
    /// All connections are closed.
    cut: CancellationToken,
}

async fn run_connection(
    socket: TcpStream,
    tls: Option<Arc<Tls>>,
    (routes, rpcs, traces): (Router, Arc<RpcTable>, Option<Arc<Traces>>),
    share: Arc<Share>,
    ends: Ends,
) {
    let greeted_until = Instant::now() + GREETING_TIMEOUT;
    let (stream, peer) = match tls {
        None => (Stream::Plain(Tcp::new(socket)), None),
        // The box keeps the task of a connection without TLS small.
        Some(tls) => match Box::pin(encrypt(socket, &tls, greeted_until, &ends.shutdown)).await {
            Some((stream, peer)) => (Stream::Tls(stream), peer),
            None => return,
        },
    };
    let inbox = Inbox::new(ends.streams.clone(), Arc::clone(&share));
    let routes = ContractLayer.layer(Gate::new(routes, Arc::clone(&share)));
    let door = Door { routes, inbox: inbox.clone(), rpcs, traces, peer };
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&share), greeted_until));
    let connection = http2_settings(inbox.clone()).serve_connection(socket, door);
    let mut connection = WithCalls::new(connection, inbox);
    // A connection without a preface has no calls, so it can be closed at once.
    if is_served(&mut connection, &ends.shutdown).await || !share.is_greeted() {
        return;
    }
    connection.connection().graceful_shutdown();
    if !is_served(&mut connection, &ends.streams).await {
        is_served(&mut connection, &ends.cut).await;
    }
}

/// Makes the handshake of TLS. Returns the connection, and the names in the certificate of the client if it has one.
/// Returns `None` if the handshake failed, if it has not ended until `until`, or if the server shuts down meanwhile.
/// Then the connection is closed.
async fn encrypt(
    socket: TcpStream,
    tls: &Tls,
    until: Instant,
    shutdown: &CancellationToken,
) -> Option<(Box<TlsStream<Tcp>>, Option<Arc<PeerNames>>)> {
    let handshake = timeout_at(until, tls.acceptor().accept(Tcp::new(socket)));
    let error = tokio::select! {
        () = shutdown.cancelled() => return None,
        ended = handshake => match ended {
            Ok(Ok(mut stream)) => {
                let session = stream.get_mut().1;
                session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
                let certificate = session.peer_certificates().and_then(<[_]>::first);
                let peer = certificate.map(|certificate| Arc::new(peer_names(certificate)));
                return Some((Box::new(stream), peer));
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        },
    };
    tracing::debug!(error = %error, "the handshake of TLS failed");
    None
}

/// Runs a connection until it ends or `end` is cancelled. Returns whether the connection ended.
async fn is_served(connection: &mut Connection, end: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        served = connection => {
            if let Some(Err(error)) = served {
                tracing::debug!(error = %error, "connection failed");
            }
            true
        }
        () = end.cancelled() => false,
    }
}

type Connection = WithCalls<http2::Connection<TokioIo<Socket>, Door, Inbox>>;

/// Waits for the next connection. An error never ends the listener: either one client has disconnected, or the server
/// has used up a resource that may be free at the next attempt.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                static FAILED: Seldom<()> = Seldom::new();
                if let Some(left_out) = FAILED.due(()) {
                    tracing::warn!(error = %error, log.left_out = left_out, "cannot accept a connection");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

fn http2_settings(inbox: Inbox) -> http2::Builder<Inbox> {
    let mut http2 = http2::Builder::new(inbox);
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // gRPC does not use the header `date`.
        .auto_date_header(false);
    http2
}

/// The routes as a service of hyper, for one connection. The service is always ready, and a clone is cheap.
struct Door {
    routes: Contract<Gate>,
    inbox: Inbox,
    rpcs: Arc<RpcTable>,
    traces: Option<Arc<Traces>>,
    /// The names in the certificate of the client. `None`: the client has shown no certificate.
    peer: Option<Arc<PeerNames>>,
}

impl hyper::service::Service<Request<Incoming>> for Door {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Measured<ContractFuture<GateFuture>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        let path = request.uri().path();
        let (mut timer, streams) = (self.rpcs.begin(path), Rpc::of(path).streams());
        if let Some(trace) = self.traces.as_ref().and_then(|traces| traces.call(request.headers())) {
            request.extensions_mut().insert(Arc::clone(&trace));
            timer.follow(trace);
        }
        self.inbox.announce(streams);
        Measured::new(self.routes.clone().call(request), timer, streams)
    }
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;
    use tonic_health::{
        ServingStatus,
        pb::{HealthCheckRequest, health_client::HealthClient},
        server::health_reporter,
    };

    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_server_serves_until_shutdown_and_closes_connections_after_the_drain() {
        let (reporter, health) = health_reporter();
        reporter.set_service_status("", ServingStatus::Serving).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a valid address");
        let shutdown = CancellationToken::new();
        let (routes, ended) = (Routes::new(health), shutdown.clone());
        let server = tokio::spawn(serve(
            listener,
            routes,
            ended,
            Duration::from_millis(50),
            Observers::default(),
            None,
        ));

        let mut client = HealthClient::new(endpoint.connect().await.expect("the server accepts"));
        let request = HealthCheckRequest { service: String::new() };
        let reply = client.check(request.clone()).await.expect("an answer").into_inner();
        assert_eq!(reply.status, 1);
        let mut watch = client.watch(request).await.expect("a stream").into_inner();
        assert!(watch.message().await.expect("the state of now").is_some());

        shutdown.cancel();
        let served = timeout(BOUND, server).await.expect("the drain is bounded").expect("no panic");
        assert!(served.is_ok());
        let rest = timeout(BOUND, watch.message()).await.expect("the stream was cut");
        assert!(!matches!(rest, Ok(Some(_))), "{rest:?}");
        assert!(endpoint.connect().await.is_err());
    }

    #[tokio::test]
    async fn the_server_ends_at_once_if_no_connection_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let hour = Duration::from_secs(3600);
        let served = serve(listener, Routes::default(), shutdown, hour, Observers::default(), None);
        assert!(timeout(BOUND, served).await.expect("nothing to wait for").is_ok());
    }
}
