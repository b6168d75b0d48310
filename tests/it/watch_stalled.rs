//! Watchers that do not read. They delay no other watcher and no shutdown, and they lose no event.

use std::time::{Duration, Instant};

use prost::Message;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::harness::{
    v1::{watch_usage_response::Update, *},
    watching::Watcher,
    *,
};

/// Number of bytes that a client accepts on one stream before it reads.
const WINDOW_BYTES: u32 = 16 * 1024;

/// Minimum size of the events: more than fits into the window and the server's buffers.
const EVENTS_BYTES_MIN: usize = 256 * 1024;

/// Number of Records. Each Record has another user, and emits ten events: nine thresholds, and the limit.
const RECORDS: usize = 400;
const EVENTS_OF_ONE: usize = 10;

/// The maximum time in which a server with default settings must shut down.
const DRAIN: Duration = Duration::from_secs(tope::config::DRAIN_DEFAULT_SECONDS);

/// The first bytes that an HTTP/2 client sends: the preface, and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn narrow(world: &World) -> Channel {
    let endpoint = Endpoint::from_shared(world.target()).expect("an address");
    endpoint.initial_stream_window_size(WINDOW_BYTES).connect().await.expect("it listens")
}

async fn prepare(world: &World) {
    let thresholds: Vec<i32> = (1..=9).map(|tenth| tenth * 10).collect();
    world.tenant_with("acme", &[day("tokens", 10).per(&[Dimension::User]).thresholds(&thresholds)]).await;
    world.events_of("acme").await;
}

/// Causes many events. Checks that each active watcher gets the same events, and returns them.
async fn many(world: &World, active: &mut [Watcher]) -> Vec<Event> {
    let record = |user: usize| world.record("acme").tokens(10).user(&format!("user-{user}")).operation();
    world.batch((0..RECORDS).map(record).collect()).await.expect("each is recorded");
    let mut all = Vec::new();
    for watcher in active {
        let mut events = Vec::new();
        while events.len() < RECORDS * EVENTS_OF_ONE {
            events.push(watcher.event().await);
            // Calls are answered in the meantime.
            if events.len() % 500 == 0 {
                world.check("acme").tokens(1).user("other").await.expect("there is quota");
            }
        }
        assert!(all.is_empty() || all == events);
        all = events;
    }
    let bytes: usize = all.iter().map(Message::encoded_len).sum();
    assert!(bytes > EVENTS_BYTES_MIN, "{bytes} bytes do not use up the window");
    all
}

both! {
    async fn a_watcher_that_does_not_read_delays_nobody_and_gets_all_events_later(world: World) {
        prepare(world).await;
        let mut active = Vec::new();
        for _ in 0..3 {
            active.push(world.watch(everything()).await.expect("it begins"));
            active.last_mut().expect("it was pushed").update().await.expect("a heartbeat");
        }
        let mut stalled = Clients::of(narrow(world).await).watch(everything()).await.expect("it begins");
        let expected = many(world, &mut active).await;
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            heard.push(stalled.event().await);
        }
        assert_eq!(heard, expected);
    }

    /// Clients that have sent nothing, or only a part of a preface, do not delay the shutdown, either.
    async fn a_server_shuts_down_soon_although_clients_do_not_read(world: World) {
        prepare(world).await;
        let mut active = [world.watch(everything()).await.expect("it begins")];
        active[0].update().await.expect("a heartbeat");
        let mut stalled = Clients::of(narrow(world).await).watch(everything()).await.expect("it begins");
        let silent = TcpStream::connect(world.address()).await.expect("it listens");
        let mut mute = TcpStream::connect(world.address()).await.expect("it listens");
        mute.write_all(PREFACE).await.expect("it is open");
        let mut broken_off = TcpStream::connect(world.address()).await.expect("it listens");
        broken_off.write_all(&PREFACE[..9]).await.expect("it is open");
        let expected = many(world, &mut active).await;
        let begun = Instant::now();
        world.stop().await;
        assert!(begun.elapsed() < DRAIN / 2, "it took {:?}", begun.elapsed());
        active[0].end().await.is(Code::Unavailable, "DRAINING");
        drop((silent, mute, broken_off));
        // The watcher gets the events that were on the way, in order, and then the end of the stream.
        let mut heard = Vec::new();
        let no = loop {
            match stalled.update().await {
                Ok(Update::Event(event)) => heard.push(event),
                Ok(_) => {}
                Err(no) => break no,
            }
        };
        assert!([Code::Cancelled, Code::Unavailable, Code::Unknown].contains(&no.code), "{no:?}");
        assert_eq!(heard, expected[..heard.len()]);
        assert!(heard.len() < expected.len(), "its window was not used up");
        // The watcher resumes, and gets the other events.
        world.restart().await;
        let resume = WatchUsageRequest { cursor: stalled.cursor, ..everything() };
        let mut again = world.watch(resume).await.expect("resumed");
        while heard.len() < expected.len() {
            heard.push(again.event().await);
        }
        assert_eq!(heard, expected);
    }

    async fn snapshots_that_no_client_reads_do_not_delay_other_snapshots(world: World) {
        prepare(world).await;
        for portion in 0..3 {
            let record =
                |user: usize| world.record("acme").tokens(1).user(&format!("{portion}-{user}")).operation();
            world.batch((0..1_000).map(record).collect()).await.expect("each is recorded");
        }
        let request = WatchUsageRequest { tenant: "acme".into(), snapshot: true, ..everything() };
        // One connection has room for six such snapshots, and all connections have room for twenty.
        let mut held = Vec::new();
        for _ in 0..4 {
            let stalled = Clients::of(narrow(world).await);
            for _ in 0..4 {
                held.push(stalled.watch(request.clone()).await.expect("it begins"));
            }
        }
        let mut watcher = world.watch(request.clone()).await.expect("there is room");
        let whole = balances_of_snapshot(&mut watcher).await;
        assert!(whole >= 3_000, "{whole}");
        assert_eq!(balances_of_snapshot(&mut held[15]).await, whole);
    }
}

/// Returns the number of balances in the snapshot with which a watch begins.
async fn balances_of_snapshot(watcher: &mut Watcher) -> usize {
    let mut balances = 0;
    loop {
        let Update::Snapshot(part) = watcher.update().await.expect("a part") else { panic!("not a part") };
        balances += part.balances.len();
        if part.last {
            return balances;
        }
    }
}
