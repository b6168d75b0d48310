//! WatchUsage: which events a watcher gets, where a watch begins, and how it ends.

use futures::future::{join_all, try_join_all};
use tonic::Code;
use tope::server::{Server, ServerOptions};

use crate::harness::{
    process::{run, said, tope},
    v1::{EventKind::*, watch_usage_response::Update, *},
    world::settings,
    *,
};

/// Creates a tenant for which the first Record of 10 tokens on each day emits two events.
async fn limited(world: &World, tenant: &str) {
    world.tenant_with(tenant, &[day("tokens", 10).thresholds(&[50])]).await;
}

/// Causes two events, and moves the clock to the next day.
async fn two_events(world: &World, tenant: &str) {
    world.record(tenant).tokens(10).await.expect("it is recorded");
    world.clock.advance(DAY);
}

const TWO: [KindAndPercent; 2] = [(ThresholdReached, 50), (LimitReached, 100)];

both! {
    async fn a_watcher_gets_events_as_they_happen_and_heartbeats_with_a_cursor(world: World) {
        limited(world, "acme").await;
        world.events_of("acme").await;
        let mut watcher = world.watch(everything()).await.expect("it begins");
        assert!(matches!(watcher.update().await, Ok(Update::Heartbeat(_))), "the first message comes at once");
        let first = watcher.cursor.clone();
        assert!(!first.is_empty());
        two_events(world, "acme").await;
        let mut events = vec![watcher.event().await, watcher.event().await];
        assert_eq!(kinds_of(&events), TWO);
        assert_eq!(events, world.events_of("acme").await, "as the log has them");
        assert_ne!(watcher.cursor, first);
        // A watch from the earlier cursor gets both events again.
        let mut again = world.watch(WatchUsageRequest { cursor: first, ..everything() }).await.expect("resumed");
        assert_eq!([again.event().await, again.event().await], *events);
        assert_eq!(again.cursor, watcher.cursor);
        two_events(world, "acme").await;
        events = vec![again.event().await, again.event().await];
        assert_eq!(events, [watcher.event().await, watcher.event().await]);
        world.restart().await;
        let mut resumed = WatchUsageRequest { cursor: again.cursor, ..everything() };
        let mut after = world.watch(resumed.clone()).await.expect("resumed");
        assert_eq!(after.events().await, []);
        two_events(world, "acme").await;
        assert_eq!(kinds_of(&[after.event().await, after.event().await]), TWO);
        resumed.cursor = after.cursor;
        let mut quiet = world.watch(resumed).await.expect("resumed");
        assert_eq!(quiet.events().await, []);
        assert_eq!(quiet.events().await, [], "one heartbeat a second");
    }

    async fn each_filter_of_a_watch_passes_only_matching_events(world: World) {
        let limits = [
            day("tokens", 100).thresholds(&[50, 80]),
            day("requests", 4).named("agent").per(&[Dimension::Agent]),
        ];
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &limits).await;
        }
        let begin = |change: fn(&mut WatchUsageRequest)| {
            let mut request = everything();
            change(&mut request);
            world.watch(request)
        };
        let rows = filters();
        let mut watchers = Vec::new();
        for (change, _) in rows {
            let mut watcher = begin(change).await.expect("it begins");
            // The watcher gets no older event: its first message is a heartbeat.
            watcher.update().await.expect("a heartbeat");
            watchers.push(watcher);
        }
        stir(world).await;
        let all = world.all_events(ListEventsRequest::default()).await;
        let mut last = world.watch(everything()).await.expect("it begins");
        last.update().await.expect("a heartbeat");
        for (watcher, (_, wants)) in watchers.iter_mut().zip(rows) {
            let expected: Vec<&Event> = all.iter().filter(|e| e.change.is_none() && wants(e)).collect();
            assert!(!expected.is_empty());
            let mut heard = Vec::new();
            while heard.len() < expected.len() {
                let event = watcher.event().await;
                if event.change.is_none() {
                    heard.push(event);
                }
            }
            assert_eq!(heard.iter().collect::<Vec<_>>(), expected);
            // The watcher gets no other events until the end of the log.
            eventually("it is at the end of the log", async || {
                assert_eq!(watcher.events().await.iter().filter(|e| e.change.is_none()).count(), 0);
                (watcher.cursor == last.cursor).then_some(())
            })
            .await;
        }
    }

    async fn a_snapshot_has_all_balances_and_events_follow_it(world: World) {
        let per_user = day("tokens", 10).named("user").per(&[Dimension::User]);
        world.tenant_with("acme", &[day("tokens", 100_000).thresholds(&[50]), per_user]).await;
        let record = |user: i64| world.record("acme").tokens(1).user(&user.to_string()).operation();
        for portion in 0..3 {
            world.batch((portion * 1_000..(portion + 1) * 1_000).map(record).collect()).await.expect("they fit");
        }
        // Wait until the event of the tenant's creation has its place in the log, before the snapshot.
        world.events_of("acme").await;
        let request = WatchUsageRequest { tenant: "acme".into(), snapshot: true, ..everything() };
        let mut watcher = world.watch(request.clone()).await.expect("it begins");
        let mut balances = Vec::new();
        loop {
            let Update::Snapshot(part) = watcher.update().await.expect("a part") else { panic!("a part") };
            assert!(part.balances.len() <= 1_000 && part.last != watcher.cursor.is_empty());
            balances.extend(part.balances);
            if part.last {
                break;
            }
        }
        assert_eq!(balances.len(), 3_001);
        assert_eq!(balances, world.usage("acme").await);
        world.record("acme").tokens(50_000).user("0").await.expect("it is recorded");
        let events = [watcher.event().await, watcher.event().await];
        let mut kinds = kinds_of(&events);
        kinds.sort_unstable();
        assert_eq!(kinds, TWO);
        let mut empty = world.watch(WatchUsageRequest { agent: Some("nobody".into()), ..request }).await.expect("it begins");
        let Ok(Update::Snapshot(part)) = empty.update().await else { panic!("a part") };
        assert!(!part.balances.is_empty() && part.balances.iter().all(|balance| balance.agent.is_none()));
    }

    async fn invalid_watch_requests_are_refused(world: World) {
        limited(world, "acme").await;
        world.events_of("acme").await;
        let cases: &[Case<WatchUsageRequest>] = &[
            ("tenant", |request| request.tenant = "a\0b".into()),
            ("tenant", |request| request.snapshot = true),
            ("agent", |request| request.agent = Some("x".repeat(129))),
            ("resources[0]", |request| request.resources = vec!["undeclared".into()]),
            ("resources[2]", |request| request.resources = ["tokens", "tokens", "undeclared"].map(Into::into).into()),
            ("resources", |request| request.resources = vec!["tokens".into(); 101]),
            ("kinds[0]", |request| request.kinds = vec![99]),
            ("kinds[1]", |request| request.kinds = vec![1, 0]),
            ("min_percent", |request| request.min_percent = 1_001),
            ("min_percent", |request| request.min_percent = -1),
            ("heartbeat_interval", |request| request.heartbeat_interval = Some(call::span(999))),
            ("heartbeat_interval", |request| request.heartbeat_interval = Some(call::span(300_001))),
            ("cursor", |request| request.cursor = "nonsense".into()),
            ("cursor", |request| request.cursor = "AQ".into()),
        ];
        for (field, spoil) in cases {
            let mut request = everything();
            spoil(&mut request);
            let no = world.watch(request).await.err().unwrap_or_else(|| panic!("{field} is at fault"));
            no.names(&[field]);
        }
        let often = WatchUsageRequest { resources: vec!["tokens".into(); 100], ..everything() };
        world.watch(often).await.expect("a hundred times the same is one");
        let nobody = WatchUsageRequest { tenant: "nobody".into(), ..everything() };
        let no = world.watch(nobody).await.err().expect("there is none");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
        let mut watcher = world.watch(everything()).await.expect("it begins");
        watcher.update().await.expect("a heartbeat");
        let both = WatchUsageRequest {
            cursor: watcher.cursor.clone(),
            snapshot: true,
            tenant: "acme".into(),
            ..everything()
        };
        world.watch(both).await.err().expect("either").names(&["cursor"]);
    }

    async fn a_cursor_of_the_future_or_of_another_log_is_refused(world: World) {
        limited(world, "acme").await;
        world.events_of("acme").await;
        let mut watcher = world.watch(everything()).await.expect("it begins");
        watcher.update().await.expect("a heartbeat");
        two_events(world, "acme").await;
        world.events_of("acme").await;
        watcher.event().await;
        let resume = WatchUsageRequest { cursor: watcher.cursor, ..everything() };
        world.watch(resume.clone()).await.expect("it is of this log");
        world.database.execute("UPDATE event_log SET last_sequence = last_sequence - 2").await;
        let no = world.watch(resume.clone()).await.err().expect("of the future");
        assert!(no.names(&["cursor"]).message.contains("after the end of the log"), "{no:?}");
        world.database.execute("UPDATE event_log SET last_sequence = last_sequence + 2").await;
        world.stop().await;
        let mut command = tope();
        command.args(["migrate", "--new-log", "--database", world.database.url()]);
        let output = run(command).await;
        assert!(output.status.success(), "{}", said(&output));
        world.restart().await;
        let no = world.watch(resume).await.err().expect("of another log");
        assert!(no.names(&["cursor"]).message.contains("another log"), "{no:?}");
    }

    async fn a_cursor_older_than_the_log_is_refused_with_the_oldest_cursor(world: World) {
        limited(world, "acme").await;
        world.events_of("acme").await;
        let mut watcher = world.watch(everything()).await.expect("it begins");
        watcher.update().await.expect("a heartbeat");
        let old = watcher.cursor.clone();
        two_events(world, "acme").await;
        two_events(world, "acme").await;
        world.events_of("acme").await;
        world.clock.set(NOON + 30 * DAY);
        assert_eq!(world.prune_events().await, 5);
        let no = world.watch(WatchUsageRequest { cursor: old, ..everything() }).await.err().expect("too old");
        no.is(Code::OutOfRange, "CURSOR_EXPIRED");
        let cursor = no.metadata["oldest_cursor"].clone();
        let mut again = world.watch(WatchUsageRequest { cursor, ..everything() }).await.expect("the oldest");
        assert_eq!(kinds_of(&[again.event().await, again.event().await]), TWO);
    }

    async fn a_server_that_shuts_down_asks_its_watchers_to_resume(world: World) {
        limited(world, "acme").await;
        let mut watcher = world.watch(everything()).await.expect("it begins");
        let mut ignored = world.watch(everything()).await.expect("it begins");
        watcher.update().await.expect("a heartbeat");
        world.stop().await;
        for watcher in [&mut watcher, &mut ignored] {
            let no = watcher.end().await;
            no.is(Code::Unavailable, "DRAINING");
            assert!(no.message.contains("resume") && no.retry.is_some(), "{no:?}");
        }
    }

    /// A thousand watchers at the end of the log share one read of the log.
    async fn a_thousand_watchers_get_each_event_once(world: World) {
        limited(world, "acme").await;
        world.events_of("acme").await;
        let target = world.target();
        let connections = join_all((0..10).map(|_| clients::connect(&target))).await;
        let begin = |number: usize| {
            let clients = Clients::of(connections[number % 10].clone());
            async move { clients.watch(everything()).await }
        };
        let mut watchers = try_join_all((0..1_000).map(begin)).await.expect("they begin");
        join_all(watchers.iter_mut().map(|watcher| watcher.update())).await;
        for _ in 0..10 {
            two_events(world, "acme").await;
        }
        let expected = world.events_of("acme").await;
        let heard = join_all(watchers.iter_mut().map(async |watcher| {
            let mut events = Vec::new();
            while events.len() < expected.len() {
                events.push(watcher.event().await);
            }
            events
        }))
        .await;
        assert!(heard.iter().all(|events| *events == expected));
    }
}

