//! A Commit may charge the subject that served the call, instead of the subject of the Reserve (R4.45).

use tonic::Code;

use crate::harness::{
    clients::done,
    v1::{EventKind::*, *},
    world::World,
    *,
};

/// The limits of the tests: one for each of two models, one per model, and one for all.
fn limits() -> [Limit; 4] {
    [
        day("tokens", 100).model("large").named("large"),
        day("tokens", 1_000).model("small").named("small"),
        month("tokens", 10_000).per(&[Dimension::Model]).named("each"),
        day("tokens", 5_000).named("all"),
    ]
}

/// Returns committed and reserved of a limit and a model.
async fn of(world: &World, limit: &str, model: &str) -> (i64, i64) {
    let usage = world.usage("acme").await;
    let found =
        usage.iter().find(|b| b.limit_id == limit && b.model.as_deref().is_none_or(|own| own == model));
    found.map_or((0, 0), figures)
}

/// Returns what each limit has committed and reserved: large, small, each of large, each of small, all.
async fn standing(world: &World) -> [(i64, i64); 5] {
    let mut figures = [(0, 0); 5];
    let places = [("large", "large"), ("small", "small"), ("each", "large"), ("each", "small"), ("all", "")];
    for (place, (limit, model)) in places.into_iter().enumerate() {
        figures[place] = of(world, limit, model).await;
    }
    figures
}

fn served(agent: &str, user: &str, model: &str) -> Option<Served> {
    Some(Served { agent: agent.into(), user: user.into(), model: model.into() })
}

