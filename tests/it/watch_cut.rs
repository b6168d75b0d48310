//! I6: a watcher whose stream is cut off many times, and which resumes each time, gets every event once and in order.
//! Other tests measure how soon a watcher gets an event.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{join, join_all};
use tope::{
    clock::ManualClock,
    server::{Server, ServerOptions},
};

use crate::harness::{
    v1::{watch_usage_response::Update, *},
    world::{run, settings},
    *,
};

/// Number of events that are emitted while the watcher watches.
const EVENTS: usize = 10_000;
/// Number of times that the watcher is cut off.
const CUTS: usize = 200;
/// Number of tenants that the events are about.
const TENANTS: usize = 8;
/// Number of events that one Record emits: nine thresholds, and the limit.
const EVENTS_OF_ONE: usize = 10;

fn name(number: usize) -> String {
    format!("tenant-{number}")
}

/// Causes events at one server. Each Record has a new user, whose counter begins at zero.
async fn write(clients: Clients, writer: usize, records: usize) {
    for record in 0..records {
        let tenant = name((record + writer) % TENANTS);
        let user = format!("{writer}-{record}");
        clients.record(&tenant).tokens(10).user(&user).await.expect("it is recorded");
    }
}

/// Watches until it has `total` events. It drops its stream after some messages, resumes at another server, and so on.
async fn watch_with_cuts(servers: Vec<Clients>, request: WatchUsageRequest, total: usize) -> Vec<Event> {
    let mut heard: Vec<Event> = Vec::new();
    let mut request = request;
    let mut cuts = 0;
    while heard.len() < total {
        let server = &servers[cuts % servers.len()];
        let mut watcher = server.watch(request.clone()).await.expect("it resumes");
        // The number of messages differs each time. All together are fewer than the events.
        let messages = if cuts < CUTS { 1 + (cuts * 37) % 80 } else { usize::MAX };
        let mut received = 0;
        while received < messages && heard.len() < total {
            if let Update::Event(event) = watcher.update().await.expect("the stream goes on") {
                heard.push(event);
            }
            received += 1;
        }
        request.cursor.clone_from(&watcher.cursor);
        cuts += 1;
    }
    assert!(cuts > CUTS, "it was cut off {cuts} times");
    heard
}

async fn cut_off(kind: Kind) {
    let world = World::start(kind).await;
    let thresholds: Vec<i32> = (1..=9).map(|tenth| tenth * 10).collect();
    let limit = day("tokens", 10).per(&[Dimension::User]).thresholds(&thresholds);
    world.plan("plan", &[]).await.expect("the plan is new");
    world.declare("tokens").await;
    world.change_plan("plan", &[limit]).await.expect("the plan exists");
    for number in 0..TENANTS {
        world.tenant(&name(number), "plan", "").await.expect("the tenant is new");
        world.events_of(&name(number)).await;
    }
    let mut servers = vec![world.clients().clone()];
    let mut replicas = Vec::new();
    for _ in 0..if kind == Kind::Postgres { 2 } else { 0 } {
        let (server, clients) = world.replica().await;
        replicas.push(server);
        servers.push(clients);
    }
    let mut first = world.watch(everything()).await.expect("it begins");
    first.update().await.expect("a heartbeat");
    let request = WatchUsageRequest { cursor: first.cursor, ..everything() };
    let records = EVENTS / EVENTS_OF_ONE / 6;
    let total = records * 6 * EVENTS_OF_ONE;
    let writing = (0..6).map(|writer| write(servers[writer % servers.len()].clone(), writer, records));
    let (heard, _) = join(watch_with_cuts(servers.clone(), request, total), join_all(writing)).await;
    let begun = heard[0].sequence;
    for (place, event) in heard.iter().enumerate() {
        assert_eq!(
            event.sequence,
            begun + i64::try_from(place).expect("a small number"),
            "no gap, and none twice"
        );
    }
    for number in 0..TENANTS {
        let of_tenant = heard.iter().filter(|event| event.tenant == name(number));
        let numbers: Vec<i64> = of_tenant.map(|event| event.tenant_sequence).collect();
        let expected: Vec<i64> = (2..).take(numbers.len()).collect();
        assert_eq!(numbers, expected, "each tenant's own, in order");
    }
    join_all(replicas.into_iter().map(Server::shutdown)).await;
    world.end().await;
}

