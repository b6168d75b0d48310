//! Thresholds: each crossing emits one event, even with many clients, replicas and retries.

use futures::future::{join_all, try_join_all};

use crate::harness::{
    v1::{EventKind::*, *},
    world::run,
    *,
};

/// Number of clients that cross a threshold at the same time.
const CLIENTS: usize = 64;

fn event_of(events: &[Event], kind: EventKind) -> &Event {
    let mut found = events.iter().filter(|event| event.kind() == kind);
    let event = found.next().unwrap_or_else(|| panic!("no {kind:?} in {events:#?}"));
    assert_eq!(found.next(), None, "more than one {kind:?}");
    event
}

both! {
    async fn each_crossing_emits_one_event_with_the_figures_at_that_time(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000).thresholds(&[50, 80])]).await;
        world.record("acme").tokens(499).await.expect("it is recorded");
        assert_eq!(world.kinds("acme").await, []);
        let hold = world.reserve("acme").tokens(400).await.expect("there is quota");
        assert_eq!(world.kinds("acme").await, [], "what is held is not spent");
        world.commit(hold.name()).tokens(1).await.expect("it is held");
        world.record("acme").tokens(500).await.expect("it is recorded");
        world.record("acme").tokens(10).await.expect("it is recorded");
        let events = world.events_of("acme").await;
        let expected = [(ThresholdReached, 50), (ThresholdReached, 80), (LimitReached, 100)];
        assert_eq!(kinds_of(&events), expected);
        for (event, committed) in events.iter().zip([500, 1_000, 1_000]) {
            let balance = event.balances.balance("day");
            assert_eq!((balance.committed, balance.allowance), (committed, Some(1_000)), "{event:?}");
            assert_eq!((event.tenant.as_str(), event.generation, balance.resource.as_str()), ("acme", 1, "tokens"));
            assert_eq!(millis(event.occur_time.as_ref()), Some(NOON));
            assert_eq!(balance.period(), Period::Day);
        }
        // In a new window, the events of all thresholds are emitted again.
        world.clock.advance(DAY);
        world.record("acme").tokens(1_500).await.expect("it is recorded");
        assert_eq!(world.kinds("acme").await, [&expected[..], &expected[..]].concat());
    }

    /// Some of the limits have several thresholds. SOFT and OBSERVE limits emit events, too.
    async fn each_threshold_of_each_limit_emits_its_own_event(world: World) {
        let limits = [
            day("tokens", 1_000).named("soft").soft().thresholds(&[10, 25, 50, 75, 90, 100, 150]),
            month("tokens", 2_000).named("observed").observe().thresholds(&[60]),
            month("tokens", 10_000).named("agent").per(&[Dimension::Agent]).thresholds(&[10]),
        ];
        world.tenant_with("acme", &limits).await;
        for tokens in [100, 200, 300, 400, 500, 600] {
            world.record("acme").tokens(tokens).agent("planner").await.expect("it is recorded");
        }
        world.record("acme").tokens(1_000).agent("coder").await.expect("it is recorded");
        let events = world.events_of("acme").await;
        let of = |limit: &str| -> Vec<KindAndPercent> {
            kinds_of(&events.iter().filter(|e| e.balances[0].limit_id == limit).cloned().collect::<Vec<_>>())
        };
        let reached = |percent| (ThresholdReached, percent);
        let soft = [10, 25, 50, 75, 90].map(reached);
        assert_eq!(of("soft"), [&soft[..], &[(LimitReached, 100), reached(150)]].concat());
        assert_eq!(of("observed"), [reached(60), (LimitReached, 100)]);
        let agents: Vec<_> = events.iter().filter(|e| e.balances[0].limit_id == "agent").collect();
        let agents: Vec<_> = agents.iter().map(|e| (e.percent, e.balances[0].agent.as_deref())).collect();
        assert_eq!(agents, [(10, Some("planner")), (10, Some("coder"))]);
    }

    /// The event is not emitted again for each request above the threshold.
    async fn a_thousand_requests_above_a_threshold_emit_one_event(world: World) {
        world.tenant_with("acme", &[day("tokens", 10_000).thresholds(&[80])]).await;
        world.record("acme").tokens(8_000).await.expect("it is recorded");
        let operations = (0..1_000).map(|_| world.record("acme").tokens(1).operation()).collect();
        world.batch(operations).await.expect("each stands for itself");
        for _ in 0..20 {
            let hold = world.reserve("acme").tokens(1).await.expect("there is quota");
            world.commit(hold.name()).await.expect("it is held");
        }
        assert_eq!(world.kinds("acme").await, [(ThresholdReached, 80)]);
        world.restart().await;
        world.record("acme").tokens(1).await.expect("it is recorded");
        assert_eq!(world.kinds("acme").await, [(ThresholdReached, 80)]);
    }

    async fn a_thousand_refusals_emit_one_event_and_are_counted(world: World) {
        let limits = [day("tokens", 100), month("tokens", 50).named("tight"), lifetime("tokens", 10).observe()];
        world.tenant_with("acme", &limits).await;
        let operations: Vec<Operation> = (0..998).map(|_| world.reserve("acme").tokens(51).operation()).collect();
        world.batch(operations).await.expect("each stands for itself");
        let hold = world.reserve("acme").tokens(9).await.expect("there is quota");
        world.extend(hold.name()).tokens(60).await.expect_err("too much").is_quota(&["tight"]);
        let no = world.reserve("acme").tokens(51).await.expect_err("too much");
        no.is_quota(&["tight"]);
        world.check("acme").tokens(51).await.expect("it only asks");
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events), [(ReserveRefused, 0)]);
        assert_eq!((events[0].requested, events[0].balances.balance("tight").refused), (51, 1));
        let usage = world.usage("acme").await;
        let refused = ["day", "tight", "lifetime"].map(|limit| usage.balance(limit).refused);
        assert_eq!(refused, [0, 1_000, 0]);
        // A Reserve that OBSERVE would have refused passes, and is counted.
        for _ in 0..3 {
            world.reserve("acme").tokens(2).await.expect("there is quota");
        }
        let events = world.events_of("acme").await;
        let observed = events.last().expect("there is one").balances.balance("lifetime");
        assert_eq!((kinds_of(&events).len(), observed.enforcement(), observed.refused), (2, Enforcement::Observe, 1));
        assert_eq!(world.usage("acme").await.balance("lifetime").refused, 3);
        world.clock.advance(DAY * 31);
        assert_eq!(world.usage("acme").await.balance("tight").refused, 0, "a new window");
    }

    async fn a_raised_limit_clears_thresholds_and_a_second_crossing_emits_again(world: World) {
        let limit = |quantity| [day("tokens", quantity).thresholds(&[50, 80])];
        world.tenant_with("acme", &limit(1_000)).await;
        world.record("acme").tokens(1_000).await.expect("it is recorded");
        world.change_plan("acme", &limit(1_500)).await.expect("the plan exists");
        // The next batch that reads the counter emits the events, even if it charges nothing.
        let hold = world.reserve("acme").tokens(1).await.expect("there is quota");
        let first = [(ThresholdReached, 50), (ThresholdReached, 80), (LimitReached, 100)];
        let cleared = [(ThresholdCleared, 100), (ThresholdCleared, 80)];
        assert_eq!(world.kinds("acme").await, [&first[..], &cleared[..]].concat());
        world.commit(hold.name()).tokens(200).await.expect("it is held");
        world.record("acme").tokens(300).await.expect("it is recorded");
        let events = world.events_of("acme").await;
        let again = [(ThresholdReached, 80), (LimitReached, 100)];
        assert_eq!(kinds_of(&events), [&first[..], &cleared[..], &again[..]].concat());
        let generations: Vec<i32> = events.iter().map(|event| event.generation).collect();
        assert_eq!(generations, [1, 1, 1, 1, 1, 2, 2]);
        // One operation emits events of both kinds: for thresholds that are cleared and for thresholds that are
        // reached.
        world.change_plan("acme", &limit(3_000)).await.expect("the plan exists");
        world.record("acme").tokens(900).await.expect("it is recorded");
        let last = [(ThresholdCleared, 100), (ThresholdCleared, 80), (ThresholdReached, 80)];
        assert_eq!(kinds_of(&world.events_of("acme").await[7..]), last);
    }

    /// The largest figure, 2^63 - 1, is 199 % of the allowance 2^62.
    async fn a_threshold_above_the_largest_int64_is_never_reached(world: World) {
        const HALF: i64 = 1 << 62;
        world.tenant_with("acme", &[lifetime("tokens", HALF).thresholds(&[150, 199, 200, 1_000])]).await;
        world.record("acme").tokens(i64::MAX).await.expect("it is recorded");
        let reached = [(LimitReached, 100), (ThresholdReached, 150), (ThresholdReached, 199)];
        assert_eq!(world.kinds("acme").await, reached);
        world.record("acme").tokens(-1).await.expect("it is recorded");
        world.record("acme").tokens(1).await.expect("it is recorded");
        assert_eq!(world.kinds("acme").await, reached, "199 % from 9,177,370,832,517,155,389 on");
        let balance = world.usage("acme").await.balance("lifetime").clone();
        assert_eq!((balance.committed, balance.remaining, balance.exceeded), (i64::MAX, Some(0), true));
    }

    /// A limit has one count of refusals while it is HARD, and another count while it is OBSERVE. The first refusal of
    /// each count emits an event.
    async fn refusals_are_counted_separately_for_each_enforcement(world: World) {
        let hard = [day("tokens", 100)];
        let observe = [day("tokens", 100).observe()];
        let soft = [day("tokens", 100).soft()];
        world.tenant_with("acme", &hard).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        let refused = async || world.usage("acme").await.balance("day").refused;
        world.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["day"]);
        world.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["day"]);
        assert_eq!(refused().await, 2);
        world.change_plan("acme", &observe).await.expect("the plan is there");
        assert_eq!(refused().await, 0, "nothing was observed yet");
        let hold = world.reserve("acme").tokens(1).await.expect("it passes");
        assert_eq!((refused().await, hold.balance("day").refused), (1, 1));
        world.change_plan("acme", &soft).await.expect("the plan is there");
        world.reserve("acme").tokens(1).await.expect("it passes");
        assert_eq!(refused().await, 0, "SOFT refuses nothing");
        world.change_plan("acme", &hard).await.expect("the plan is there");
        assert_eq!(refused().await, 2);
        let events = world.events_of("acme").await;
        let events: Vec<_> = events.iter().filter(|event| event.kind() == ReserveRefused).collect();
        let counts: Vec<_> = events.iter().map(|e| (e.balances[0].enforcement(), e.balances[0].refused)).collect();
        assert_eq!(counts, [(Enforcement::Hard, 1), (Enforcement::Observe, 1)]);
        world.restart().await;
        assert_eq!(world.usage("acme").await.balance("day").refused, 2);
        world.change_plan("acme", &observe).await.expect("the plan is there");
        assert_eq!(world.usage("acme").await.balance("day").refused, 1);
    }

    async fn a_negative_record_or_a_reset_clears_thresholds(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000).thresholds(&[80])]).await;
        world.record("acme").tokens(900).await.expect("it is recorded");
        world.record("acme").tokens(-101).await.expect("it is recorded");
        world.record("acme").tokens(1).await.expect("it is recorded");
        world.reset("acme", &[]).await.expect("the tenant is there");
        let expected = [
            (ThresholdReached, 80),
            (ThresholdCleared, 80),
            (ThresholdReached, 80),
            (ThresholdCleared, 80),
            (UsageReset, 0),
        ];
        let events = world.events_of("acme").await;
        assert_eq!(kinds_of(&events), expected);
        let reset = event_of(&events, UsageReset);
        assert_eq!((reset.adjusted, reset.balances.figures("day")), (-800, (0, 0)));
        assert_eq!((reset.reason.as_str(), reset.operator.as_str()), ("a test", "tests"));
    }
}

