//! R4.39: a scheduled change of plan counts from its instant on, whether or not anything has run since.

use tonic::Code;

use crate::harness::{call::Answer, clients::done, v1::*, *};

async fn get(clients: &Clients, id: &str) -> Answer<Tenant> {
    done(clients.admin.clone().get_tenant(GetTenantRequest { id: id.into() }).await)
}

fn next(plan: &str, at: Option<i64>) -> Option<NextPlan> {
    Some(NextPlan { plan: plan.into(), effective_time: at.map(timestamp) })
}

fn acme() -> Tenant {
    Tenant { id: "acme".into(), ..Tenant::default() }
}

async fn schedule(clients: &Clients, id: &str, plan: &str, at: i64) -> Tenant {
    let tenant = Tenant { id: id.into(), next_plan: next(plan, Some(at)), ..Tenant::default() };
    clients.change_tenant(tenant, &["next_plan"]).await.expect("the tenant and the plan are there")
}

/// Returns the plan, and the next plan with its time.
fn plans(tenant: &Tenant) -> (&str, Option<(&str, i64)>) {
    let next = tenant.next_plan.as_ref();
    let next = next.map(|next| (next.plan.as_str(), millis(next.effective_time.as_ref()).expect("a time")));
    (&tenant.plan, next)
}

/// Makes the plan `acme` of 100 tokens a day and 1,000 for ever, with the tenant `acme`, and the plan `pro` of 500 a
/// day and 2,000 a month.
async fn prepare(world: &World) {
    world.tenant_with("acme", &[day("tokens", 100), lifetime("tokens", 1_000)]).await;
    world
        .plan("pro", &[day("tokens", 500).named("daily"), month("tokens", 2_000)])
        .await
        .expect("the plan is new");
}

async fn delete_plan(clients: &Clients, id: &str) -> Answer<()> {
    let request = DeletePlanRequest { id: id.into(), ..DeletePlanRequest::default() };
    done(clients.admin.clone().delete_plan(request).await)
}

/// Waits until the tenant's row has no scheduled change, and returns the changes of its plan that were emitted.
async fn emitted(world: &World) -> Vec<String> {
    let scheduled = "SELECT COUNT(*) FROM tenants WHERE next_plan_at IS NOT NULL";
    eventually("the change is written", async || (world.database.number(scheduled).await == 0).then_some(()))
        .await;
    let pending = "SELECT COUNT(*) FROM pending_events";
    eventually("all events have places", async || (world.database.number(pending).await == 0).then_some(()))
        .await;
    let request = ListEventsRequest { tenant: "acme".into(), ..ListEventsRequest::default() };
    let events = world.all_events(request).await;
    events.into_iter().filter_map(|event| Some(event.change?.fields.join(" "))).collect()
}

