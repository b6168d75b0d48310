//! Public complaints about budgets that never reset, reset late, or reset twice. Each test is named after the claim
//! that answers a complaint, and its comment has the number of the report.
//!
//! Some complaints are answered by tests in other files:
//!
//! - litellm#34492, a new window on an existing key refuses at once:
//!   `policy_change::a_limit_of_a_new_shape_counts_since_it_was_added`
//! - litellm#34896, a reset comes late by the offset of the zone:
//!   `calendar::days_begin_at_midnight_in_the_time_zone_of_the_tenant`
//! - polar#10664, a month that begins on the 31st drifts to the 29th:
//!   `calendar::months_that_begin_on_the_31st_do_not_drift`
//! - ratelimit PR#1206, a month is 30 days, counted from 1970: `calendar::a_new_window_needs_no_job`,
//!   `calendar::months_that_begin_on_the_31st_do_not_drift`
//! - ai-gateway#2469, a monthly quota cannot be expressed:
//!   `periods::a_window_begins_and_ends_where_its_period_interval_and_anchors_say`
//! - OpenHands PR#3845, each child gets the whole budget of its run, and the next run gets nothing; hermes-agent#2873,
//!   a session has no budget: `labels::the_budget_of_a_run_is_shared_by_the_agents_of_the_run`
//! - autumn PR#2174, what no plan mentions is allowed: `uncovered::a_resource_that_no_limit_covers_is_refused`
//! - sub2api#5051 and relaticle#437, all customers of a plan have the same billing day:
//!   `periods::with_the_anchor_of_the_tenant_each_tenant_has_a_billing_day_of_its_own`
//! - APIcast#667, after a limit returned, its old figure came back: `limit_returns::a_limit_that_returns_starts_at_zero`
//! - litellm#35247 and bifrost PR#5747, one user cannot have more until Friday:
//!   `overrides::an_override_applies_to_one_user_and_ends_by_the_clock`
//! - thinkex PR#728, a crowd of first calls creates a customer several times: `default_plan::a_crowd_creates_a_tenant_once`
//! - new-api#2891, two pollers refund twice: `amend::a_refund_that_is_sent_twice_is_one_refund`
//! - sub2api#6066, a provider reports 10^12 tokens: `amend::a_report_of_a_million_million_tokens_is_corrected`
//! - litellm#41344, a call that fell back is charged to the wrong model:
//!   `served::a_call_that_fell_back_is_charged_to_the_model_that_served_it`
//! - sub2api#2088, a reset of today also resets the total: `reset_limits::only_the_named_limits_are_reset`,
//!   `reset_limits::what_counts_for_ever_is_reset_only_if_it_is_named`

use std::time::{Duration, Instant};

use futures::future::join;
use tope::{
    clock::ManualClock,
    server::{Server, ServerOptions},
};

use crate::harness::{
    clients::{connect, serving},
    v1::{operation_result::Result::Reserve, *},
    world::settings,
    *,
};

/// Maximum memory of a server that closes many windows. The bench has more to say about speed and memory.
const MEMORY_MAX_MIB: u64 = 200;

/// Maximum time of a call while many windows end. The complaint is about tens of seconds. A test that runs beside
/// others on a slow machine cannot demand much less.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A limit of 100 tokens a month for each team.
fn per_team() -> Limit {
    month("tokens", 100).named("team").per_label("team")
}

/// Records a token for each of `count` teams of the tenant "acme".
async fn spend_in_teams(clients: &Clients, count: usize) {
    let record = |team: usize| clients.record("acme").tokens(1).label("team", &team.to_string()).operation();
    for first in (0..count).step_by(1_000) {
        let results = clients.batch((first..count.min(first + 1_000)).map(record).collect()).await;
        for result in results.expect("a reply") {
            assert!(matches!(result.result, Some(operation_result::Result::Record(_))), "{result:?}");
        }
    }
}

