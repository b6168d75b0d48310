//! R4.46: from which window a limit carries over, by which terms, and for which subject.

use crate::harness::{v1::*, *};

/// A limit of 100 tokens a day, of which half can be carried over.
fn half() -> Limit {
    day("tokens", 100).carrying(50, 0)
}

/// Returns carry-over and allowance of a limit for the subject of a Check, which holds nothing.
async fn checked(call: Call<CheckRequest>, limit: &str) -> (i64, i64) {
    let check = call.tokens(0).await.expect("an answer");
    let balances: Vec<Balance> = check.verdicts.into_iter().filter_map(|verdict| verdict.balance).collect();
    let balance = balances.balance(limit);
    (balance.carried, balance.allowance.expect("of a limit"))
}

/// Returns carry-over and allowance of a limit, by Check and by GetUsage.
async fn carried(world: &Clients, limit: &str) -> (i64, i64) {
    let checked = checked(world.check("acme"), limit).await;
    let usage = world.usage("acme").await;
    let balance = usage.balance(limit);
    assert_eq!((balance.carried, balance.allowance), (checked.0, Some(checked.1)), "as a Check");
    checked
}

async fn spend(world: &Clients, tokens: i64) {
    world.record("acme").tokens(tokens).await.expect("it is recorded");
}

/// Sets the clock to an instant of a day, in hours after its midnight. Day 0 is the day of [`NOON`].
fn go(world: &World, day: i64, hours: i64) {
    world.clock.set(NOON - 12 * HOUR + day * DAY + hours * HOUR);
}

async fn create_agent(world: &Clients, id: &str, plan: &str) {
    let agent = Agent { tenant: "acme".into(), id: id.into(), plan: plan.into(), ..Agent::default() };
    let request = CreateAgentRequest { agent: Some(agent) };
    clients::done(world.admin.clone().create_agent(request).await).expect("it is new");
}