#[test]
fn a_watcher_that_is_cut_off_200_times_misses_nothing_on_sqlite() {
    run(cut_off(Kind::Sqlite));
}

#[test]
fn a_watcher_that_is_cut_off_200_times_misses_nothing_through_three_replicas() {
    run(cut_off(Kind::Postgres));
}

/// Maximum number of times that the delays are measured. The other tests and programs on the machine can only make
/// delays longer, so one take within the bound shows that the server keeps it.
const TAKES: usize = 5;

/// Checks that the 99th percentile of `count` delays is below the bound.
async fn assert_delays(writer: &Clients, watching: &Clients, count: usize, bound: Duration) {
    writer.tenant_with("acme", &[day("tokens", 10).per(&[Dimension::User])]).await;
    let mut takes = Vec::new();
    while takes.len() < TAKES {
        let delays = delays(writer, watching, takes.len() * count, count).await;
        if p99(&delays) < bound {
            return;
        }
        takes.push(delays);
    }
    panic!("no take was below {bound:?}: {takes:?}");
}

/// Measures the time from the reply of a Record until a watcher on another connection gets its event. Returns the
/// sorted times of `count` Records, whose users are numbered from `first` on.
async fn delays(writer: &Clients, watching: &Clients, first: usize, count: usize) -> Vec<Duration> {
    let mut watcher =
        watching.watch(WatchUsageRequest { tenant: "acme".into(), ..everything() }).await.expect("it begins");
    watcher.update().await.expect("a heartbeat");
    let mut delays = Vec::new();
    for number in first..first + count {
        let user = format!("user-{number}");
        writer.record("acme").tokens(10).user(&user).await.expect("it is recorded");
        let answered = Instant::now();
        loop {
            let event = watcher.event().await;
            if event.kind() == EventKind::LimitReached {
                assert_eq!(event.balances[0].user.as_deref(), Some(user.as_str()));
                break;
            }
        }
        delays.push(answered.elapsed());
    }
    delays.sort_unstable();
    delays
}

/// Returns the 99th percentile of sorted delays.
fn p99(delays: &[Duration]) -> Duration {
    delays[delays.len() * 99 / 100 - 1]
}

async fn second(world: &World, listens: bool) -> (Server, Arc<Clients>) {
    let mut options = ServerOptions::new(settings(world.database.url()));
    options.clock = Some(ManualClock::at(NOON));
    options.listens = listens;
    let server = Server::start(options).await.expect("the server starts");
    let channel = clients::connect(&format!("http://{}", server.address())).await;
    clients::serving(&channel).await;
    (server, Arc::new(Clients::of(channel)))
}

#[test]
fn an_event_reaches_its_watcher_within_100_ms_on_sqlite() {
    run(async {
        let world = World::start(Kind::Sqlite).await;
        assert_delays(world.clients(), world.clients(), 100, Duration::from_millis(100)).await;
        world.end().await;
    });
}

/// The watcher is at another replica. Either a NOTIFY wakes this replica, or the replica only reads the log from time
/// to time.
#[test]
fn an_event_reaches_a_watcher_of_another_replica_within_100_ms_or_a_second_without_notify() {
    run(async {
        for (listens, bound) in [(true, 100), (false, 1_000)] {
            let world = World::start(Kind::Postgres).await;
            let (server, watching) = second(&world, listens).await;
            let count = if listens { 100 } else { 20 };
            assert_delays(world.clients(), &watching, count, Duration::from_millis(bound)).await;
            server.shutdown().await;
            world.end().await;
        }
    });
}