/// Causes thresholds, refusals and an expired hold for two tenants and two agents.
async fn stir(world: &World) {
    for tenant in ["acme", "globex"] {
        for agent in ["planner", "coder"] {
            let record = world.record(tenant).tokens(50).amount("requests", 4).agent(agent);
            record.await.expect("it is recorded");
            let reserve = world.reserve(tenant).amount("requests", 1).agent(agent);
            reserve.await.expect_err("too much").is_quota(&["agent"]);
        }
    }
    world.declare("free").await;
    for tenant in ["acme", "globex"] {
        let hold = world.reserve(tenant).amount("free", 1).agent("planner").ttl(MINUTE);
        hold.await.expect("nothing limits it");
    }
    world.clock.advance(MINUTE);
    for tenant in ["acme", "globex"] {
        world.record(tenant).tokens(1).await.expect("it is recorded, and the hold is swept");
        world.events_of(tenant).await;
    }
}

/// The log of a copied database has another id than the log of the original.
#[test]
fn a_copy_of_a_database_refuses_cursors_of_the_original() {
    world::run(async {
        let world = World::start(Kind::Sqlite).await;
        limited(&world, "acme").await;
        world.events_of("acme").await;
        let mut watcher = world.watch(everything()).await.expect("it begins");
        watcher.update().await.expect("a heartbeat");
        let copy = world.database.path("copy.db");
        let mut command = tope();
        command.args(["backup", "--database", world.database.url()]).arg(&copy);
        let output = run(command).await;
        assert!(output.status.success(), "{}", said(&output));
        let options = ServerOptions::new(settings(database::sqlite_url(&copy)));
        let server = Server::start(options).await.expect("it starts");
        let clients = Clients::of(clients::connect(&format!("http://{}", server.address())).await);
        let resume = WatchUsageRequest { cursor: watcher.cursor, ..everything() };
        let no = clients.watch(resume.clone()).await.err().expect("of another log");
        assert!(no.names(&["cursor"]).message.contains("another log"), "{no:?}");
        world.watch(resume).await.expect("the original goes on");
        server.shutdown().await;
        world.end().await;
    });
}

/// A function that sets a filter of a watch, and a function that returns whether an event passes this filter.
type Filter = (fn(&mut WatchUsageRequest), fn(&Event) -> bool);

fn filters() -> [Filter; 7] {
    [
        (|_| (), |_| true),
        (|request| request.tenant = "acme".into(), |e| e.tenant == "acme"),
        (
            |request| request.kinds = vec![LimitReached.into(), ReserveRefused.into()],
            |e| [LimitReached, ReserveRefused].contains(&e.kind()),
        ),
        (|request| request.min_percent = 80, |e| e.percent == 0 || e.percent >= 80),
        (|request| request.resources = vec!["requests".into()], |e| e.balances[0].resource == "requests"),
        (
            |request| request.agent = Some("planner".into()),
            |e| {
                let agent =
                    e.reservation.as_ref().map(|r| r.agent.as_str()).or(e.balances[0].agent.as_deref());
                agent == Some("planner")
            },
        ),
        (
            |request| {
                request.tenant = "globex".into();
                request.agent = Some("planner".into());
                request.kinds = vec![ReservationExpired.into()];
            },
            |e| e.tenant == "globex" && e.kind() == ReservationExpired,
        ),
    ]
}
