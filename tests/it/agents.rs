//! Agents that were declared: their plans count them separately, and each can be suspended alone (R4.32, R4.33).

use tonic::Code;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

fn agent(id: &str, plan: &str) -> Agent {
    Agent { tenant: "acme".into(), id: id.into(), plan: plan.into(), ..Agent::default() }
}

async fn create(world: &Clients, agent: Agent) -> Answer<Agent> {
    done(world.admin.clone().create_agent(CreateAgentRequest { agent: Some(agent) }).await)
}

async fn update(world: &Clients, agent: Agent, paths: &[&str]) -> Answer<Agent> {
    let request = UpdateAgentRequest { agent: Some(agent), update_mask: Some(mask(paths)) };
    done(world.admin.clone().update_agent(request).await)
}

async fn delete(world: &Clients, id: &str) -> Answer<()> {
    let request = DeleteAgentRequest { tenant: "acme".into(), id: id.into(), ..Default::default() };
    done(world.admin.clone().delete_agent(request).await)
}

async fn suspend(world: &Clients, id: &str, state: AgentState) {
    let changed = Agent { state: state.into(), ..agent(id, "") };
    update(world, changed, &["state"]).await.expect("the agent is there");
}

/// Makes a tenant with 1,000 tokens a day, and a plan `small` with 100 tokens a day.
async fn acme(world: &Clients) {
    world.tenant_with("acme", &[day("tokens", 1_000)]).await;
    world.plan("small", &[day("tokens", 100).named("own").thresholds(&[50])]).await.expect("the plan is new");
}

/// Returns committed, reserved and remaining of the limit `own` of an agent's plan, by GetUsage.
async fn own(world: &Clients, agent: &str) -> Option<(i64, i64, i64)> {
    let request =
        GetUsageRequest { tenant: "acme".into(), agent: Some(agent.into()), ..GetUsageRequest::default() };
    let usage = done(world.quota.clone().get_usage(request).await).expect("the tenant is there");
    let balance = usage.balances.iter().find(|balance| balance.limit_id == "own")?;
    assert_eq!(balance.agent.as_deref(), Some(agent));
    Some((balance.committed, balance.reserved, balance.remaining.expect("of a limit")))
}