async fn exception(world: &Clients, quantity: i64, start: Option<i64>, end: Option<i64>) {
    let made = Override {
        tenant: "acme".into(),
        id: format!("of{quantity}"),
        limit_id: "day".into(),
        quantity: Some(quantity),
        start_time: start.map(timestamp),
        end_time: end.map(timestamp),
        reason: "a test".into(),
        ..Override::default()
    };
    let request = CreateOverrideRequest { r#override: Some(made) };
    clients::done(world.admin.clone().create_override(request).await).expect("it is new");
}

both! {
    /// A limit carries nothing over from a window at whose end it did not count.
    async fn a_limit_that_is_new_or_returns_carries_nothing_from_the_window_before(world: World) {
        let month = || month("tokens", 1_000);
        world.tenant_with("acme", &[month()]).await;
        go(world, 1, 2);
        world.change_plan("acme", &[month(), half()]).await.expect("the plan is there");
        assert_eq!(carried(world, "day").await, (0, 100), "new");
        go(world, 2, 0);
        assert_eq!(carried(world, "day").await, (50, 150), "nobody has used the day before");
        spend(world, 10).await;
        world.change_plan("acme", &[month()]).await.expect("the plan is there");
        go(world, 3, 1);
        world.change_plan("acme", &[month(), half()]).await.expect("the plan is there");
        assert_eq!(carried(world, "day").await, (0, 100), "returned");
        spend(world, 80).await;
        assert_eq!(carried(world, "day").await, (0, 100));
        world.change_plan("acme", &[month()]).await.expect("the plan is there");
        world.change_plan("acme", &[month(), half()]).await.expect("the plan is there");
        spend(world, 70).await;
        go(world, 4, 0);
        assert_eq!(carried(world, "day").await, (30, 130), "it was back before the end, and had started at zero");
        world.verify().await;
    }

    async fn a_tenant_with_another_plan_carries_nothing_over_by_its_first_use(world: World) {
        world.tenant_with("acme", &[half()]).await;
        let pro = day("tokens", 200).carrying(100, 0);
        world.plan("pro", &[pro.clone(), pro.named("daily")]).await.expect("the plan is new");
        spend(world, 70).await;
        go(world, 1, 1);
        assert_eq!(carried(world, "day").await, (30, 130));
        world.set_plan("acme", "pro").await;
        assert_eq!(carried(world, "day").await, (0, 200), "the plan is new today");
        spend(world, 20).await;
        world.set_plan("acme", "acme").await;
        assert_eq!(carried(world, "day").await, (0, 100), "the window has begun");
        go(world, 2, 0);
        spend(world, 1).await;
        assert_eq!(carried(world, "day").await, (50, 150));
        world.set_plan("acme", "pro").await;
        assert_eq!((carried(world, "day").await, carried(world, "daily").await), ((50, 250), (0, 200)), "by the id");
        go(world, 3, 0);
        assert_eq!(carried(world, "day").await, (199, 399));
        let next = Some(NextPlan { plan: "acme".into(), effective_time: Some(timestamp(NOON + 4 * DAY - 12 * HOUR)) });
        let tenant = Tenant { id: "acme".into(), next_plan: next, ..Tenant::default() };
        world.change_tenant(tenant, &["next_plan"]).await.expect("it is there");
        go(world, 4, 0);
        assert_eq!(carried(world, "day").await, (0, 100), "a scheduled change");
        world.verify().await;
    }

    /// The first use of a window decides by the limit as it is then. Afterwards only the end of the carry-over counts.
    async fn a_changed_limit_carries_over_as_it_is_at_the_first_use(world: World) {
        let plain = || day("tokens", 100);
        world.tenant_with("acme", &[plain()]).await;
        spend(world, 30).await;
        go(world, 1, 1);
        assert_eq!(carried(world, "day").await, (0, 100));
        world.change_plan("acme", &[half()]).await.expect("the plan is there");
        assert_eq!(carried(world, "day").await, (50, 150));
        world.change_plan("acme", &[day("tokens", 400).carrying(50, 0)]).await.expect("the plan is there");
        assert_eq!(carried(world, "day").await, (200, 600));
        spend(world, 10).await;
        world.change_plan("acme", &[half()]).await.expect("the plan is there");
        assert_eq!(carried(world, "day").await, (200, 300), "it is stored");
        world.change_plan("acme", &[plain()]).await.expect("the plan is there");
        assert_eq!(carried(world, "day").await, (0, 100), "the limit no longer carries over");
        go(world, 2, 0);
        spend(world, 10).await;
        world.change_plan("acme", &[half()]).await.expect("the plan is there");
        assert_eq!(carried(world, "day").await, (0, 100), "the window has begun without it");
        world.change_plan("acme", &[half(), half().named("also")]).await.expect("the plan is there");
        go(world, 3, 0);
        assert_eq!((carried(world, "day").await, carried(world, "also").await), ((50, 150), (50, 150)));
    }

    /// An override replaces the quantity, in the window before and in the window that gets the units.
    async fn an_override_of_the_window_before_decides_what_is_carried_over(world: World) {
        world.tenant_with("acme", &[half()]).await;
        let midnight = NOON + 12 * HOUR;
        exception(world, 200, None, Some(midnight)).await;
        spend(world, 50).await;
        go(world, 1, 0);
        assert_eq!(carried(world, "day").await, (100, 200), "half of 200");
        exception(world, 10, Some(midnight + HOUR), Some(midnight + 2 * HOUR)).await;
        go(world, 1, 1);
        assert_eq!(carried(world, "day").await, (100, 110), "of another window");
        spend(world, 1).await;
        go(world, 1, 2);
        assert_eq!(carried(world, "day").await, (100, 200));
        go(world, 2, 0);
        assert_eq!(carried(world, "day").await, (50, 150), "the override had ended by then");
    }

    async fn each_subject_carries_over_its_own_units(world: World) {
        let limits = [
            half().per(&[Dimension::User]).named("user"),
            half().per_label("run").label("team", "search").named("run"),
        ];
        world.tenant_with("acme", &limits).await;
        for (user, run, tokens) in [("ana", "7", 80), ("bob", "8", 10)] {
            let record = world.record("acme").user(user).label("run", run).label("team", "search");
            record.tokens(tokens).await.expect("it is recorded");
        }
        go(world, 1, 0);
        let of = async |user: &str, run: &str, limit: &str| {
            let call = world.check("acme").user(user).label("run", run).label("team", "search");
            checked(call, limit).await.0
        };
        for restarts in [false, true] {
            for (user, units) in [("ana", 20), ("bob", 50), ("cid", 50), ("", 50)] {
                assert_eq!(of(user, "", "user").await, units, "{user}, {restarts}");
            }
            for (run, units) in [("7", 20), ("8", 50), ("9", 50)] {
                assert_eq!(of("x", run, "run").await, units, "{run}, {restarts}");
            }
            let hold = world.reserve("acme").tokens(120).user("ana").await.expect("20 are carried over");
            assert_eq!(hold.balance("user").carried, 20);
            world.reserve("acme").tokens(1).user("ana").await.expect_err("it is used up").is_quota(&["user"]);
            world.release(hold.name()).await.expect("it is held");
        }
        let usage = world.usage("acme").await;
        assert_eq!(usage.balance("user").carried, 20, "only ana has used it today");
    }

    async fn limits_that_share_a_counter_carry_over_each_by_its_own_caps(world: World) {
        let limits = [
            half(),
            day("tokens", 90).soft().named("warn"),
            day("tokens", 200).carrying(0, 7).named("more"),
            day("tokens", 100).user("ana").named("ana").carrying(100, 0),
            day("tokens", 100).per(&[Dimension::User]).named("each"),
        ];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(30).user("ana").await.expect("it is recorded");
        go(world, 1, 0);
        let of = async |limit: &str| checked(world.check("acme").user("ana"), limit).await.0;
        for _ in 0..2 {
            let found = [of("day").await, of("warn").await, of("more").await, of("ana").await, of("each").await];
            assert_eq!(found, [50, 0, 7, 70, 0]);
            let hold = world.reserve("acme").tokens(1).user("ana").await.expect("there is quota");
            world.release(hold.name()).await.expect("it is held");
        }
    }

    async fn a_limit_of_an_agents_plan_carries_over_for_the_agent(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.plan("small", &[half().named("own")]).await.expect("the plan is new");
        create_agent(world, "planner", "small").await;
        world.record("acme").tokens(70).agent("planner").await.expect("it is recorded");
        go(world, 1, 1);
        create_agent(world, "coder", "small").await;
        let of = async |agent: &str| checked(world.check("acme").agent(agent), "own").await;
        let used = async |agent: &str| {
            let request = GetUsageRequest { tenant: "acme".into(), agent: Some(agent.into()), ..GetUsageRequest::default() };
            let usage = clients::done(world.quota.clone().get_usage(request).await).expect("it is there");
            let balance = usage.balance("own");
            (balance.carried, balance.allowance.expect("of a limit"))
        };
        for _ in 0..2 {
            assert_eq!((of("planner").await, used("planner").await), ((30, 130), (30, 130)));
            assert_eq!((of("coder").await, used("coder").await), ((0, 100), (0, 100)), "declared today");
            for agent in ["planner", "coder"] {
                world.record("acme").tokens(1).agent(agent).await.expect("it is recorded");
            }
        }
        go(world, 2, 0);
        assert_eq!((of("planner").await, of("coder").await), ((50, 150), (50, 150)));
    }

    async fn days_of_other_lengths_carry_over_like_any_day(world: World) {
        world.clock.set(at("2026-03-28T12:00:00Z"));
        world.tenant_in("acme", "Europe/Berlin", &[half()]).await;
        spend(world, 70).await;
        // The day of 23 hours, from 23:00 UTC to 22:00 UTC.
        for (instant, units) in [("2026-03-28T23:00:00Z", 30), ("2026-03-29T21:59:59.999Z", 30), ("2026-03-29T22:00:00Z", 20)] {
            world.clock.set(at(instant));
            assert_eq!(carried(world, "day").await.0, units, "{instant}");
            spend(world, 40).await;
        }
    }

    async fn months_with_anchor_day_31_carry_over(world: World) {
        world.clock.set(at("2026-01-31T12:00:00Z"));
        world.tenant_with("acme", &[month("tokens", 100).anchor(31).carrying(50, 0)]).await;
        spend(world, 60).await;
        for (instant, units, spent) in [("2026-02-28T00:00:00Z", 40, 90), ("2026-03-31T00:00:00Z", 10, 1), ("2026-04-30T00:00:00Z", 50, 1)] {
            world.clock.set(at(instant) - 1);
            assert_ne!(carried(world, "month").await.0, units, "{instant}");
            world.clock.set(at(instant));
            assert_eq!(carried(world, "month").await, (units, 100 + units), "{instant}");
            spend(world, spent).await;
        }
    }

    /// After a change of zone or anchor, the window before is the window that ended when this window began.
    async fn a_window_of_a_changed_calendar_carries_over(world: World) {
        world.clock.set(at("2026-03-16T20:00:00Z"));
        world.tenant_in("acme", "America/New_York", &[half(), month("tokens", 1_000).carrying(10, 0)]).await;
        spend(world, 70).await;
        world.move_to("acme", "Asia/Tokyo").await.expect("the zone is known");
        let limits = [half(), month("tokens", 1_000).carrying(10, 0).anchor(20)];
        world.change_plan("acme", &limits).await.expect("the plan is there");
        for (instant, units, spent) in [
            ("2026-03-17T04:00:00Z", 30, 80),
            ("2026-03-18T15:00:00Z", 20, 99),
            ("2026-03-19T15:00:00Z", 1, 1),
        ] {
            world.clock.set(at(instant));
            world.restart().await;
            assert_eq!(carried(world, "day").await.0, units, "{instant}");
            spend(world, spent).await;
        }
        let usage = world.usage("acme").await;
        let end = window(usage.balance("month")).1;
        assert_eq!((end, usage.balance("month").carried), (at("2026-04-01T04:00:00Z"), 0));
        world.clock.set(end);
        assert_eq!(carried(world, "month").await, (100, 1_100), "into the window of the change");
        spend(world, 1_050).await;
        let usage = world.usage("acme").await;
        world.clock.set(window(usage.balance("month")).1);
        assert_eq!(carried(world, "month").await, (0, 1_000), "and from it");
    }

    /// A Record of earlier usage may be the first use of a window that is over.
    async fn a_record_of_earlier_usage_makes_the_carry_over_of_its_own_window(world: World) {
        world.tenant_with("acme", &[half()]).await;
        spend(world, 80).await;
        go(world, 3, 12);
        let then = |day: i64| NOON + day * DAY;
        assert_eq!(carried(world, "day").await.0, 50);
        let record = world.record("acme").tokens(10).occurred(then(1)).await.expect("it is recorded");
        assert_eq!((record.balance("day").carried, record.figures("day")), (20, (10, 0)), "of the day before that");
        let record = world.record("acme").tokens(80).occurred(then(2)).await.expect("it is recorded");
        assert_eq!(record.balance("day").carried, 50, "10 of 100 were used");
        assert_eq!(carried(world, "day").await.0, 20, "80 of 100 were used");
        spend(world, 1).await;
        world.record("acme").tokens(15).occurred(then(2)).await.expect("it is recorded");
        assert_eq!(carried(world, "day").await.0, 20, "it is stored");
        world.verify().await;
    }
}
