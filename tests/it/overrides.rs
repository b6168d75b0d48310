//! Overrides: exceptions from a limit for a tenant or for one subject, that begin and end by the clock (R4.34).

use prost_types::Timestamp;
use tonic::Code;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

fn made(id: &str, limit: &str, quantity: i64) -> Override {
    Override {
        tenant: "acme".into(),
        id: id.into(),
        limit_id: limit.into(),
        quantity: Some(quantity),
        reason: "a test".into(),
        ..Override::default()
    }
}

fn of_user(id: &str, user: &str, quantity: i64) -> Override {
    Override { user: Some(user.into()), ..made(id, "each", quantity) }
}

fn at(millis: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: millis / 1_000,
        nanos: i32::try_from(millis % 1_000).expect("small") * 1_000_000,
    })
}

async fn create(world: &Clients, made: Override) -> Answer<Override> {
    done(world.admin.clone().create_override(CreateOverrideRequest { r#override: Some(made) }).await)
}

async fn update(world: &Clients, made: Override, paths: &[&str]) -> Answer<Override> {
    let request = UpdateOverrideRequest { r#override: Some(made), update_mask: Some(mask(paths)) };
    done(world.admin.clone().update_override(request).await)
}

async fn get(world: &Clients, id: &str) -> Answer<Override> {
    let request = GetOverrideRequest { tenant: "acme".into(), id: id.into() };
    done(world.admin.clone().get_override(request).await)
}

async fn delete(world: &Clients, id: &str) -> Answer<()> {
    let request = DeleteOverrideRequest { tenant: "acme".into(), id: id.into(), ..Default::default() };
    done(world.admin.clone().delete_override(request).await)
}

/// Returns what is left of a limit for a user, by Check. Holds and spends nothing.
async fn left(world: &Clients, limit: &str, user: &str) -> i64 {
    let check = world.check("acme").tokens(1).user(user).await.expect("an answer");
    let balances = check.verdicts.into_iter().filter_map(|verdict| verdict.balance);
    let found = balances.into_iter().find(|balance| balance.limit_id == limit).expect("the limit applies");
    found.allowance.expect("of a limit") - found.committed - found.reserved
}

/// Makes a tenant with 1,000 tokens a day, and 100 tokens a day for each user.
async fn acme(world: &Clients) {
    world
        .tenant_with(
            "acme",
            &[day("tokens", 1_000), day("tokens", 100).per(&[Dimension::User]).named("each")],
        )
        .await;
}

both! {
    /// "User u1 200 a day until Friday" (litellm#35247).
    async fn an_override_applies_to_one_user_and_ends_by_the_clock(world: World) {
        acme(world).await;
        let friday = NOON + 4 * DAY;
        let shown = create(world, Override { end_time: at(friday), ..of_user("more", "u1", 200) }).await.expect("it is new");
        assert_eq!(shown.state(), OverrideState::Active);
        let hold = world.reserve("acme").tokens(150).user("u1").await.expect("200 are allowed");
        let balance = hold.balance("each");
        assert_eq!((balance.quantity, balance.allowance, balance.remaining), (Some(200), Some(200), Some(50)));
        let source = balance.source.clone().expect("of a limit");
        assert_eq!((source.plan.as_str(), source.r#override.as_str()), ("acme", "more"));
        assert_eq!(source.override_end_time, at(friday));
        assert_eq!(hold.balance("day").source.clone().expect("of a limit").r#override, "");
        let no = world.reserve("acme").tokens(101).user("u2").await.expect_err("others have 100");
        no.is_quota(&["each"]);
        assert!(!no.violations[0].quota_dimensions.contains_key("override"));
        let no = world.reserve("acme").tokens(51).user("u1").await.expect_err("150 are held");
        assert_eq!(no.violations[0].quota_dimensions["override"], "more");
        assert_eq!(no.violations[0].quota_dimensions["override_end"], "2026-03-20T12:00:00Z");
        world.release(hold.name()).await.expect("it is held");
        world.clock.set(friday - 1);
        assert_eq!(left(world, "each", "u1").await, 200);
        world.clock.set(friday);
        assert_eq!(left(world, "each", "u1").await, 100);
        assert_eq!(get(world, "more").await.expect("it stays").state(), OverrideState::Ended);
        assert_eq!(world.usage("acme").await.len(), 1, "no user has spent today");
    }

    async fn an_override_begins_by_the_clock_on_a_server_that_remembers_the_tenant(world: World) {
        acme(world).await;
        let start = NOON + HOUR;
        let later = Override { start_time: at(start), end_time: at(start + HOUR), ..made("later", "day", 10) };
        assert_eq!(create(world, later).await.expect("it is new").state(), OverrideState::Scheduled);
        for (instant, quantity) in [(start - 1, 1_000), (start, 10), (start + HOUR - 1, 10), (start + HOUR, 1_000)] {
            world.clock.set(instant);
            let hold = world.reserve("acme").tokens(1).user("u").await.expect("there is quota");
            assert_eq!(hold.balance("day").quantity, Some(quantity), "at {instant}");
            world.commit(hold.name()).tokens(0).await.expect("it is held");
        }
    }

    async fn the_override_that_selects_most_applies_and_then_the_youngest(world: World) {
        world.tenant_with("acme", &[day("tokens", 100).per(&[Dimension::User, Dimension::Model]).named("each")]).await;
        let left = async |user: &str, model: &str| {
            let check = world.check("acme").tokens(1).user(user).model(model).await.expect("an answer");
            check.verdicts[0].balance.as_ref().and_then(|balance| balance.allowance).expect("of a limit")
        };
        create(world, made("a", "each", 1)).await.expect("it is new");
        create(world, Override { model: Some("m".into()), ..made("b", "each", 2) }).await.expect("it is new");
        world.clock.advance(1);
        create(world, of_user("0", "u", 3)).await.expect("it is new");
        create(world, Override { model: Some("m".into()), ..of_user("d", "v", 4) }).await.expect("it is new");
        let table = [("x", "n", 1), ("x", "m", 2), ("u", "n", 3), ("u", "m", 3), ("v", "m", 4), ("v", "n", 1)];
        for (user, model, allowance) in table {
            assert_eq!(left(user, model).await, allowance, "{user} {model}");
        }
        delete(world, "0").await.expect("it is there");
        assert_eq!(left("u", "m").await, 2);
        world.clock.advance(1);
        create(world, made("z", "each", 9)).await.expect("it is new");
        assert_eq!(left("x", "n").await, 9, "the youngest");
        // Only one override applies at a time. What it does not give comes from the limit.
        create(world, Override { quantity: None, enforcement: Enforcement::Soft.into(), ..of_user("s", "x", 0) })
            .await
            .expect("it is new");
        let check = world.check("acme").tokens(500).user("x").model("n").await.expect("an answer");
        let balance = check.verdicts[0].balance.clone().expect("given");
        assert_eq!((balance.quantity, balance.enforcement()), (Some(100), Enforcement::Soft));
        assert!(check.allowed);
    }

    async fn an_override_replaces_enforcement_and_thresholds(world: World) {
        world.tenant_with("acme", &[day("tokens", 100).thresholds(&[90])]).await;
        let soft = Override {
            quantity: None,
            enforcement: Enforcement::Soft.into(),
            thresholds: Some(Thresholds { percents: vec![50] }),
            ..made("soft", "day", 0)
        };
        let shown = create(world, soft).await.expect("it is new");
        assert_eq!((shown.quantity, shown.enforcement()), (None, Enforcement::Soft));
        let hold = world.reserve("acme").tokens(150).await.expect("SOFT lets it pass");
        world.commit(hold.name()).tokens(60).await.expect("it is held");
        let events = world.events_of("acme").await;
        let reached: Vec<_> = kinds_of(&events).into_iter().filter(|(_, percent)| *percent != 0).collect();
        assert_eq!(reached, [(EventKind::ThresholdReached, 50)]);
        delete(world, "soft").await.expect("it is there");
        world.record("acme").tokens(35).await.expect("it is recorded");
        let events = world.events_of("acme").await;
        let reached: Vec<_> = kinds_of(&events).into_iter().filter(|(_, percent)| *percent != 0).collect();
        let want = [(EventKind::ThresholdReached, 50), (EventKind::ThresholdReached, 90)];
        assert_eq!(reached, want, "95 of 100, by the thresholds of the plan");
        world.reserve("acme").tokens(6).await.expect_err("HARD again").is_quota(&["day"]);
    }

    /// R4.11: the hint foresees that an override begins or ends.
    async fn the_retry_hint_foresees_overrides(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 100), day("requests", 5).named("calls")]).await;
        let hint = async |tokens: i64| {
            let no = world.reserve("acme").tokens(tokens).await.expect_err("too many");
            no.retry.map(|retry| retry.as_millis())
        };
        world.record("acme").tokens(80).await.expect("it is recorded");
        assert_eq!(hint(50).await, None, "LIFETIME never frees");
        let more = |id: &str, start: i64, end: i64, quantity: i64| Override {
            start_time: at(start),
            end_time: at(end),
            ..made(id, "lifetime", quantity)
        };
        create(world, more("a", NOON + HOUR, NOON + 2 * HOUR, 120)).await.expect("it is new");
        create(world, more("b", NOON + 2 * HOUR, NOON + 3 * HOUR, 150)).await.expect("it is new");
        assert_eq!(hint(30).await, Some(3_600_000), "from then on 120");
        assert_eq!(hint(50).await, Some(7_200_000), "from then on 150");
        assert_eq!(hint(71).await, None, "never so many");
        let blocked = Override { end_time: at(NOON + 1_500), ..made("block", "calls", 0) };
        create(world, blocked).await.expect("it is new");
        let no = world.reserve("acme").amount("requests", 1).await.expect_err("0 a day for now");
        assert_eq!(no.retry.map(|retry| retry.as_secs()), Some(2), "rounded up");
        let hold = world.reserve("acme").tokens(20).ttl(10 * MINUTE).await.expect("there are 20");
        assert_eq!(hint(15).await, Some(600_000), "the hold ends before the override begins");
        world.release(hold.name()).await.expect("it is held");
        let soft = Override { quantity: None, enforcement: Enforcement::Soft.into(), ..more("soft", NOON + 4 * HOUR, NOON + 5 * HOUR, 0) };
        create(world, soft).await.expect("it is new");
        assert_eq!(hint(71).await, Some(4 * 3_600_000), "SOFT refuses nothing");
    }

    async fn an_override_of_an_agents_plan_needs_the_agent(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.plan("small", &[day("tokens", 100).named("own")]).await.expect("the plan is new");
        let agent = |id: &str| Agent { tenant: "acme".into(), id: id.into(), plan: "small".into(), ..Agent::default() };
        for id in ["planner", "coder"] {
            let created = world.admin.clone().create_agent(CreateAgentRequest { agent: Some(agent(id)) }).await;
            done::<Agent>(created).expect("it is new");
        }
        let inert = create(world, made("all", "own", 200)).await.expect("no limit of the tenant's plan has the id");
        assert_eq!(inert.state(), OverrideState::Inert);
        let one = Override { agent: Some("planner".into()), ..made("one", "own", 200) };
        assert_eq!(create(world, one).await.expect("it is new").state(), OverrideState::Active);
        world.reserve("acme").tokens(150).agent("planner").await.expect("200 are allowed");
        world.reserve("acme").tokens(150).agent("coder").await.expect_err("100 are allowed").is_quota(&["own"]);
        let wrong = Override { agent: Some("planner".into()), user: Some("u".into()), ..made("wrong", "own", 1) };
        create(world, wrong).await.expect_err("users are not counted").names(&["override.user"]);
        let day = Override { agent: Some("planner".into()), ..made("day", "day", 1) };
        create(world, day).await.expect_err("the tenant's limit counts all agents together").names(&["override.agent"]);
    }

    async fn labels_select_an_override(world: World) {
        let limits = [day("tokens", 100).per_label("run").label("team", "search").named("run")];
        world.tenant_with("acme", &limits).await;
        let labelled = |id: &str, labels: &[(&str, &str)], quantity: i64| Override {
            labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            ..made(id, "run", quantity)
        };
        create(world, labelled("r7", &[("run", "7")], 500)).await.expect("it is new");
        create(world, labelled("none", &[("run", "")], 1)).await.expect("the empty value is a value");
        create(world, labelled("t", &[("team", "ads")], 1)).await.expect_err("another team").names(&["override.labels[team]"]);
        create(world, labelled("x", &[("x", "")], 1)).await.expect_err("not counted").names(&["override.labels[x]"]);
        for (run, allowance) in [("7", 500), ("8", 100), ("", 1)] {
            let check = world.check("acme").tokens(1).with(|request| {
                request.labels.insert("team".into(), "search".into());
                if !run.is_empty() {
                    request.labels.insert("run".into(), run.into());
                }
            });
            let check = check.await.expect("an answer");
            assert_eq!(check.verdicts[0].balance.as_ref().and_then(|balance| balance.allowance), Some(allowance), "{run}");
        }
    }

    async fn an_override_follows_the_plan_of_its_tenant(world: World) {
        acme(world).await;
        world.plan("other", &[month("tokens", 50)]).await.expect("the plan is new");
        create(world, of_user("more", "u1", 200)).await.expect("it is new");
        let inert = create(world, made("month", "month", 7)).await.expect("it is new");
        assert_eq!(inert.state(), OverrideState::Inert, "the plan has no such limit");
        world.set_plan("acme", "other").await;
        let states = async || {
            let request = ListOverridesRequest { tenant: "acme".into(), ..ListOverridesRequest::default() };
            let list = done(world.admin.clone().list_overrides(request).await).expect("a page");
            list.overrides.iter().map(|made| (made.id.clone(), made.state())).collect::<Vec<_>>()
        };
        assert_eq!(states().await, [("month".into(), OverrideState::Active), ("more".into(), OverrideState::Inert)]);
        world.reserve("acme").tokens(8).await.expect_err("7 a month").is_quota(&["month"]);
        world.set_plan("acme", "acme").await;
        assert_eq!(states().await, [("month".into(), OverrideState::Inert), ("more".into(), OverrideState::Active)]);
    }

    async fn an_override_is_changed_and_deleted(world: World) {
        acme(world).await;
        create(world, of_user("more", "u1", 200)).await.expect("it is new");
        let request = Override { enforcement: Enforcement::Observe.into(), ..made("more", "", 50) };
        let changed = update(world, request, &["quantity", "enforcement", "reason"]).await.expect("it is there");
        assert_eq!((changed.quantity, changed.enforcement(), changed.user.as_deref()), (Some(50), Enforcement::Observe, Some("u1")));
        assert_eq!(left(world, "each", "u1").await, 50);
        assert_eq!(get(world, "more").await.expect("it is there"), changed);
        let changes = world.changes_of("acme").await;
        let last = changes.last().expect("a change");
        assert_eq!((last.subject(), last.id.as_str()), (policy_change::Subject::Override, "more"));
        update(world, made("more", "", 50), &["quantity"]).await.expect("it changes nothing");
        assert_eq!(world.changes_of("acme").await.len(), changes.len());
        let none = Override { quantity: None, ..made("more", "", 0) };
        update(world, none, &["quantity", "enforcement"]).await.expect_err("nothing is left").names(&["override.quantity"]);
        let ended = Override { end_time: at(NOON - 1), ..made("more", "", 0) };
        update(world, ended, &["end_time"]).await.expect_err("before its start").names(&["override.end_time"]);
        let fixed = update(world, made("more", "day", 1), &["limit_id", "user", "id"]).await;
        fixed.expect_err("fixed").names(&["update_mask"; 3]);
        delete(world, "more").await.expect("it is there");
        assert_eq!(left(world, "each", "u1").await, 100);
        get(world, "more").await.expect_err("it is gone").is(Code::NotFound, "OVERRIDE_NOT_FOUND");
        delete(world, "more").await.expect_err("it is gone").is(Code::NotFound, "OVERRIDE_NOT_FOUND");
    }

    async fn wrong_overrides_are_refused(world: World) {
        acme(world).await;
        let no = create(world, Override::default()).await.expect_err("nothing is right");
        no.names(&["override.tenant", "override.id", "override.limit_id", "override.quantity"]);
        let table: Vec<(Override, &[&str])> = vec![
            (made("a", "day", -1), &["override.quantity"]),
            (Override { enforcement: 9, ..made("a", "day", 1) }, &["override.enforcement"]),
            (
                Override { thresholds: Some(Thresholds { percents: vec![0, 5, 5, 1_001] }), ..made("a", "day", 1) },
                &["override.thresholds.percents[0]", "override.thresholds.percents[2]", "override.thresholds.percents[3]"],
            ),
            (Override { reason: "x".repeat(257), ..made("a", "day", 1) }, &["override.reason"]),
            (Override { user: Some("\n".into()), ..made("a", "day", 1) }, &["override.user"]),
            (Override { user: Some("u".into()), ..made("a", "day", 1) }, &["override.user"]),
            (Override { agent: Some("a".into()), ..of_user("a", "u", 1) }, &["override.agent"]),
            (Override { end_time: at(NOON), ..made("a", "day", 1) }, &["override.end_time"]),
            (Override { start_time: at(NOON + 2), end_time: at(NOON + 2), ..made("a", "day", 1) }, &["override.end_time"]),
            (Override { start_time: Some(Timestamp { seconds: 1, nanos: -1 }), ..made("a", "day", 1) }, &["override.start_time"]),
            (
                Override { labels: (0..5).map(|n| (n.to_string(), String::new())).collect(), ..made("a", "day", 1) },
                &["override.labels"],
            ),
        ];
        for (wrong, fields) in table {
            let shown = format!("{wrong:?}");
            let no = create(world, wrong).await.err().unwrap_or_else(|| panic!("{shown} was not refused"));
            no.names(fields);
        }
        create(world, made("a", "day", 1)).await.expect("it is new");
        create(world, made("a", "day", 1)).await.expect_err("taken").is(Code::AlreadyExists, "NAME_TAKEN");
        let other = Override { tenant: "nobody".into(), ..made("b", "day", 1) };
        create(world, other).await.expect_err("no such tenant").is(Code::NotFound, "TENANT_NOT_FOUND");
        update(world, made("b", "", 1), &["quantity"]).await.expect_err("unknown").is(Code::NotFound, "OVERRIDE_NOT_FOUND");
    }

    /// What applied in a window until its end is what WINDOW_CLOSED reports, and what later corrections are compared
    /// with.
    async fn a_window_that_is_over_keeps_the_override_of_its_end(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let midnight = NOON + 12 * HOUR;
        create(world, Override { end_time: at(midnight), ..made("today", "day", 200) }).await.expect("it is new");
        let tomorrow = Override { start_time: at(midnight), ..made("tomorrow", "day", 7) };
        create(world, tomorrow).await.expect("it is new");
        let hold = world.reserve("acme").tokens(150).ttl(13 * HOUR).await.expect("200 are allowed");
        world.clock.set(midnight + 1);
        world.commit(hold.name()).tokens(150).await.expect("it is held");
        world.close_windows().await;
        let events = world.events_of("acme").await;
        assert!(events.iter().all(|event| event.kind() != EventKind::LimitReached), "{events:?}");
        let closed = events.iter().find(|event| event.kind() == EventKind::WindowClosed).expect("it is over");
        let balance = closed.balances.balance("day");
        assert_eq!((balance.allowance, balance.committed), (Some(200), 150));
        assert_eq!(balance.source.clone().expect("of a limit").r#override, "today");
        world.reserve("acme").tokens(8).await.expect_err("7 today").is_quota(&["day"]);
    }

    /// R4.35: an override without a start begins when it is created. So windows that were over before do not show it,
    /// and corrections in these windows are not compared with it.
    async fn a_window_that_was_over_before_an_override_does_not_have_it(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let hold = world.reserve("acme").tokens(60).ttl(20 * HOUR).await.expect("it fits");
        world.clock.advance(13 * HOUR);
        create(world, made("small", "day", 50)).await.expect("it is new");
        let reply = world.commit(hold.name()).tokens(60).await.expect("it is held");
        let balance = reply.balance("day");
        assert_eq!((balance.allowance, balance.exceeded), (Some(100), false), "yesterday it was 100");
        assert_eq!(balance.source.clone().expect("of a limit").r#override, "");
        let reply = world.record("acme").tokens(7).occurred(NOON).await.expect("it is recorded");
        assert_eq!(reply.balance("day").allowance, Some(100));
        let kinds: Vec<_> = world.kinds("acme").await.into_iter().map(|(kind, _)| kind).collect();
        assert!(!kinds.contains(&EventKind::LimitReached), "{kinds:?}");
        world.reserve("acme").tokens(51).await.expect_err("today it is 50").is_quota(&["day"]);
    }

    /// CONTRACT: a tenant has at most 1,000 overrides, and decides with them as fast as with one.
    async fn a_tenant_has_at_most_1000_overrides(world: World) {
        acme(world).await;
        for number in 0..1_000 {
            create(world, of_user(&format!("o{number}"), &format!("u{number}"), 200 + number)).await.expect("it is new");
        }
        let no = create(world, made("one more", "day", 1)).await.expect_err("there are 1,000");
        no.is(Code::FailedPrecondition, "TOO_MANY_OVERRIDES");
        assert_eq!(no.metadata["overrides_max"], "1000");
        for number in [0, 1, 500, 999] {
            assert_eq!(left(world, "each", &format!("u{number}")).await, 200 + number);
        }
        delete(world, "o7").await.expect("it is there");
        create(world, made("one more", "day", 1)).await.expect("there is room again");
    }
}