/// Starts a real server on a database with `teams` counters whose windows are all over.
async fn serve_ended_windows(database: Database, teams: usize) -> (Database, Process, Clients) {
    let mut world = World::on(database, NOON).await;
    world.tenant_with("acme", &[per_team()]).await;
    spend_in_teams(&world, teams).await;
    world.stop().await;
    // The clock of the machine is months later.
    let World { database, .. } = world;
    let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
    (database, process, Clients::of(channel))
}

/// Runs the job that closes windows until all windows are closed. The server also runs the job on its schedule.
async fn close_all(database: &Database, clients: &Clients) {
    let open = "SELECT COUNT(*) FROM counters WHERE closed = 0 AND window_end < 1790000000000";
    eventually("all windows are closed", async || {
        let _running_already = clients.run_job("close-windows").await;
        (database.number(open).await == 0).then_some(())
    })
    .await;
}

both! {
    /// litellm#8364: "when does it reset, and do we lose history?"
    async fn the_budget_of_a_team_resets_when_its_balance_says_and_its_history_stays(world: World) {
        world.tenant_with("acme", &[per_team()]).await;
        let spent = world.record("acme").tokens(60).label("team", "search").await.expect("it is recorded");
        let end = window(spent.balance("team")).1;
        assert_eq!(end, at("2026-04-01T00:00:00Z"), "the answer to: when?");
        let ask = || world.reserve("acme").tokens(50).label("team", "search");
        let refused = ask().await.expect_err("40 are left");
        let wait = refused.is_quota(&["team"]).retry.expect("the window ends");
        assert_eq!(i64::try_from(wait.as_millis()), Ok(end - NOON));
        world.clock.set(end - 1);
        ask().await.expect_err("the month runs").is_quota(&["team"]);
        world.clock.set(end);
        assert_eq!(ask().await.expect("no job has run").figures("team"), (0, 50));
        world.close_windows().await;
        let events = world.events_of("acme").await;
        let closed = events.iter().find(|event| event.kind() == EventKind::WindowClosed).expect("March is over");
        let march = &closed.balances[0];
        assert_eq!((figures(march), march.refused, march.labels["team"].as_str()), ((60, 0), 2, "search"));
        assert_eq!(window(march), (at("2026-03-01T00:00:00Z"), end));
        assert_eq!(world.get(spent.name()).await.expect("it is kept"), *spent.held());
    }

    /// litellm#36940: two reset jobs erased what was spent in the new window.
    async fn two_jobs_at_once_and_late_erase_nothing_of_the_new_window(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.record("acme").tokens(40).await.expect("it is recorded");
        world.clock.advance(DAY);
        world.record("acme").tokens(70).await.expect("it is recorded, in the new window");
        let other = match world.database.kind() {
            Kind::Postgres => Some(world.replica().await),
            Kind::Sqlite => None,
        };
        let second = other.as_ref().map_or_else(|| world.clients().clone(), |(_, clients)| clients.clone());
        for _ in 0..3 {
            // One server refuses to run a job twice at once.
            let (here, there) = join(world.run_job("close-windows"), second.run_job("close-windows")).await;
            assert!(here.is_ok() || there.is_ok(), "{here:?} {there:?}");
            assert_eq!(world.figures("acme", "day").await, (70, 0));
            world.reserve("acme").tokens(31).await.expect_err("30 are left").is_quota(&["day"]);
        }
        let events = world.events_of("acme").await;
        let closed = events.iter().filter(|event| event.kind() == EventKind::WindowClosed);
        let closed: Vec<_> = closed.map(|event| event.balances.figures("day")).collect();
        assert_eq!(closed, [(40, 0)], "once, and only the window that is over");
        world.reserve("acme").tokens(30).await.expect("30 are left");
        if let Some((server, _)) = other {
            server.shutdown().await;
        }
    }

    /// litellm PR#40639: with more than 32,767 customers no customer was reset, because a statement had too many
    /// values.
    async fn more_customers_than_a_statement_has_values_are_all_reset(world: World) {
        // On SQLite a statement has the values of at most 64 rows, so more customers show nothing new.
        let customers = match world.database.kind() {
            Kind::Postgres => 33_000,
            Kind::Sqlite => 3_000,
        };
        world.tenant_with("acme", &[per_team()]).await;
        spend_in_teams(world, customers).await;
        world.clock.set(at("2026-04-01T00:00:00Z"));
        let whole = |team: usize| world.reserve("acme").tokens(100).label("team", &team.to_string()).operation();
        let results = world.batch((0..customers).step_by(customers / 1_000).map(whole).collect()).await;
        for result in results.expect("a reply") {
            assert!(matches!(result.result, Some(Reserve(_))), "the whole allowance is left: {result:?}");
        }
        let mut closed = 0;
        while closed < customers {
            // A run ends after some time, and the next run does the rest.
            let more = world.close_windows().await.counters;
            assert!(more > 0, "{closed} were closed, and no run closes more");
            closed += more;
        }
        assert_eq!(closed, customers);
        assert_eq!(world.close_windows().await.counters, 0);
    }

    /// litellm#30002: after a reset, a cache went on to refuse. Here several servers remember the counter.
    async fn a_reset_is_seen_by_the_next_call_at_every_server(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let other = match world.database.kind() {
            Kind::Postgres => Some(world.replica().await),
            Kind::Sqlite => None,
        };
        let second = other.as_ref().map_or_else(|| world.clients().clone(), |(_, clients)| clients.clone());
        let servers = [world.clients().clone(), second];
        for round in 0..6 {
            let [here, there] = [&servers[round % 2], &servers[(round + 1) % 2]];
            for _ in 0..4 {
                let hold = here.reserve("acme").tokens(25).await.expect("there is quota");
                here.commit(hold.name()).await.expect("it is held");
            }
            here.reserve("acme").tokens(1).await.expect_err("it is used up").is_quota(&["day"]);
            there.reset("acme", &["tokens"]).await.expect("the tenant is there");
            let granted = here.reserve("acme").tokens(100).await.expect("all is left");
            assert_eq!(granted.figures("day"), (0, 100));
            there.release(granted.name()).await.expect("it is held");
            assert_eq!(here.figures("acme", "day").await, (0, 0));
        }
        if let Some((server, _)) = other {
            server.shutdown().await;
        }
    }

    /// litellm PR#21754: the setting of the zone was ignored, and only six zones were known. Each case: a zone, and the
    /// last midnight in the zone before noon of UTC.
    async fn every_zone_of_the_database_has_its_own_midnight(world: World) {
        world.declare("tokens").await;
        world.plan("zones", &[day("tokens", 10)]).await.expect("the plan is new");
        for zone in chrono_tz::TZ_VARIANTS {
            world.tenant(zone.name(), "zones", zone.name()).await.expect("the zone is known");
        }
        assert!(chrono_tz::TZ_VARIANTS.len() > 400);
        let cases = [
            ("UTC", "2026-03-16T00:00:00Z"),
            ("Asia/Kathmandu", "2026-03-15T18:15:00Z"),
            ("Asia/Kolkata", "2026-03-15T18:30:00Z"),
            ("Pacific/Chatham", "2026-03-16T10:15:00Z"),
            ("Australia/Eucla", "2026-03-15T15:15:00Z"),
            ("Australia/Lord_Howe", "2026-03-15T13:00:00Z"),
            ("Australia/Adelaide", "2026-03-15T13:30:00Z"),
            ("America/St_Johns", "2026-03-16T02:30:00Z"),
            ("Pacific/Marquesas", "2026-03-16T09:30:00Z"),
            ("Pacific/Kiritimati", "2026-03-16T10:00:00Z"),
            ("Pacific/Pago_Pago", "2026-03-16T11:00:00Z"),
            ("Etc/GMT+12", "2026-03-16T12:00:00Z"),
        ];
        for (zone, midnight) in cases {
            let reply = world.reserve(zone).tokens(10).await.expect("there is quota");
            assert_eq!(window(reply.balance("day")), (at(midnight), at(midnight) + DAY), "{zone}");
        }
    }

    /// litellm#14097: nothing between the organisation and the user could have a budget.
    async fn a_team_between_tenant_and_user_has_a_budget_of_its_own(world: World) {
        let user = month("tokens", 50).named("user").per(&[Dimension::User]);
        world.tenant_with("acme", &[month("tokens", 200), per_team(), user]).await;
        let ask = |team: &str, user: &str, tokens: i64| {
            world.reserve("acme").tokens(tokens).user(user).label("team", team)
        };
        ask("search", "ana", 50).await.expect("there is quota");
        ask("search", "ana", 1).await.expect_err("of Ana").is_quota(&["user"]);
        ask("search", "bob", 50).await.expect("there is quota");
        ask("search", "eve", 1).await.expect_err("of the team").is_quota(&["team"]);
        for user in ["eve", "joe"] {
            ask("ads", user, 50).await.expect("another team");
        }
        ask("sales", "kim", 1).await.expect_err("of the tenant").is_quota(&["month"]);
        ask("ads", "eve", 1).await.expect_err("of all three").is_quota(&["month", "team", "user"]);
    }

    /// docker-agent#3701: one ceiling for the whole session, and named budgets that agents share.
    async fn agents_share_a_session_and_the_budgets_that_they_name(world: World) {
        let session = lifetime("tokens", 100).named("session").per_label("session");
        let shell = lifetime("tokens", 30).named("shell").per_label("session").label("shell", "yes");
        let research = lifetime("tokens", 60).named("research").per_label("session").label("research", "yes");
        world.tenant_with("acme", &[session, shell, research]).await;
        let ask = |session: &str, agent: &str, tokens: i64, budgets: &[&str]| {
            let reserve = world.reserve("acme").tokens(tokens).agent(agent).label("session", session);
            budgets.iter().fold(reserve, |reserve, budget| reserve.label(budget, "yes"))
        };
        ask("1", "root", 20, &["shell"]).await.expect("there is quota");
        let both = ["shell", "research"];
        ask("1", "researcher", 11, &both).await.expect_err("root used 20 of 30").is_quota(&["shell"]);
        let shared = ask("1", "researcher", 10, &both).await.expect("10 are left");
        assert_eq!((shared.figures("shell"), shared.figures("research")), ((0, 30), (0, 10)));
        ask("1", "researcher", 50, &["research"]).await.expect("50 are left");
        ask("1", "root", 21, &[]).await.expect_err("80 of 100").is_quota(&["session"]);
        ask("2", "root", 30, &["shell"]).await.expect("another session");
    }

    /// Portkey gateway#1169: budgets and rates by the metadata of a request.
    async fn each_api_key_has_a_budget_and_a_rate(world: World) {
        let budget = month("tokens", 1_000).named("budget").per_label("key");
        let rate = Limit { resource: "requests".into(), ..every(Period::Minute, 2) };
        world.tenant_with("acme", &[budget, rate.named("rate").per_label("key")]).await;
        let ask = |key: &str, tokens: i64| {
            world.reserve("acme").tokens(tokens).amount("requests", 1).label("key", key).label("request", "7")
        };
        for _ in 0..2 {
            let hold = ask("k1", 400).await.expect("there is quota");
            world.commit(hold.name()).await.expect("it is held");
        }
        let refused = ask("k1", 1).await.expect_err("two calls a minute");
        assert_eq!(refused.is_quota(&["rate"]).retry, Some(Duration::from_secs(60)));
        ask("k2", 1_000).await.expect("another key");
        world.clock.advance(MINUTE);
        ask("k1", 201).await.expect_err("200 are left").is_quota(&["budget"]);
        ask("k1", 200).await.expect("200 are left");
    }
}