both! {
    async fn an_agents_plan_limits_the_agent_beside_the_tenants_plan(world: World) {
        acme(world).await;
        create(world, agent("planner", "small")).await.expect("it is new");
        let hold = world.reserve("acme").tokens(60).agent("planner").await.expect("there is quota");
        assert_eq!((hold.figures("day"), hold.figures("own")), ((0, 60), (0, 60)));
        world.commit(hold.name()).tokens(55).await.expect("it is held");
        let no = world.reserve("acme").tokens(50).agent("planner").await.expect_err("the agent has 45 left");
        no.is_quota(&["own"]);
        assert_eq!(no.violations[0].subject, "tenant:acme,agent:planner");
        let source = ["plan", "plan_agent"].map(|name| no.violations[0].quota_dimensions[name].as_str());
        assert_eq!(source, ["small", "planner"]);
        world.reserve("acme").tokens(500).agent("coder").await.expect("another agent has no limit of its own");
        world.reserve("acme").tokens(300).await.expect("nor has a call without an agent");
        let no = world.reserve("acme").tokens(150).agent("coder").await.expect_err("the tenant has 145 left");
        no.is_quota(&["day"]);
        assert_eq!(own(world, "planner").await, Some((55, 0, 45)));
        let check = world.check("acme").tokens(50).agent("planner").await.expect("an answer");
        let outcomes: Vec<_> = check.verdicts.iter().map(|verdict| verdict.outcome()).collect();
        assert_eq!(outcomes, [verdict::Outcome::Pass, verdict::Outcome::Refuse]);
        let sources: Vec<_> = check
            .verdicts
            .iter()
            .map(|verdict| verdict.balance.as_ref().and_then(|balance| balance.source.clone()).expect("of a limit"))
            .map(|source| (source.plan, source.agent))
            .collect();
        assert_eq!(sources, [("acme".into(), String::new()), ("small".into(), "planner".into())]);
        let events = world.events_of("acme").await;
        let reached = events.iter().find(|event| event.kind() == EventKind::ThresholdReached).expect("50 %");
        assert_eq!(reached.balances[0].agent.as_deref(), Some("planner"));
        assert_eq!(reached.balances[0].source.as_ref().map(|source| source.agent.as_str()), Some("planner"));
    }

    /// The tenant's plan also counts each agent separately, by limits of the same shape and even of the same id.
    async fn limits_of_an_agents_plan_have_counters_of_their_own(world: World) {
        world.tenant_with("acme", &[day("tokens", 80).per(&[Dimension::Agent]).named("own").thresholds(&[50])]).await;
        world.plan("small", &[day("tokens", 100).named("own").thresholds(&[50])]).await.expect("the plan is new");
        world.record("acme").tokens(30).agent("planner").await.expect("it is recorded");
        create(world, agent("planner", "small")).await.expect("it is new");
        world.record("acme").tokens(15).agent("planner").await.expect("it is recorded");
        let usage = world.usage("acme").await;
        let rows: Vec<_> = usage.iter().filter(|balance| !balance.limit_id.is_empty()).collect();
        let of_tenant = rows.iter().find(|row| row.source.as_ref().is_some_and(|source| source.agent.is_empty()));
        let of_agent = rows.iter().find(|row| row.source.as_ref().is_some_and(|source| source.agent == "planner"));
        assert_eq!((of_tenant.expect("given").committed, of_agent.expect("given").committed), (45, 15));
        assert!(of_agent.expect("given").labels.is_empty(), "the mark of the counter is not a label");
        delete(world, "planner").await.expect("it is there");
        world.record("acme").tokens(1).agent("planner").await.expect("it is recorded");
        let usage = world.usage("acme").await;
        assert_eq!(usage.balance("own").committed, 46, "the tenant's limit went on");
        let closed = |events: &[Event]| {
            events.iter().filter(|event| event.kind() == EventKind::WindowClosed).count()
        };
        world.clock.advance(2 * DAY);
        world.close_windows().await;
        assert_eq!(closed(&world.events_of("acme").await), 2, "one for each counter");
    }

    async fn an_agent_is_suspended_alone(world: World) {
        acme(world).await;
        let hold = world.reserve("acme").tokens(10).agent("planner").await.expect("there is quota");
        let first = world.reserve("acme").tokens(10).agent("planner").id("r1").await.expect("there is quota");
        create(world, agent("planner", "")).await.expect("it is new");
        suspend(world, "planner", AgentState::Suspended).await;
        let no = world.reserve("acme").tokens(1).agent("planner").await.expect_err("the agent is suspended");
        no.is(Code::PermissionDenied, "AGENT_SUSPENDED");
        assert_eq!((no.metadata["tenant"].as_str(), no.metadata["agent"].as_str()), ("acme", "planner"));
        let no = world.extend(hold.name()).tokens(1).await.expect_err("its holds do not grow");
        no.is(Code::PermissionDenied, "AGENT_SUSPENDED");
        let check = world.check("acme").tokens(1).agent("planner").await.expect("an answer");
        assert!(check.suspended && !check.allowed && check.retry_delay.is_none(), "{check:?}");
        let again = world.reserve("acme").tokens(10).agent("planner").id("r1").await.expect("a replay");
        assert_eq!(again.name(), first.name());
        world.commit(hold.name()).tokens(7).await.expect("what is held can be settled");
        world.release(first.name()).await.expect("what is held can be settled");
        world.record("acme").tokens(3).agent("planner").await.expect("what is spent is recorded");
        world.reserve("acme").tokens(1).agent("coder").await.expect("others go on");
        world.restart().await;
        let no = world.reserve("acme").tokens(1).agent("planner").await.expect_err("also after a restart");
        no.is(Code::PermissionDenied, "AGENT_SUSPENDED");
        suspend(world, "planner", AgentState::Active).await;
        world.reserve("acme").tokens(1).agent("planner").await.expect("it is active again");
    }

    /// Usage stays over a change of plan if both plans count it, and a limit that returns starts at zero (R4.25,
    /// R4.26).
    async fn an_agents_counters_go_on_over_a_change_of_its_plan(world: World) {
        acme(world).await;
        world.plan("large", &[day("tokens", 500).named("own"), month("tokens", 900)]).await.expect("the plan is new");
        world.plan("other", &[month("tokens", 900)]).await.expect("the plan is new");
        create(world, agent("planner", "small")).await.expect("it is new");
        let spend = async || world.record("acme").tokens(10).agent("planner").await.expect("it is recorded");
        for pause in [0, HOUR] {
            spend().await;
            let before = own(world, "planner").await.expect("it has the limit").0;
            world.clock.advance(pause);
            update(world, agent("planner", "large"), &["plan"]).await.expect("both exist");
            spend().await;
            assert_eq!(own(world, "planner").await, Some((before + 10, 0, 490 - before)), "both plans count it");
            world.clock.advance(pause);
            update(world, agent("planner", "other"), &["plan"]).await.expect("both exist");
            spend().await;
            assert_eq!(own(world, "planner").await, None);
            world.clock.advance(pause);
            update(world, agent("planner", "small"), &["plan"]).await.expect("both exist");
            assert_eq!(own(world, "planner").await, Some((0, 0, 100)), "it was not counted for a while");
            spend().await;
            assert_eq!(own(world, "planner").await, Some((10, 0, 90)));
            delete(world, "planner").await.expect("it is there");
            spend().await;
            create(world, agent("planner", "small")).await.expect("it was deleted");
            spend().await;
            assert_eq!(own(world, "planner").await, Some((10, 0, 90)), "declared anew, it starts at zero");
            world.verify().await;
        }
    }

    async fn a_change_of_the_plan_of_agents_applies_at_once_on_each_replica(world: World) {
        acme(world).await;
        create(world, agent("planner", "small")).await.expect("it is new");
        // On SQLite there is one server, which must not go on with what it remembers either.
        let replica = match world.database.kind() {
            Kind::Postgres => Some(world.replica().await),
            Kind::Sqlite => None,
        };
        let other = replica.as_ref().map_or(world.clients(), |(_, clients)| clients);
        for (clients, quantity) in [(other, 200), (world.clients(), 300), (other, 400)] {
            let limits = [day("tokens", quantity).named("own")];
            clients.change_plan("small", &limits).await.expect("the plan is there");
            for clients in [other, world.clients()] {
                let asked = clients.reserve("acme").tokens(quantity + 1).agent("planner").await;
                asked.expect_err("one too many").is_quota(&["own"]);
                let hold = clients.reserve("acme").tokens(quantity).agent("planner").await.expect("it fits");
                clients.release(hold.name()).await.expect("it is held");
            }
        }
        suspend(other, "planner", AgentState::Suspended).await;
        let no = world.reserve("acme").tokens(1).agent("planner").await.expect_err("the agent is suspended");
        no.is(Code::PermissionDenied, "AGENT_SUSPENDED");
        if let Some((server, _)) = replica {
            server.shutdown().await;
        }
    }

    async fn selectors_and_uncovered_of_an_agents_plan(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.declare("requests").await;
        let limits = [
            day("tokens", 10).agent("coder").named("coder"),
            day("tokens", 20).agent("planner").named("planner"),
            day("tokens", 30).per(&[Dimension::Agent, Dimension::User]).named("each"),
            day("requests", 5).model("small").named("calls"),
        ];
        let plan = Plan { id: "own".into(), limits: limits.to_vec(), uncovered: Uncovered::Refuse.into(), ..Plan::default() };
        let created = world.admin.clone().create_plan(CreatePlanRequest { plan: Some(plan) }).await;
        done::<Plan>(created).expect("the plan is new");
        create(world, agent("planner", "own")).await.expect("it is new");
        let hold = world.reserve("acme").tokens(5).agent("planner").user("u").await.expect("there is quota");
        let mut ids: Vec<_> = hold.balances.iter().map(|balance| balance.limit_id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["day", "each", "planner"], "the limit of another agent does not apply");
        let no = world.reserve("acme").amount("requests", 1).agent("planner").await;
        no.expect_err("no limit covers it, and the agent's plan refuses").is_quota(&[""]);
        world.reserve("acme").amount("requests", 1).agent("planner").model("small").await.expect("a limit covers it");
        world.reserve("acme").amount("requests", 1).agent("coder").await.expect("the tenant's plan meters it");
    }

    async fn agents_are_listed_changed_and_deleted(world: World) {
        acme(world).await;
        for id in ["c", "a", "b"] {
            create(world, Agent { display_name: id.to_uppercase(), ..agent(id, "small") }).await.expect("it is new");
        }
        let mut seen = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListAgentsRequest { tenant: "acme".into(), page_size: 2, page_token };
            let page = done(world.admin.clone().list_agents(request).await).expect("a page");
            seen.extend(page.agents.into_iter().map(|agent| (agent.id, agent.display_name, agent.plan)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let want = ["a", "b", "c"].map(|id| (id.to_owned(), id.to_uppercase(), "small".to_owned()));
        assert_eq!(seen, want);
        let changed = update(world, Agent { display_name: "B!".into(), ..agent("b", "") }, &["display_name", "plan"]).await;
        let changed = changed.expect("it is there");
        assert_eq!((changed.display_name.as_str(), changed.plan.as_str()), ("B!", ""));
        let got = world.admin.clone().get_agent(GetAgentRequest { tenant: "acme".into(), id: "b".into() }).await;
        assert_eq!(done(got).expect("it is there"), changed);
        let changes = world.changes_of("acme").await;
        let last = changes.last().expect("a change");
        assert_eq!((last.subject(), last.id.as_str(), last.action()), (policy_change::Subject::Agent, "b", policy_change::Action::Updated));
        update(world, agent("b", ""), &["plan"]).await.expect("it changes nothing");
        assert_eq!(world.changes_of("acme").await.len(), changes.len());
        delete(world, "b").await.expect("it is there");
        delete(world, "b").await.expect_err("it is gone").is(Code::NotFound, "AGENT_NOT_FOUND");
    }

    async fn wrong_agents_are_refused(world: World) {
        acme(world).await;
        let no = create(world, Agent { state: 9, ..Agent::default() }).await.expect_err("nothing is right");
        no.names(&["agent.tenant", "agent.id", "agent.state"]);
        let long = create(world, Agent { display_name: "x".repeat(257), ..agent(" a", &"p".repeat(129)) }).await;
        long.expect_err("too long").names(&["agent.id", "agent.display_name", "agent.plan"]);
        create(world, agent("a", "none")).await.expect_err("no such plan").is(Code::NotFound, "PLAN_NOT_FOUND");
        let other = Agent { tenant: "nobody".into(), ..agent("a", "") };
        create(world, other).await.expect_err("no such tenant").is(Code::NotFound, "TENANT_NOT_FOUND");
        create(world, agent("a", "small")).await.expect("it is new");
        create(world, agent("a", "small")).await.expect_err("taken").is(Code::AlreadyExists, "NAME_TAKEN");
        update(world, agent("a", "none"), &["plan"]).await.expect_err("no such plan").is(Code::NotFound, "PLAN_NOT_FOUND");
        update(world, agent("b", ""), &["plan"]).await.expect_err("no such agent").is(Code::NotFound, "AGENT_NOT_FOUND");
        update(world, agent("a", ""), &["id", "tenant", "zone"]).await.expect_err("fixed").names(&["update_mask"; 3]);
        let gone = done(world.admin.clone().delete_plan(DeletePlanRequest { id: "small".into(), etag: String::new() }).await);
        let no = gone.expect_err("an agent has the plan");
        no.is(Code::FailedPrecondition, "PLAN_IN_USE");
        assert_eq!((no.metadata["agent"].as_str(), no.metadata["tenant"].as_str()), ("a", "acme"));
        let request = DeleteTenantRequest { id: "acme".into(), ..Default::default() };
        done(world.admin.clone().delete_tenant(request).await).expect("nothing is held");
        done(world.admin.clone().delete_plan(DeletePlanRequest { id: "small".into(), etag: String::new() }).await).expect("nobody has it now");
    }
}