both! {
    /// In one round the server remembers the counters. In the other round it loads them after a restart.
    async fn a_call_that_fell_back_is_charged_to_the_model_that_served_it(world: World) {
        world.tenant_with("acme", &limits()).await;
        for (round, restarts) in [(1, false), (2, true)] {
            let reserve = world.reserve("acme").model("large").agent("planner").user("ana").tokens(50);
            let hold = reserve.await.expect("it fits").name().to_owned();
            assert_eq!(standing(world).await[0].1, 50);
            if restarts {
                world.restart().await;
            }
            let reply = world.commit(&hold).tokens(80).model("small").await.expect("it is held");
            let charged = 80 * round;
            assert_eq!((reply.figures("large"), reply.figures("small")), ((0, 0), (charged, 0)));
            assert_eq!(standing(world).await, [(0, 0), (charged, 0), (0, 0), (charged, 0), (charged, 0)]);
            let settled = reply.held();
            assert_eq!((settled.model.as_str(), settled.agent.as_str()), ("large", "planner"));
            assert_eq!(settled.served, served("planner", "ana", "small"));
            assert_eq!(amount(settled, "tokens"), (50, 80));
            assert_eq!(world.get(&hold).await.expect("it is kept"), *settled);
            // A repeat is the same Commit. Another subject is another Commit, as other amounts are.
            let before = world.books("acme").await;
            assert_eq!(world.commit(&hold).tokens(80).model("small").await.expect("a repeat"), reply);
            for other in [world.commit(&hold).tokens(80), world.commit(&hold).tokens(80).model("large"), world.commit(&hold).tokens(80).model(""), world.commit(&hold).tokens(81).model("small")] {
                other.await.expect_err("another Commit").is(Code::FailedPrecondition, "RESERVATION_SETTLED");
            }
            assert_eq!(world.books("acme").await, before);
        }
    }

    /// A value that is left out, and one that is the same, keep the subject of the Reserve. An empty value is a value.
    async fn the_presence_of_a_value_matters(world: World) {
        world.tenant_with("acme", &limits()).await;
        let hold = async || world.reserve("acme").model("large").tokens(10).await.expect("it fits").name().to_owned();
        let same = hold().await;
        let reply = world.commit(&same).tokens(10).model("large").await.expect("it is held");
        assert_eq!((&reply.held().served, reply.figures("large")), (&None, (10, 0)));
        assert_eq!(world.commit(&same).tokens(10).await.expect("the same"), reply);
        let empty = hold().await;
        let reply = world.commit(&empty).tokens(10).model("").await.expect("it is held");
        assert_eq!(reply.held().served, served("", "", ""));
        assert_eq!((of(world, "each", "").await, of(world, "each", "large").await), ((10, 0), (10, 0)));
        let again = world.commit(&empty).tokens(10).await.expect_err("the model of the Reserve");
        again.is(Code::FailedPrecondition, "RESERVATION_SETTLED");
    }

    async fn the_windows_are_those_of_the_hold(world: World) {
        world.tenant_with("acme", &limits()).await;
        let hold = world.reserve("acme").model("large").tokens(10).ttl(20 * HOUR).await.expect("it fits");
        world.clock.advance(13 * HOUR);
        let reply = world.commit(hold.name()).tokens(7).model("small").await.expect("it is held");
        assert_eq!(reply.figures("small"), (7, 0));
        assert!(window(reply.balance("small")).1 < world.clock.now(), "yesterday");
        assert_eq!(of(world, "small", "small").await, (0, 0), "today is untouched");
    }

    /// The deadline has passed. In the second case the hold was charged at it, in the third case a reset forgave that.
    async fn a_late_commit_moves_the_charge_too(world: World) {
        world.tenant_with("acme", &limits()).await;
        for (charged, resets, of_small) in [(false, false, 7), (true, false, 14), (true, true, 7)] {
            let call = world.reserve("acme").model("large").tokens(10).ttl(MINUTE);
            let call = if charged { call.charged_on_expiry() } else { call };
            let hold = call.await.expect("it fits").name().to_owned();
            world.clock.advance(MINUTE);
            if resets {
                world.reset("acme", &[]).await.expect("the tenant exists");
            }
            let reply = world.commit(&hold).tokens(7).model("small").await.expect("it is kept");
            assert!(reply.held().late);
            assert_eq!((reply.figures("large"), reply.figures("small")), ((0, 0), (of_small, 0)));
            let all = if resets { 0 } else { of_small };
            assert_eq!(reply.figures("all"), (all, 0), "what the reset has subtracted of it stays subtracted");
            world.verify().await;
        }
        let events = world.events_of("acme").await;
        let late: Vec<_> = events.iter().filter(|event| event.kind() == CommittedLate).collect();
        assert_eq!(late.len(), 3);
        for event in late {
            let reservation = event.reservation.as_ref().expect("the event is about a reservation");
            assert_eq!((reservation.model.as_str(), &reservation.served), ("large", &served("", "", "small")));
        }
    }

    /// Real usage is never refused. The next Reserve is.
    async fn the_limit_of_the_other_model_may_be_exceeded(world: World) {
        world.tenant_with("acme", &limits()).await;
        let hold = world.reserve("acme").model("small").tokens(500).await.expect("it fits");
        let reply = world.commit(hold.name()).tokens(500).model("large").await.expect("it is held");
        assert!(reply.balance("large").exceeded);
        world.reserve("acme").model("large").tokens(1).await.expect_err("it is used up").is_quota(&["large"]);
        world.reserve("acme").model("small").tokens(1_000).await.expect("nothing was spent of it");
    }

    /// No limit covers one of the models, so its usage is metered.
    async fn usage_moves_between_a_limit_and_the_meter(world: World) {
        world.tenant_with("acme", &[day("tokens", 100).model("large").named("large")]).await;
        let covered = world.reserve("acme").model("large").tokens(10).await.expect("it fits");
        let reply = world.commit(covered.name()).model("small").await.expect("it is held");
        assert_eq!((reply.figures("large"), reply.figures("")), ((0, 0), (10, 0)), "as reserved");
        let uncovered = world.reserve("acme").model("small").tokens(10).await.expect("it is metered");
        let reply = world.commit(uncovered.name()).tokens(4).model("large").await.expect("it is held");
        assert_eq!((reply.figures("large"), reply.figures("")), ((4, 0), (10, 0)));
    }

    async fn agent_and_user_may_differ_too(world: World) {
        let limits = [day("tokens", 100).per(&[Dimension::Agent, Dimension::User]), month("tokens", 100).user("bob").label("team", "x")];
        world.tenant_with("acme", &limits).await;
        let hold = world.reserve("acme").agent("a").user("ana").label("team", "x").tokens(10);
        let hold = hold.await.expect("it fits").name().to_owned();
        let commit = world.commit(&hold).with(|request| (request.agent, request.user) = (Some("b".into()), Some("bob".into())));
        let reply = commit.await.expect("it is held");
        assert_eq!(reply.held().served, served("b", "bob", ""));
        let mut found: Vec<_> = reply.balances.iter().map(|b| (b.limit_id.as_str(), b.agent.as_deref(), b.user.as_deref(), figures(b))).collect();
        found.sort_unstable();
        let wanted = [
            ("day", Some("a"), Some("ana"), (0, 0)),
            ("day", Some("b"), Some("bob"), (10, 0)),
            ("month", None, Some("bob"), (10, 0)),
        ];
        assert_eq!(found, wanted, "the labels are those of the Reserve");
    }

    /// The agent that served the call has a plan of its own, whose limit counts the agent beside the tenant's limit.
    async fn the_plan_of_the_agent_that_served_counts(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.plan("narrow", &[month("tokens", 500).named("own")]).await.expect("the plan is new");
        let agent = Agent { tenant: "acme".into(), id: "b".into(), plan: "narrow".into(), ..Agent::default() };
        let created = world.admin.clone().create_agent(CreateAgentRequest { agent: Some(agent) }).await;
        done(created).expect("the agent is new");
        for (from, to, of_own) in [("a", "b", 30), ("b", "a", 30)] {
            let hold = world.reserve("acme").agent(from).tokens(50).await.expect("it fits");
            let commit = world.commit(hold.name()).tokens(30).with(|request| request.agent = Some(to.into()));
            let reply = commit.await.expect("it is held");
            assert_eq!(reply.figures("own"), (of_own, 0), "{from} to {to}");
            world.amend(hold.name()).tokens(60).await.expect("it was charged");
            let reply = world.amend(hold.name()).tokens(30).await.expect("it was charged");
            assert_eq!(reply.figures("own"), (of_own, 0), "{from} to {to}");
        }
        assert_eq!(world.figures("acme", "day").await, (60, 0));
    }

    async fn an_amend_corrects_the_counters_that_were_charged(world: World) {
        let [large, small, each, all] = limits();
        world.tenant_with("acme", &[large, small, each, all, day("images", 10).per(&[Dimension::Model]).named("images")]).await;
        let hold = world.reserve("acme").model("large").tokens(50).id("r").await.expect("it fits");
        let first = world.commit(hold.name()).tokens(80).model("small").await.expect("it is held");
        for figure in [0, 120, 30] {
            let reply = world.amend(hold.name()).tokens(figure).await.expect("it was charged");
            assert_eq!(reply.held().served, served("", "", "small"));
            assert_eq!(standing(world).await, [(0, 0), (figure, 0), (0, 0), (figure, 0), (figure, 0)]);
        }
        world.amend(hold.name()).amount("images", 2).await.expect("it was charged");
        assert_eq!(of(world, "images", "small").await, (2, 0));
        let again = world.commit(hold.name()).tokens(80).model("small").await.expect("a repeat");
        assert_eq!(again.reservation, first.reservation);
        let reserve = world.reserve("acme").model("large").tokens(50).id("r").await.expect("a retry");
        assert_eq!(reserve.reservation, hold.reservation);
    }

    /// A counter that an Extend added has reserved only the units of the Extend, but is charged for none if it does not
    /// count the model that served the call.
    async fn units_that_an_extend_added_move_as_well(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000).named("all")]).await;
        let hold = world.reserve("acme").model("large").tokens(50).await.expect("it fits").name().to_owned();
        world.change_plan("acme", &limits()).await.expect("the plan exists");
        world.extend(&hold).tokens(20).amount("tokens", 0).with(|request| request.amounts.truncate(1)).await.expect("it fits");
        assert_eq!(standing(world).await, [(0, 20), (0, 0), (0, 20), (0, 0), (0, 70)]);
        world.commit(&hold).tokens(60).model("small").await.expect("it is held");
        assert_eq!(standing(world).await, [(0, 0), (60, 0), (0, 0), (60, 0), (60, 0)]);
    }

    async fn one_batch_reserves_and_falls_back(world: World) {
        world.tenant_with("acme", &limits()).await;
        let mut operations = Vec::new();
        for number in 0..20 {
            let id = format!("r{number}");
            operations.push(world.reserve("acme").model("large").tokens(5).id(&id).operation());
            let commit = world.commit("").tokens(3).model(if number % 2 == 0 { "small" } else { "tiny" });
            operations.push(commit.with(|request| (request.tenant, request.reserve_request_id) = ("acme".into(), id)).operation());
        }
        for result in world.batch(operations).await.expect("each stands for itself") {
            assert!(!matches!(result.result, Some(operation_result::Result::Error(_))), "{result:?}");
        }
        assert_eq!(standing(world).await, [(0, 0), (30, 0), (0, 0), (30, 0), (60, 0)]);
        assert_eq!(of(world, "each", "tiny").await, (30, 0));
    }

    async fn a_wrong_value_is_named(world: World) {
        world.tenant_with("acme", &limits()).await;
        let hold = world.reserve("acme").model("large").tokens(10).await.expect("it fits").name().to_owned();
        let cases: [Case<CommitRequest>; 4] = [
            ("agent", |request| request.agent = Some("a".repeat(129))),
            ("user", |request| request.user = Some("\u{7}".into())),
            ("model", |request| request.model = Some("a".repeat(129))),
            ("amounts[0].quantity", |request| request.amounts[0].quantity = i64::MAX),
        ];
        world.record("acme").model("small").tokens(1).await.expect("it is recorded");
        for (field, spoil) in cases {
            world.commit(&hold).tokens(1).model("small").with(spoil).await.expect_err(field).names(&[field]);
        }
        assert_eq!(standing(world).await[0], (0, 10));
    }
}
