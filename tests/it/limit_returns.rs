//! A counter has the usage since its `counted_since`. If a limit was removed and returns, its counter starts at zero.
//! If a limit was always in the tenant's plan, its counter goes on.

use crate::harness::{
    v1::{EventKind::*, *},
    *,
};

/// Returns committed, reserved and remaining of a limit, and `counted_since` in milliseconds.
async fn standing(world: &Clients, limit: &str) -> (i64, i64, i64, i64) {
    let usage = world.usage("acme").await;
    let balance = usage.balance(limit);
    let since = millis(balance.counted_since.as_ref()).expect("always given");
    (balance.committed, balance.reserved, balance.remaining.expect("of a limit"), since)
}

/// Records this number of tokens.
async fn spend(world: &Clients, tokens: i64) {
    world.record("acme").tokens(tokens).await.expect("it is recorded");
}

both! {
    /// The limit returns at the same instant in one round, and later in the other round.
    async fn a_limit_that_returns_starts_at_zero(world: World) {
        let limits = [day("tokens", 100)];
        world.tenant_with("acme", &limits).await;
        for pause in [0, HOUR] {
            spend(world, 40).await;
            world.change_plan("acme", &[]).await.expect("the plan is there");
            world.clock.advance(pause);
            spend(world, 500).await;
            world.change_plan("acme", &limits).await.expect("the plan is there");
            let returned = world.clock.now();
            // The reads come first, so nothing has been decided since the limit returned.
            assert_eq!(standing(world, "day").await, (0, 0, 100, returned));
            let check = world.check("acme").tokens(100).await.expect("an answer");
            assert!(check.allowed, "{check:?}");
            assert_eq!(standing(world, "day").await, (0, 0, 100, returned));
            let hold = world.reserve("acme").tokens(100).await.expect("there is quota");
            assert_eq!(hold.figures("day"), (0, 100));
            world.commit(hold.name()).tokens(30).await.expect("it is held");
            assert_eq!(standing(world, "day").await, (30, 0, 70, returned), "it starts once");
            world.restart().await;
            spend(world, 20).await;
            assert_eq!(standing(world, "day").await, (50, 0, 50, returned));
            world.verify().await;
            world.clock.advance(DAY);
        }
    }

    async fn a_returning_limit_resets_its_counter_by_an_adjustment_with_an_event(world: World) {
        let limits = [lifetime("tokens", 100).thresholds(&[30])];
        world.tenant_with("acme", &limits).await;
        spend(world, 40).await;
        world.change_plan("acme", &[]).await.expect("the plan is there");
        world.change_plan("acme", &limits).await.expect("the plan is there");
        spend(world, 35).await;
        let events = world.events_of("acme").await;
        let expected = [(ThresholdReached, 30), (ThresholdCleared, 30), (UsageReset, 0), (ThresholdReached, 30)];
        assert_eq!(kinds_of(&events), expected);
        let reset = &events[2];
        assert_eq!((reset.adjusted, reset.reason.as_str(), reset.operator.as_str()), (-40, "the limit returned", "tope"));
        assert_eq!(reset.balances.figures("lifetime"), (0, 0));
        assert_eq!((events[0].generation, events[3].generation), (1, 2));
        assert_eq!(events[3].balances.figures("lifetime"), (35, 0));
        let text = "SELECT COUNT(*) FROM adjustments WHERE delta = -40 AND reason = 'the limit returned' AND operator = 'tope'";
        assert_eq!(world.database.number(text).await, 1);
    }

    async fn a_counter_restarts_after_a_plan_without_its_limit_but_not_after_a_plan_with_it(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.plan("without", &[month("tokens", 1_000)]).await.expect("the plan is new");
        world.plan("with", &[day("tokens", 70).named("daily"), month("tokens", 1_000)]).await.expect("the plan is new");
        let moved = async |plan: &'static str| world.set_plan("acme", plan).await;
        for pause in [0, HOUR] {
            spend(world, 40).await;
            let begun = standing(world, "day").await.3;
            world.clock.advance(pause);
            moved("with").await;
            assert_eq!(standing(world, "daily").await, (40, 0, 30, begun), "the same shape");
            spend(world, 10).await;
            world.clock.advance(pause);
            moved("acme").await;
            assert_eq!(standing(world, "day").await, (50, 0, 50, begun), "and back");
            moved("without").await;
            spend(world, 500).await;
            moved("acme").await;
            assert_eq!(standing(world, "day").await, (0, 0, 100, world.clock.now()));
            // The plan `acme` does not have the limit `month`, so `month` starts at zero.
            spend(world, 5).await;
            moved("with").await;
            assert_eq!(standing(world, "month").await, (0, 0, 1_000, world.clock.now()));
            assert_eq!(world.figures("acme", "daily").await, (5, 0));
            moved("acme").await;
            assert_eq!(world.figures("acme", "day").await, (5, 0));
            world.change_plan("with", &[]).await.expect("the plan exists");
            world.change_plan("with", &[day("tokens", 70).named("daily"), month("tokens", 1_000)]).await.expect("the plan exists");
            moved("with").await;
            assert_eq!(world.figures("acme", "daily").await, (5, 0), "it had it all the time");
            moved("acme").await;
            world.verify().await;
            world.clock.advance(DAY);
        }
    }

    async fn a_limit_with_another_quantity_or_id_keeps_its_usage(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        spend(world, 40).await;
        world.clock.advance(HOUR);
        let changed = [day("tokens", 60).named("daily").soft(), day("tokens", 50).named("also")];
        world.change_plan("acme", &changed).await.expect("the plan is there");
        assert_eq!(standing(world, "daily").await, (40, 0, 20, NOON));
        assert_eq!(standing(world, "also").await, (40, 0, 10, NOON));
        world.change_plan("acme", &[day("tokens", 100)]).await.expect("the plan is there");
        assert_eq!(standing(world, "day").await, (40, 0, 60, NOON));
    }

    async fn a_limit_with_another_anchor_day_goes_on_and_with_another_user_has_another_shape(world: World) {
        world.tenant_with("acme", &[month("tokens", 600)]).await;
        spend(world, 40).await;
        world.change_plan("acme", &[month("tokens", 600).anchor(16)]).await.expect("the plan is there");
        assert_eq!(standing(world, "month").await, (40, 0, 560, NOON));
        spend(world, 500).await;
        world.clock.advance(HOUR);
        world.change_plan("acme", &[month("tokens", 600)]).await.expect("the plan is there");
        assert_eq!(standing(world, "month").await, (540, 0, 60, NOON));
        // Another id with another anchor day is another limit.
        world.change_plan("acme", &[month("tokens", 600).anchor(17).named("other")]).await.expect("there");
        assert_eq!(standing(world, "other").await, (0, 0, 600, NOON + HOUR));

        let each = [day("tokens", 100).per(&[Dimension::User])];
        world.change_plan("acme", &each).await.expect("the plan is there");
        for user in ["u1", "u2"] {
            world.record("acme").tokens(40).user(user).await.expect("it is recorded");
        }
        world.change_plan("acme", &[day("tokens", 100).user("u1")]).await.expect("the plan is there");
        for user in ["u1", "u2"] {
            world.record("acme").tokens(50).user(user).await.expect("it is recorded");
        }
        world.change_plan("acme", &each).await.expect("the plan is there");
        let usage = world.usage("acme").await;
        let mut users: Vec<_> = usage.iter().filter(|balance| balance.limit_id == "day").collect();
        users.sort_by_key(|balance| balance.user.clone());
        let users: Vec<_> = users.iter().map(|balance| (balance.user.as_deref(), balance.committed)).collect();
        assert_eq!(users, [(Some("u1"), 90), (Some("u2"), 0)], "the one was counted all the time");
        world.reserve("acme").tokens(100).user("u2").await.expect("there is quota");
        world.reserve("acme").tokens(11).user("u1").await.expect_err("90 of 100").is_quota(&["day"]);
    }

    /// Two limits read one counter. The older limit is removed, and the newer limit stays.
    async fn a_counter_keeps_its_usage_while_one_of_its_two_limits_remains(world: World) {
        let (each, one) = (day("tokens", 100).per(&[Dimension::User]), day("tokens", 80).user("u1").named("u1"));
        for (first, second) in [(each.clone(), one.clone()), (one, each)] {
            let tenant = first.id.as_str();
            world.tenant_with(tenant, std::slice::from_ref(&first)).await;
            let record = |tokens| world.record(tenant).tokens(tokens).user("u1");
            record(10).await.expect("it is recorded");
            world.clock.advance(MINUTE);
            world.change_plan(tenant, &[first.clone(), second.clone()]).await.expect("the plan is there");
            record(10).await.expect("it is recorded");
            world.clock.advance(MINUTE);
            world.change_plan(tenant, std::slice::from_ref(&second)).await.expect("the plan is there");
            assert_eq!(world.figures(tenant, &second.id).await, (20, 0));
            let reply = record(10).await.expect("it is recorded");
            assert_eq!(reply.figures(&second.id), (30, 0));
        }
    }

    async fn open_holds_survive_the_return_of_a_limit_and_are_settled_exactly(world: World) {
        let limits = [lifetime("tokens", 1_000)];
        world.tenant_with("acme", &limits).await;
        let reserve = |tokens| world.reserve("acme").tokens(tokens).ttl(HOUR);
        let (between, after, freed) = (reserve(100).await, reserve(200).await, reserve(300).await);
        let name = |hold: Result<ReserveResponse, _>| match hold {
            Ok(hold) => hold.name().to_owned(),
            Err(no) => panic!("{no:?}"),
        };
        let (between, after, freed) = (name(between), name(after), name(freed));
        spend(world, 40).await;
        world.change_plan("acme", &[]).await.expect("the plan is there");
        world.commit(&between).tokens(70).await.expect("it is held");
        world.change_plan("acme", &limits).await.expect("the plan is there");
        assert_eq!(standing(world, "lifetime").await, (0, 500, 500, NOON));
        let reply = world.commit(&after).tokens(50).await.expect("it is held");
        assert_eq!(reply.figures("lifetime"), (50, 300));
        let reply = world.release(&freed).await.expect("it is held");
        assert_eq!(reply.figures("lifetime"), (50, 0));
        assert_eq!(world.figures("acme", "lifetime").await, (50, 0));
    }

    /// Charges at deadlines before the limit returned do not count, even if the holds were not swept before.
    async fn charges_before_the_return_of_a_limit_do_not_count_but_later_charges_do(world: World) {
        let limits = [lifetime("tokens", 1_000)];
        world.tenant_with("acme", &limits).await;
        let hold = |tokens, ttl| world.reserve("acme").tokens(tokens).ttl(ttl).charged_on_expiry();
        let early = hold(100, MINUTE).await.expect("there is quota");
        let late = hold(200, HOUR).await.expect("there is quota");
        world.change_plan("acme", &[]).await.expect("the plan is there");
        world.clock.advance(MINUTE);
        world.change_plan("acme", &limits).await.expect("the plan is there");
        let returned = world.clock.now();
        assert_eq!(standing(world, "lifetime").await, (0, 200, 800, returned));
        spend(world, 30).await;
        assert_eq!(standing(world, "lifetime").await, (30, 200, 770, returned));
        world.clock.advance(HOUR);
        assert_eq!(standing(world, "lifetime").await, (230, 0, 770, returned));
        world.release(early.name()).await.expect("it is kept");
        assert_eq!(standing(world, "lifetime").await, (230, 0, 770, returned), "it is not given back");
        world.commit(late.name()).tokens(50).await.expect("it is kept");
        assert_eq!(standing(world, "lifetime").await, (80, 0, 920, returned));
        world.verify().await;
    }

    async fn a_window_that_is_over_keeps_its_usage_when_a_limit_returns(world: World) {
        let limits = [day("tokens", 100)];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").tokens(30).ttl(20 * HOUR).await.expect("there is quota");
        spend(world, 40).await;
        world.clock.advance(13 * HOUR);
        world.change_plan("acme", &[]).await.expect("the plan is there");
        world.change_plan("acme", &limits).await.expect("the plan is there");
        assert_eq!(standing(world, "day").await, (0, 0, 100, NOON + 13 * HOUR));
        let reply = world.commit(hold.name()).tokens(25).await.expect("it is held");
        assert_eq!(reply.figures("day"), (65, 0), "yesterday's");
    }

    async fn counted_since_is_never_after_the_end_of_the_window(world: World) {
        world.tenant_with("acme", &[month("tokens", 1_000)]).await;
        world.declare("requests").await;
        let hold = world.reserve("acme").tokens(10).ttl(20 * HOUR).await.expect("there is quota");
        world.clock.advance(14 * HOUR);
        let limits = [month("tokens", 1_000), day("tokens", 100), day("requests", 5).named("calls")];
        world.change_plan("acme", &limits).await.expect("the plan is there");
        let within = |balance: &Balance| {
            let [since, end] = [&balance.counted_since, &balance.window_end].map(|at| millis(at.as_ref()));
            assert!(since <= end, "{balance:?}");
        };
        let reply = world.extend(hold.name()).tokens(5).await.expect("there is quota");
        reply.balances.iter().for_each(within);
        assert_eq!(reply.figures("day"), (0, 5), "of the day on which the hold was made");
        let reply = world.extend(hold.name()).amount("requests", 1).await.expect("there is quota");
        reply.balances.iter().for_each(within);
        let reply = world.commit(hold.name()).tokens(12).amount("requests", 2).await.expect("it is held");
        reply.balances.iter().for_each(within);
        assert_eq!((reply.figures("day"), reply.figures("calls")), ((2, 0), (2, 0)));
    }

    /// A Commit charges a resource that was not reserved. `counted_since` of the new counter is when its limit was
    /// added.
    async fn a_counter_that_a_commit_creates_counts_since_its_limit_was_added(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.declare("requests").await;
        let hold = world.reserve("acme").tokens(10).ttl(20 * HOUR).await.expect("there is quota");
        world.clock.advance(HOUR);
        let limits = [day("tokens", 1_000), day("requests", 5).named("calls")];
        world.change_plan("acme", &limits).await.expect("the plan is there");
        let reply = world.commit(hold.name()).amount("requests", 1).await.expect("it is held");
        assert_eq!(millis(reply.balance("calls").counted_since.as_ref()), Some(NOON + HOUR));
        assert_eq!(standing(world, "calls").await, (1, 0, 4, NOON + HOUR));
        let reply = world.record("acme").amount("requests", 1).await.expect("it is recorded");
        assert_eq!(reply.figures("calls"), (2, 0));
    }

    async fn a_reservation_keeps_its_resource_when_the_name_is_declared_again(world: World) {
        world.tenant_with("acme", &[]).await;
        let again = async |id: &str| {
            let request = DeleteResourceRequest { id: id.into(), ..DeleteResourceRequest::default() };
            clients::done(world.admin.clone().delete_resource(request).await).expect("no limit counts it");
            world.resource(id).await.expect("it is free again");
        };
        world.resource("g").await.expect("the resource is new");
        world.resource("h").await.expect("the resource is new");
        let hold = world.reserve("acme").amount("g", 10).await.expect("it is metered");
        again("g").await;
        let extended = world.extend(hold.name()).id("e").amount("g", 5).await.expect("it is held");
        assert_eq!(extended.held().amounts.len(), 1, "{extended:?}");
        assert_eq!(amount(extended.held(), "g"), (15, 0));
        let reply = world.commit(hold.name()).amount("g", 12).amount("h", 1).await.expect("it is held");
        assert_eq!((reply.held().amounts.len(), amount(reply.held(), "g")), (2, (15, 12)));
        let charged: i64 = reply.balances.iter().filter(|balance| balance.resource == "g").map(|balance| balance.committed).sum();
        assert_eq!(charged, 12, "{reply:?}");
        again("h").await;
        let repeated = world.commit(hold.name()).amount("g", 12).amount("h", 1).await.expect("the same");
        assert_eq!(repeated.reservation, reply.reservation);
        // The Commit did not charge the new resource with the same name.
        assert_eq!(world.record("acme").amount("g", 1).await.expect("it is metered").figures(""), (1, 0));
    }
}