/// Commits from all clients at the same time. Each client has its own connection; they are spread over the servers.
async fn cross(targets: &[String], tokens: i64) {
    let committing = (0..CLIENTS).map(|number| {
        let target = targets[number % targets.len()].clone();
        tokio::spawn(async move {
            let clients = Clients::of(connect(&target).await);
            let hold = clients.reserve("acme").tokens(tokens).await.expect("there is quota");
            clients.commit(hold.name()).await.expect("it is held");
        })
    });
    try_join_all(committing).await.expect("no client fails");
}

async fn connect(target: &str) -> tonic::transport::Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(target.to_owned()).expect("an address");
    endpoint.connect().await.expect("it listens")
}

async fn crowd(kind: Kind) {
    let world = World::start(kind).await;
    let mut targets = vec![format!("http://{}", world.address())];
    let mut replicas = Vec::new();
    for _ in 0..if kind == Kind::Postgres { 2 } else { 0 } {
        let (server, _) = world.replica().await;
        targets.push(format!("http://{}", server.address()));
        replicas.push(server);
    }
    let quantity = i64::try_from(CLIENTS).expect("a small number") * 20;
    world.tenant_with("acme", &[day("tokens", quantity).thresholds(&[80])]).await;
    cross(&targets, 15).await;
    assert_eq!(world.kinds("acme").await, [], "75 %");
    cross(&targets, 2).await;
    assert_eq!(world.kinds("acme").await, [(ThresholdReached, 80)], "85 %");
    cross(&targets, 3).await;
    assert_eq!(world.kinds("acme").await, [(ThresholdReached, 80), (LimitReached, 100)]);
    join_all(replicas.into_iter().map(tope::server::Server::shutdown)).await;
    world.end().await;
}

#[test]
fn clients_that_cross_a_threshold_together_cause_one_event_on_sqlite() {
    run(crowd(Kind::Sqlite));
}

#[test]
fn clients_that_cross_a_threshold_at_three_replicas_cause_one_event() {
    run(crowd(Kind::Postgres));
}
