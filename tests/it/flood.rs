//! I8: unfinished requests, replies that the client does not read, and connections that it does not use take bounded
//! memory for a bounded time. They leave room for other clients.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tonic::Code;

use crate::harness::{
    process::Process,
    raw::{Raw, frame},
    v1::{Dimension, WatchUsageRequest},
    *,
};

/// Maximum memory of a server, with any behaviour of its clients.
const MEMORY_MAX_MIB: u64 = 200;

/// Maximum time that a connection waits for its client. The bound of the server is 10 seconds, but the machine may be
/// busy.
const BOUND: Duration = Duration::from_secs(16);

/// Maximum time that a call is open. The server allows 10 seconds each for the request, for the wait for room, and for
/// the reply.
const CALL_BOUND: Duration = Duration::from_secs(40);

const BATCH: &str = "/tope.v1.QuotaService/Batch";
const LIST: &str = "/tope.v1.QuotaService/ListReservations";
const WATCH: &str = "/tope.v1.QuotaService/WatchUsage";
const RESERVE: &str = "/tope.v1.QuotaService/Reserve";

/// Number of watchers on one connection that read nothing.
const WATCHERS: usize = 2_990;

/// The first bytes that an HTTP/2 client sends.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// An HTTP/2 PING frame: its header, and eight bytes.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Makes a body that announces a message of 4.19 MB, contains this number of bytes of the message, and never ends.
fn unfinished(bytes: usize) -> Body {
    const PIECE: usize = 16 * 1024;
    let piece = Bytes::from_static(&[0; PIECE]);
    let head = Bytes::from_static(&[0, 0, 0x3f, 0xf0, 0]);
    let pieces = std::iter::once(head).chain(std::iter::repeat_n(piece, bytes / PIECE));
    Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)).chain(stream::pending()))
}

/// Starts a server with default settings and a tenant, and a client that uses the server as intended.
async fn serve(database: &Database) -> (Process, Clients) {
    let folder = database.path("logs");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let (process, channel) = Process::serving(database.url(), &folder, &[]).await;
    let clients = Clients::of(channel);
    clients.tenant_with("acme", &[day("tokens", 1_000_000_000)]).await;
    (process, clients)
}

/// Fails unless the calls of a well-behaved client are answered.
async fn is_served(clients: &Clients) {
    clients.reserve("acme").tokens(1).await.expect("there is quota");
    let record = clients.record("acme").tokens(1).operation();
    clients.batch(vec![record; 1_000]).await.expect("there is room for a large request of others");
    clients.usage("acme").await;
}

/// Causes more events than a server keeps in memory for all watchers. Returns a cursor before these events.
async fn many_events(clients: &Clients) -> String {
    let thresholds: Vec<i32> = (1..=9).map(|tenth| tenth * 10).collect();
    clients.tenant_with("loud", &[day("tokens", 10).per(&[Dimension::User]).thresholds(&thresholds)]).await;
    let mut watcher = clients.watch(everything()).await.expect("it begins");
    watcher.update().await.expect("a heartbeat");
    let record = |user: usize| clients.record("loud").tokens(10).user(&format!("user-{user}")).operation();
    clients.batch((0..500).map(record).collect()).await.expect("each is recorded");
    watcher.cursor
}

/// Waits for the end of calls that the server cannot serve. Checks that they end in time, and with the right errors.
async fn all_end(calls: &mut JoinSet<Result<Option<No>, hyper::Error>>) -> Vec<No> {
    let mut ends = Vec::new();
    let ended = timeout(CALL_BOUND, async {
        while let Some(call) = calls.join_next().await {
            // If the connection was closed, the call has no status.
            if let Ok(end) = call.expect("it does not panic") {
                ends.extend(end);
            }
        }
    });
    assert!(ended.await.is_ok(), "{} calls are still open after {CALL_BOUND:?}", calls.len());
    for no in &ends {
        match no.code {
            Code::DeadlineExceeded => no.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            _ => no.is(Code::Unavailable, "OVERLOADED"),
        };
        assert!(no.code != Code::Unavailable || no.retry.is_some(), "{no:?}");
    }
    ends
}