both! {
    async fn a_change_can_be_scheduled_replaced_and_withdrawn(world: World) {
        prepare(world).await;
        world.plan("max", &[]).await.expect("the plan is new");
        let at = NOON + DAY;
        let first = schedule(world, "acme", "pro", at).await;
        assert_eq!(plans(&first), ("acme", Some(("pro", at))));
        assert_eq!(get(world, "acme").await.expect("it is there"), first);
        let again = schedule(world, "acme", "pro", at).await;
        assert_eq!(again, first, "nothing changes");
        let other = schedule(world, "acme", "max", at + DAY).await;
        assert_eq!(plans(&other), ("acme", Some(("max", at + DAY))));
        assert_ne!(other.etag, first.etag);
        let named = Tenant { display_name: "Acme".into(), ..acme() };
        let named = world.change_tenant(named, &[]).await.expect("it is there");
        assert_eq!(plans(&named), plans(&other), "another field");
        let withdrawn = world.change_tenant(acme(), &["next_plan"]).await.expect("it is there");
        assert_eq!(plans(&withdrawn), ("acme", None));
        schedule(world, "acme", "max", at).await;
        let same = Tenant { plan: "acme".into(), ..acme() };
        let same = world.change_tenant(same, &["plan"]).await.expect("it is there");
        assert_eq!(plans(&same), ("acme", Some(("max", at))), "the plan did not change");
        let pro = world.change_tenant(Tenant { plan: "pro".into(), ..acme() }, &["plan"]).await.expect("it is there");
        assert_eq!(plans(&pro), ("pro", None), "a change at once withdraws it");
        let both = Tenant { plan: "max".into(), next_plan: next("pro", Some(at)), ..acme() };
        let both = world.change_tenant(both, &["plan", "next_plan"]).await.expect("it is there");
        assert_eq!(plans(&both), ("max", Some(("pro", at))));
        world.clock.advance(2 * DAY);
        assert_eq!(plans(&get(world, "acme").await.expect("it is there")), ("pro", None));
        let want =
            ["", "next_plan", "next_plan", "display_name", "next_plan", "next_plan", "next_plan plan", "next_plan plan",
                "next_plan plan"];
        world.job("change-plans").await;
        assert_eq!(emitted(world).await, want);
    }

    async fn without_a_time_the_plan_changes_at_the_end_of_the_month(world: World) {
        world.declare("tokens").await;
        world.plan("next", &[]).await.expect("the plan is new");
        let quarter = month("tokens", 1).interval(3).named("quarter");
        let cases: [(&str, &str, Vec<Limit>, &str); 5] = [
            ("none", "", vec![], "2026-04-01T00:00:00Z"),
            ("tokyo", "Asia/Tokyo", vec![day("tokens", 1), quarter.clone()], "2026-03-31T15:00:00Z"),
            ("month", "", vec![day("tokens", 1), quarter, month("tokens", 1)], "2026-04-01T00:00:00Z"),
            ("day 20", "", vec![month("tokens", 1).anchor(20)], "2026-03-20T00:00:00Z"),
            ("own", "", vec![month("tokens", 1).of_tenant()], "2026-03-25T08:30:00Z"),
        ];
        for (id, zone, limits, want) in cases {
            world.plan(id, &limits).await.expect("the plan is new");
            let anchor_time = Some(timestamp(at("2025-01-25T08:30:00Z")));
            let (id, plan, zone) = (id.to_owned(), id.to_owned(), zone.to_owned());
            let tenant = Tenant { id, plan, zone, anchor_time, ..Tenant::default() };
            let request = CreateTenantRequest { tenant: Some(tenant.clone()) };
            done(world.admin.clone().create_tenant(request).await).expect("the tenant is new");
            let tenant = Tenant { next_plan: next("next", None), ..tenant };
            let moved = world.change_tenant(tenant, &["next_plan"]).await.expect("it is there");
            assert_eq!(plans(&moved), (moved.id.as_str(), Some(("next", at(want)))));
        }
    }

    async fn the_refusal_of_a_schedule_names_the_wrong_field(world: World) {
        prepare(world).await;
        let update = async |next_plan| world.change_tenant(Tenant { next_plan, ..acme() }, &["next_plan"]).await;
        update(next("none", None)).await.expect_err("no plan").is(Code::NotFound, "PLAN_NOT_FOUND");
        update(next("", None)).await.expect_err("no id").names(&["tenant.next_plan.plan"]);
        update(next("acme", None)).await.expect_err("it has it").names(&["tenant.next_plan.plan"]);
        for wrong in [NOON - 1, NOON, NOON + 400 * DAY + 1] {
            let no = update(next("pro", Some(wrong))).await.expect_err("no such time");
            no.names(&["tenant.next_plan.effective_time"]);
        }
        update(next("pro", Some(NOON + 400 * DAY))).await.expect("400 days");
        let both = Tenant { plan: "pro".into(), next_plan: next("pro", None), ..acme() };
        let no = world.change_tenant(both, &[]).await.expect_err("the same plan");
        no.names(&["tenant.next_plan.plan"]);
        for path in ["next_plan.plan", "next_plan.effective_time"] {
            world.change_tenant(acme(), &[path]).await.expect_err(path).names(&["update_mask"]);
        }
        let tenant = Some(Tenant { id: "new".into(), plan: "acme".into(), next_plan: next("pro", None), ..acme() });
        let no = done(world.admin.clone().create_tenant(CreateTenantRequest { tenant }).await);
        no.expect_err("at creation").names(&["tenant.next_plan"]);
    }

    /// After many calls the lane decides ahead, from what it remembers.
    async fn the_new_plan_counts_from_the_instant_on(world: World) {
        prepare(world).await;
        let at = NOON + HOUR;
        schedule(world, "acme", "pro", at).await;
        for _ in 0..60 {
            world.record("acme").tokens(1).await.expect("it is recorded");
        }
        world.clock.advance(HOUR - 1);
        world.reserve("acme").tokens(41).await.expect_err("40 are left").is_quota(&["day"]);
        let hold = world.reserve("acme").tokens(40).ttl(2 * HOUR).await.expect("40 are left");
        assert_eq!(plans(&get(world, "acme").await.expect("it is there")).0, "acme");
        world.clock.advance(1);
        let reply = world.reserve("acme").tokens(400).await.expect("100 of 500 are used");
        assert_eq!(reply.balances.len(), 2, "{reply:?}");
        assert_eq!(reply.figures("daily"), (60, 440), "the same shape, the same counter");
        assert_eq!(reply.figures("month"), (0, 400), "a new shape counts from the change on");
        assert_eq!(millis(reply.balance("month").counted_since.as_ref()), Some(at));
        assert_eq!(millis(reply.balance("daily").counted_since.as_ref()), Some(NOON));
        world.reserve("acme").tokens(1).await.expect_err("500 a day").is_quota(&["daily"]);
        let reply = world.commit(hold.name()).tokens(40).await.expect("it is held");
        assert_eq!(reply.figures("daily"), (100, 400));
        assert_eq!(emitted(world).await, ["", "next_plan", "next_plan plan"]);
        let tenant = get(world, "acme").await.expect("it is there");
        assert_eq!((plans(&tenant), millis(tenant.update_time.as_ref())), (("pro", None), Some(at)));
    }

    /// Two tenants: one has a scheduled change, of the other an operator changes the plan at that instant. Nobody calls
    /// for the first one until later.
    async fn a_scheduled_change_is_like_a_change_at_that_instant(world: World) {
        prepare(world).await;
        world.tenant("twin", "acme", "").await.expect("the tenant is new");
        for tenant in ["acme", "twin"] {
            world.record(tenant).tokens(30).await.expect("it is recorded");
            world.reserve(tenant).tokens(20).ttl(3 * HOUR).await.expect("there is quota");
        }
        schedule(world, "acme", "pro", NOON + HOUR).await;
        world.clock.advance(HOUR);
        world.set_plan("twin", "pro").await;
        world.clock.advance(HOUR);
        let (usage, twin) = (world.usage("acme").await, world.usage("twin").await);
        assert_eq!(usage, twin, "also for a read");
        assert_eq!(usage.len(), 2);
        let reply = world.check("acme").tokens(450).await.expect("it can be decided");
        assert!(reply.allowed, "{reply:?}");
        assert_eq!(world.usage("acme").await, world.usage("twin").await);
        // Both get their first plan back: what the plan `pro` did not count starts anew.
        schedule(world, "acme", "acme", NOON + 3 * HOUR).await;
        world.clock.advance(HOUR);
        world.set_plan("twin", "acme").await;
        world.clock.advance(HOUR);
        let usage = world.usage("acme").await;
        assert_eq!(usage, world.usage("twin").await);
        assert_eq!(usage.balance("lifetime").committed, 0, "it was taken away and returned");
        for tenant in ["acme", "twin"] {
            world.record(tenant).tokens(1).await.expect("it is recorded");
        }
        assert_eq!(world.usage("acme").await, world.usage("twin").await);
    }

    async fn a_read_at_the_instant_sees_the_new_plan_and_writes_nothing(world: World) {
        prepare(world).await;
        world.tenant("other", "acme", "").await.expect("the tenant is new");
        let scheduled = schedule(world, "acme", "pro", NOON + HOUR).await;
        world.clock.advance(HOUR - 1);
        assert_eq!(get(world, "acme").await.expect("it is there"), scheduled);
        assert_eq!(world.usage("acme").await.len(), 2);
        world.clock.advance(1);
        let usage = world.usage("acme").await;
        assert_eq!((usage.balance("daily").allowance, usage.balance("month").allowance), (Some(500), Some(2_000)));
        let read = get(world, "acme").await.expect("it is there");
        assert_eq!(plans(&read), ("pro", None));
        let list = async |plan: &str| {
            let request = ListTenantsRequest { plan: plan.into(), ..ListTenantsRequest::default() };
            let page = done(world.admin.clone().list_tenants(request).await).expect("a page");
            page.tenants.into_iter().map(|tenant| (tenant.id, tenant.plan)).collect::<Vec<_>>()
        };
        assert_eq!(list("pro").await, [("acme".into(), "pro".into())]);
        assert_eq!(list("acme").await, [("other".into(), "acme".into())]);
        world.job("change-plans").await;
        assert_eq!(emitted(world).await, ["", "next_plan", "next_plan plan"], "the job writes it");
        assert_eq!(get(world, "acme").await.expect("it is there"), read, "with the same etag");
    }

    async fn the_job_writes_the_change_of_an_idle_tenant(world: World) {
        prepare(world).await;
        schedule(world, "acme", "pro", NOON + HOUR).await;
        world.job("change-plans").await;
        assert_eq!(world.database.number("SELECT COUNT(*) FROM tenants WHERE next_plan_at IS NOT NULL").await, 1);
        world.clock.advance(HOUR);
        world.job("change-plans").await;
        assert_eq!(emitted(world).await, ["", "next_plan", "next_plan plan"]);
        world.job("change-plans").await;
        world.record("acme").tokens(1).await.expect("it is recorded");
        assert_eq!(emitted(world).await.len(), 3, "once");
    }

    /// The other replica remembers the tenant with its old plan. On SQLite there is one server.
    async fn every_replica_changes_the_plan_at_the_instant(world: World) {
        prepare(world).await;
        let replica = match world.database.kind() {
            Kind::Sqlite => None,
            Kind::Postgres => Some(world.replica().await),
        };
        let other = replica.as_ref().map_or(world.clients(), |(_, clients)| clients);
        for _ in 0..40 {
            other.record("acme").tokens(1).await.expect("it is recorded");
        }
        schedule(world, "acme", "pro", NOON + HOUR).await;
        world.clock.advance(HOUR);
        let reply = other.reserve("acme").tokens(460).await.expect("40 of 500 are used");
        assert_eq!(reply.figures("daily"), (40, 460));
        world.reserve("acme").tokens(1).await.expect_err("500 a day").is_quota(&["daily"]);
        assert_eq!(emitted(world).await, ["", "next_plan", "next_plan plan"]);
        if let Some((server, _)) = replica {
            server.shutdown().await;
        }
    }

    async fn a_plan_that_somebody_is_to_get_cannot_be_deleted(world: World) {
        prepare(world).await;
        schedule(world, "acme", "pro", NOON + HOUR).await;
        let no = delete_plan(world, "pro").await.expect_err("acme is to get it");
        no.is(Code::FailedPrecondition, "PLAN_IN_USE");
        assert_eq!(no.metadata["tenant"], "acme");
        delete_plan(world, "acme").await.expect_err("acme has it").is(Code::FailedPrecondition, "PLAN_IN_USE");
        world.clock.advance(HOUR);
        delete_plan(world, "acme").await.expect("nobody has it any more");
        assert_eq!(plans(&get(world, "acme").await.expect("it is there")), ("pro", None));
        delete_plan(world, "pro").await.expect_err("acme has it").is(Code::FailedPrecondition, "PLAN_IN_USE");
        world.plan("max", &[]).await.expect("the plan is new");
        schedule(world, "acme", "max", NOON + DAY).await;
        let request = DeleteTenantRequest { id: "acme".into(), ..DeleteTenantRequest::default() };
        done(world.admin.clone().delete_tenant(request).await).expect("it has no holds");
        delete_plan(world, "max").await.expect("a deleted tenant gets no plan");
    }

    /// The plans change after the instant, and before anybody notices the tenant. What both plans counted at the
    /// instant goes on counting.
    async fn a_change_of_either_plan_after_the_instant_comes_after_the_change_of_plan(world: World) {
        prepare(world).await;
        world.record("acme").tokens(30).await.expect("it is recorded");
        schedule(world, "acme", "pro", NOON + HOUR).await;
        world.clock.advance(2 * HOUR);
        world.change_plan("acme", &[month("tokens", 9)]).await.expect("the plan is there");
        world.clock.advance(HOUR);
        let limits = [day("tokens", 600).named("daily"), month("tokens", 2_000), lifetime("tokens", 50)];
        world.change_plan("pro", &limits).await.expect("the plan is there");
        let usage = world.usage("acme").await;
        assert_eq!((usage.figures("daily"), usage.balance("daily").allowance), ((30, 0), Some(600)));
        assert_eq!(millis(usage.balance("daily").counted_since.as_ref()), Some(NOON));
        assert_eq!(millis(usage.balance("month").counted_since.as_ref()), Some(NOON + HOUR));
        assert_eq!(usage.figures("lifetime"), (0, 0), "it was away for two hours");
        assert_eq!(millis(usage.balance("lifetime").counted_since.as_ref()), Some(NOON + 3 * HOUR));
        let reply = world.record("acme").tokens(5).await.expect("it is recorded");
        assert_eq!((reply.figures("daily"), reply.figures("lifetime")), ((35, 0), (5, 0)));
        assert_eq!(emitted(world).await, ["", "next_plan", "next_plan plan"]);
    }

    /// R4.11: the new plan may let the request pass, so the hint is never later than the change.
    async fn the_retry_hint_is_the_change_of_plan_at_the_latest(world: World) {
        prepare(world).await;
        world.record("acme").tokens(100).await.expect("it is recorded");
        let hint = async |quantity: i64| {
            let no = world.reserve("acme").tokens(quantity).await.expect_err("it is used up");
            no.retry.map(|delay| i64::try_from(delay.as_millis()).expect("short"))
        };
        assert_eq!(hint(1).await, Some(12 * HOUR), "the end of the day");
        assert_eq!(hint(101).await, None, "never");
        schedule(world, "acme", "pro", NOON + 2 * HOUR).await;
        assert_eq!(hint(1).await, Some(2 * HOUR));
        assert_eq!(hint(101).await, Some(2 * HOUR));
        schedule(world, "acme", "pro", NOON + DAY).await;
        assert_eq!(hint(1).await, Some(12 * HOUR), "the day ends before");
        assert_eq!(hint(101).await, Some(DAY));
        world.clock.advance(DAY);
        world.reserve("acme").tokens(101).await.expect("as the hint said");
    }

    /// Reads of overrides count the change, too, even if nothing has run since.
    async fn an_override_of_a_limit_that_the_new_plan_lacks_is_inert_from_the_change_on(world: World) {
        prepare(world).await;
        let made = Override {
            tenant: "acme".into(),
            id: "more".into(),
            limit_id: "day".into(),
            quantity: Some(200),
            ..Override::default()
        };
        let request = CreateOverrideRequest { r#override: Some(made) };
        done(world.admin.clone().create_override(request).await).expect("it is new");
        schedule(world, "acme", "pro", NOON + HOUR).await;
        let states = async || {
            let request = ListOverridesRequest { tenant: "acme".into(), ..ListOverridesRequest::default() };
            let listed = done(world.admin.clone().list_overrides(request).await).expect("a page").overrides;
            let request = GetOverrideRequest { tenant: "acme".into(), id: "more".into() };
            let found = done(world.admin.clone().get_override(request).await).expect("it is there");
            [listed[0].state(), found.state()]
        };
        world.clock.advance(HOUR - 1);
        assert_eq!(states().await, [OverrideState::Active; 2]);
        world.clock.advance(1);
        assert_eq!(states().await, [OverrideState::Inert; 2]);
    }
}