on_both! {
    /// litellm#31869: 20,000 teams were due together, and the job ended out of memory, again and again.
    async fn windows_of_many_teams_that_end_together_are_closed_in_bounded_memory(kind: Kind) {
        // Fewer on SQLite, so that the test takes seconds beside other tests.
        let teams = match kind {
            Kind::Postgres => 20_000,
            Kind::Sqlite => 5_000,
        };
        let (database, process, clients) = serve_ended_windows(Database::fresh(kind), teams).await;
        let memory = process.watch_memory();
        close_all(&database, &clients).await;
        assert!(memory.peak_mib() < MEMORY_MAX_MIB, "{} MiB", memory.peak_mib());
        let events = "SELECT (SELECT COUNT(*) FROM events WHERE kind = 7)
            + (SELECT COUNT(*) FROM pending_events WHERE kind = 7)";
        assert_eq!(usize::try_from(database.number(events).await), Ok(teams), "each window is closed once");
        process.stop().await;
        process::verify(database.url()).await;
    }

    /// litellm PR#36497: a storm of resets stalled requests for tens of seconds.
    async fn calls_are_answered_while_many_windows_are_closed(kind: Kind) {
        let (database, process, clients) = serve_ended_windows(Database::fresh(kind), 5_000).await;
        let closing = close_all(&database, &clients);
        tokio::pin!(closing);
        let (mut calls, mut longest) = (0, Duration::ZERO);
        let spend = async || {
            let begun = Instant::now();
            let hold = clients.reserve("acme").tokens(1).label("team", "new").await.expect("there is quota");
            clients.release(hold.name()).await.expect("it is held");
            begun.elapsed()
        };
        loop {
            tokio::select! {
                () = &mut closing => break,
                took = spend() => {
                    (calls, longest) = (calls + 1, longest.max(took));
                }
            }
        }
        assert!(calls >= 10, "only {calls} calls were answered meanwhile");
        assert!(longest < ANSWER_MAX, "{longest:?}");
        process.stop().await;
        process::verify(database.url()).await;
    }

    /// mailgun/gubernator#225: the clocks of peers disagree, and counters never reset. Only one server at a time uses a
    /// SQLite file, so there the servers take turns. On PostgreSQL both servers run all the time.
    async fn counters_reset_although_the_clocks_of_servers_disagree(kind: Kind) {
        const BEHIND: i64 = 7 * MINUTE;
        let database = Database::fresh(kind);
        let clocks = [ManualClock::at(NOON), ManualClock::at(NOON - BEHIND)];
        let mut running = match kind {
            Kind::Sqlite => Vec::new(),
            Kind::Postgres => vec![serve(&database, &clocks[0]).await, serve(&database, &clocks[1]).await],
        };
        // For each turn: the server, minutes after noon on the clock that is right, and whether a minute has begun that
        // the tenant did not see yet.
        let turns = [
            (0, 0, true), (1, 0, false), (0, 1, true), (1, 2, false), (0, 2, true), (1, 9, false), (1, 10, true),
            (0, 10, true), (1, 17, false), (1, 18, true),
        ];
        for (number, (server, minute, begins)) in turns.into_iter().enumerate() {
            for (clock, behind) in clocks.iter().zip([0, BEHIND]) {
                clock.set(NOON + minute * MINUTE - behind);
            }
            if kind == Kind::Sqlite {
                running.push(serve(&database, &clocks[server]).await);
            }
            let clients = &running[if kind == Kind::Sqlite { 0 } else { server }].1;
            if number == 0 {
                clients.tenant_with("acme", &[every(Period::Minute, 10)]).await;
            }
            let answer = clients.reserve("acme").tokens(10).await;
            let case = format!("turn {number}: server {server} at minute {minute}");
            if begins {
                let hold = answer.expect(&case);
                clients.commit(hold.name()).await.expect("it is held");
            } else {
                answer.expect_err(&case).is_quota(&["limit"]);
            }
            if kind == Kind::Sqlite {
                running.pop().expect("it runs").0.shutdown().await;
            }
        }
        for (server, _) in running {
            server.shutdown().await;
        }
        process::verify(database.url()).await;
    }
}

/// Starts a server with this clock.
async fn serve(database: &Database, clock: &ManualClock) -> (Server, Clients) {
    let mut options = ServerOptions::new(settings(database.url()));
    options.clock = Some(clock.clone());
    let server = Server::start(options).await.expect("the server starts");
    let channel = connect(&format!("http://{}", server.address())).await;
    serving(&channel).await;
    (server, Clients::of(channel))
}