on_both! {
    async fn unfinished_requests_use_bounded_memory_for_a_bounded_time(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, clients) = serve(&database).await;
        let memory = process.watch_memory();
        let mut calls = JoinSet::new();
        let flood = Raw::connect(process.address()).await;
        for _ in 0..500 {
            let flood = flood.clone();
            calls.spawn(async move { flood.post(BATCH, &[], unfinished(4_100_000)).await });
        }
        is_served(&clients).await;
        // Each of these requests is small, but there are very many streams.
        let drops = Raw::connect(process.address()).await;
        for _ in 0..2_000 {
            let drops = drops.clone();
            calls.spawn(async move { drops.post(RESERVE, &[], unfinished(16 * 1024)).await });
        }
        is_served(&clients).await;
        let ends = all_end(&mut calls).await;
        assert_eq!(ends.len(), 2_500);
        assert!(ends.iter().any(|no| no.code == Code::DeadlineExceeded), "some had room, and no end");
        assert!(memory.peak_mib() < MEMORY_MAX_MIB, "{} MiB", memory.peak_mib());
        is_served(&clients).await;
        process.stop().await;
    }

    /// The connections may belong to several clients or to one client.
    async fn many_connections_use_no_more_memory_than_one(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, clients) = serve(&database).await;
        let memory = process.watch_memory();
        let mut calls = JoinSet::new();
        let text = "m".repeat(8_000);
        for _ in 0..8 {
            let flood = Raw::connect(process.address()).await;
            for _ in 0..60 {
                let flood = flood.clone();
                calls.spawn(async move { flood.post(BATCH, &[], unfinished(4_100_000)).await });
            }
            for _ in 0..60 {
                let (flood, text) = (flood.clone(), text.clone());
                calls.spawn(async move { flood.post(RESERVE, &[("x-large", &text)], unfinished(0)).await });
            }
        }
        clients.reserve("acme").tokens(1).await.expect("there is room for a small request of others");
        let ends = all_end(&mut calls).await;
        assert!(ends.iter().any(|no| no.code == Code::Unavailable), "not all of it has room");
        assert!(memory.peak_mib() < MEMORY_MAX_MIB, "{} MiB", memory.peak_mib());
        is_served(&clients).await;
        process.stop().await;
    }

    async fn replies_that_no_client_reads_use_bounded_memory_for_a_bounded_time(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, clients) = serve(&database).await;
        let value = "v".repeat(100);
        let labels: Vec<String> = (0..16).map(|number| format!("label-{number}")).collect();
        let mut reserve = clients.reserve("acme").tokens(1).request;
        reserve.labels = labels.into_iter().map(|key| (key, value.clone())).collect();
        let operation = v1::operation::Operation::Reserve(reserve);
        clients.batch(vec![v1::Operation { operation: Some(operation) }; 1_000]).await.expect("held");
        let list = clients.list("acme").with(|request| request.page_size = 1_000).request;
        let memory = process.watch_memory();
        let mut calls = JoinSet::new();
        let mut deaf = Vec::new();
        for _ in 0..2 {
            let connection = Raw::connect_deaf(process.address()).await;
            for _ in 0..400 {
                let (connection, list) = (connection.clone(), frame(&list.encode_to_vec()));
                calls.spawn(async move { connection.post(LIST, &[], Body::from(list)).await });
            }
            deaf.push(connection);
        }
        let page = clients.quota.clone().list_reservations(list.clone()).await;
        let page = page.expect("two connections leave room for others").into_inner();
        assert_eq!(page.reservations.len(), 1_000);
        assert!(page.encoded_len() > 1_700_000, "{} bytes", page.encoded_len());
        all_end(&mut calls).await;
        assert!(deaf.iter().all(Raw::is_closed), "who takes nothing is not served");
        assert!(memory.peak_mib() < MEMORY_MAX_MIB, "{} MiB", memory.peak_mib());
        is_served(&clients).await;
        process.stop().await;
    }

    /// There are also watchers that read nothing. The events at their places are no longer in the memory that all
    /// watchers share.
    async fn all_floods_at_once_use_no_more_memory(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, clients) = serve(&database).await;
        let cursor = many_events(&clients).await;
        let memory = process.watch_memory();
        let request = WatchUsageRequest { cursor, heartbeat_interval: None, ..everything() };
        let watch = frame(&request.encode_to_vec());
        let mut watchers = JoinSet::new();
        let connection = Raw::connect_narrow(process.address(), 300).await;
        for _ in 0..WATCHERS {
            let (connection, watch) = (connection.clone(), watch.clone());
            watchers.spawn(async move { connection.open(WATCH, &[], Body::from(watch)).await });
        }
        let watchers = watchers.join_all().await;
        assert!(watchers.iter().all(Result::is_ok), "they watch");
        let list = frame(&clients.list("acme").with(|request| request.page_size = 1_000).request.encode_to_vec());
        let text = "m".repeat(8_000);
        let mut calls = JoinSet::new();
        for _ in 0..8 {
            let (flood, deaf) = (Raw::connect(process.address()).await, Raw::connect_deaf(process.address()).await);
            for _ in 0..60 {
                let (flood, deaf, list) = (flood.clone(), deaf.clone(), list.clone());
                let large = flood.clone();
                calls.spawn(async move { large.post(BATCH, &[], unfinished(4_100_000)).await });
                calls.spawn(async move { deaf.post(LIST, &[], Body::from(list)).await });
                let text = text.clone();
                calls.spawn(async move { flood.post(RESERVE, &[("x-large", &text)], unfinished(0)).await });
            }
            for _ in 0..500 {
                let flood = flood.clone();
                calls.spawn(async move { flood.post(RESERVE, &[], unfinished(0)).await });
            }
        }
        clients.reserve("acme").tokens(1).await.expect("there is room for a small request of others");
        all_end(&mut calls).await;
        assert!(memory.peak_mib() < MEMORY_MAX_MIB, "{} MiB", memory.peak_mib());
        is_served(&clients).await;
        process.stop().await;
    }

    async fn a_client_that_does_not_read_small_replies_is_disconnected(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, clients) = serve(&database).await;
        let reserve = frame(&clients.reserve("acme").tokens(1).request.encode_to_vec());
        let mut calls = JoinSet::new();
        let deaf = Raw::connect_deaf(process.address()).await;
        for _ in 0..1_000 {
            let (deaf, reserve) = (deaf.clone(), reserve.clone());
            calls.spawn(async move { deaf.post(RESERVE, &[], Body::from(reserve)).await });
        }
        all_end(&mut calls).await;
        assert!(deaf.is_closed());
        process.stop().await;
    }

    async fn a_socket_without_preface_and_settings_is_closed_after_10_seconds(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, clients) = serve(&database).await;
        let reserve = frame(&clients.reserve("acme").tokens(1).request.encode_to_vec());
        let idle = Raw::connect(process.address()).await;
        let served = async || idle.post(RESERVE, &[], Body::from(reserve.clone())).await.expect("an answer");
        assert!(served().await.is_none());
        let half_settings = [PREFACE, b"\0\0\x06\x04\0\0\0\0\0", b"\0"].concat();
        let begun = Instant::now();
        let mut sockets = Vec::new();
        for first in [&b""[..], b"P", &PREFACE[..12], PREFACE, &half_settings] {
            for _ in 0..100 {
                let mut socket = TcpStream::connect(process.address()).await.expect("it listens");
                socket.write_all(first).await.expect("it is taken");
                sockets.push(socket);
            }
        }
        let closed = join_all(sockets.iter_mut().map(async |socket| {
            let mut rest = Vec::new();
            // The server closes the socket or resets it.
            let _ = timeout(BOUND, socket.read_to_end(&mut rest)).await.expect("it is closed in time");
        }));
        closed.await;
        assert!(begun.elapsed() > Duration::from_secs(9), "they had time: {:?}", begun.elapsed());
        // A connection with preface and SETTINGS stays open, although it was silent for the same time.
        assert!(served().await.is_none());
        process.stop().await;
    }

    /// The client sends requests, and does not read replies.
    async fn a_connection_whose_client_takes_no_bytes_is_closed(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, clients) = serve(&database).await;
        let mut socket = TcpStream::connect(process.address()).await.expect("it listens");
        socket.write_all(&[PREFACE, SETTINGS].concat()).await.expect("it is taken");
        let pings = PING.repeat(1_000);
        let mut written = 0;
        let cut = timeout(3 * BOUND, async {
            while socket.write_all(&pings).await.is_ok() {
                written += pings.len();
            }
        });
        assert!(cut.await.is_ok(), "it is still open after {written} bytes");
        is_served(&clients).await;
        process.stop().await;
    }

    async fn a_connection_beyond_the_bound_is_closed_at_once(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, clients) = serve(&database).await;
        let memory = process.watch_memory();
        let mut open = Vec::new();
        while open.len() < 1_100 && !is_refused(process.address(), &mut open).await {}
        // `clients` has one of the 1,024 connections.
        assert_eq!(open.len(), 1_023);
        is_served(&clients).await;
        assert!(memory.peak_mib() < MEMORY_MAX_MIB / 2, "{} MiB for connections alone", memory.peak_mib());
        open.clear();
        eventually("there is room again", async || {
            let mut one = Vec::new();
            (!is_refused(process.address(), &mut one).await).then_some(())
        })
        .await;
        process.stop().await;
    }
}

/// Opens another connection. Returns whether the server closed it at once.
async fn is_refused(address: SocketAddr, open: &mut Vec<TcpStream>) -> bool {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let greeted = socket.write_all(&[PREFACE, SETTINGS].concat()).await;
    let mut first = [0; 1];
    // A server that accepts the connection sends its own greeting.
    let answered = timeout(BOUND, socket.read(&mut first)).await.expect("an answer");
    let taken = greeted.is_ok() && matches!(answered, Ok(1));
    if taken {
        open.push(socket);
    }
    !taken
}
