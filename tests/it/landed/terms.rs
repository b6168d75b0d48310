//! What the schema m20261127_000019 was the first to have stays after a migration: agents with plans, overrides,
//! rolling windows, units that were carried over, next plans, settings, amendments, and subjects that served calls.

use tonic::Code;

use super::books::Books;
use crate::harness::{
    clients::{done, mask},
    v1::*,
    *,
};

/// The tenant with two agents, `clerk`, who has a plan, and `temp`, who is suspended, and with three overrides.
const DUNDER: &str = "dunder";

/// The tenant that has the same plan, and is to get the plan `free` on the first of December.
const SABER: &str = "saber";

async fn world(kind: Kind) -> World {
    Books::of("m20261127_000019").world(kind).await
}

/// Makes the Commit of the hold that another user and another model served than those of the Reserve.
fn served(world: &World, model: &str) -> Call<CommitRequest> {
    world.commit("").tokens(45).with(|request| {
        (request.tenant, request.reserve_request_id) = (DUNDER.into(), "served".into());
        (request.user, request.model) = (Some("u1".into()), Some(model.into()));
    })
}

/// Returns the overrides of the tenant with their states.
async fn overrides(world: &World) -> Vec<(String, OverrideState)> {
    let request = ListOverridesRequest { tenant: DUNDER.into(), ..ListOverridesRequest::default() };
    let reply = done(world.admin.clone().list_overrides(request).await).expect("the tenant is there");
    reply.overrides.into_iter().map(|found| (found.id.clone(), found.state())).collect()
}

async fn tenant(world: &World, id: &str) -> Tenant {
    done(world.admin.clone().get_tenant(GetTenantRequest { id: id.into() }).await).expect("it is there")
}

on_both! {
    async fn agents_in_a_migrated_database_keep_their_plans_and_states(kind: Kind) {
        let world = world(kind).await;
        let clerk = |tokens| world.reserve(DUNDER).agent("clerk").tokens(tokens);
        clerk(6).await.expect_err("5 are left").is_quota(&["burst"]);
        let reply = clerk(5).await.expect("they are left");
        assert_eq!((reply.figures("own"), reply.figures("burst")), ((45, 15), (45, 15)));
        assert_eq!((reply.balance("own").refused, reply.balance("burst").refused), (1, 3));
        let no = world.reserve(DUNDER).agent("temp").tokens(1).await.expect_err("the agent is suspended");
        no.is(Code::PermissionDenied, "AGENT_SUSPENDED");
        let settled = world.commit("").tokens(8).with(|request| {
            (request.tenant, request.reserve_request_id) = (DUNDER.into(), "open".into());
        });
        let settled = settled.await.expect("the hold is open");
        let expected =
            [("session", (8, 0)), ("own", (53, 5)), ("burst", (53, 5)), ("week", (183, 5)), ("day", (28, 5))];
        for (limit, figures) in expected {
            assert_eq!(settled.figures(limit), figures, "{limit}");
        }
        world.end().await;
    }

    async fn overrides_in_a_migrated_database_begin_and_end(kind: Kind) {
        use OverrideState::{Active, Ended, Scheduled};

        let world = world(kind).await;
        let states = |later, more, over| {
            [("later", later), ("more", more), ("over", over)].map(|(id, state)| (id.to_owned(), state))
        };
        assert_eq!(overrides(&world).await, states(Scheduled, Active, Ended));
        let session = |tokens| world.reserve(DUNDER).user("u1").tokens(tokens);
        session(126).await.expect_err("125 are left").is_quota(&["session"]);
        let reply = session(125).await.expect("they are left");
        let balance = reply.balance("session");
        assert_eq!((balance.allowance, balance.committed, balance.reserved), (Some(300), 175, 125));
        assert_eq!(balance.source.as_ref().expect("of a limit").r#override, "more");
        world.clock.set(at("2026-12-04T00:00:00Z"));
        assert_eq!(overrides(&world).await, states(Active, Ended, Ended));
        session(101).await.expect_err("the limit is 100").is_quota(&["session"]);
        let reply = session(100).await.expect("the window is new");
        assert_eq!(reply.figures("session"), (0, 100));
        assert_eq!(reply.balance("week").enforcement(), Enforcement::Soft);
        world.end().await;
    }

    async fn rolling_windows_of_a_migrated_database_run_to_their_ends(kind: Kind) {
        let world = world(kind).await;
        let usage = world.usage(DUNDER).await;
        let of_user = |balance: &&Balance| balance.limit_id == "session" && balance.user.as_deref() == Some("u1");
        let (start, end) = window(usage.iter().find(of_user).expect("the user has a window"));
        assert_eq!(end - start, 5 * HOUR);
        world.clock.set(end - 1);
        let reply = world.record(DUNDER).user("u1").tokens(1).await.expect("it is recorded");
        assert_eq!((reply.figures("session"), window(reply.balance("session"))), ((176, 0), (start, end)));
        world.clock.set(end);
        let reply = world.record(DUNDER).user("u1").tokens(1).await.expect("it is recorded");
        assert_eq!((reply.figures("session"), window(reply.balance("session"))), ((1, 0), (end, end + 5 * HOUR)));
        world.end().await;
    }

    async fn a_migrated_database_keeps_what_was_carried_over(kind: Kind) {
        let world = world(kind).await;
        let day = (at("2026-11-26T12:02:00Z"), at("2026-11-27T12:02:00Z"));
        // The first operation in the window stored what DUNDER carries over. SABER has not used the window yet.
        for (tenant, committed, carried) in [(DUNDER, 21, 200), (SABER, 1, 50)] {
            let reply = world.record(tenant).tokens(1).await.expect("it is recorded");
            let balance = reply.balance("day");
            assert_eq!(window(balance), day, "{tenant}");
            assert_eq!((balance.committed, balance.carried), (committed, carried), "{tenant}");
            assert_eq!(balance.allowance, Some(500 + carried), "{tenant}");
        }
        let week = window(world.usage(DUNDER).await.balance("week"));
        assert_eq!(week, (at("2026-11-25T00:00:00Z"), at("2026-12-02T00:00:00Z")), "from Wednesday on");
        world.clock.set(day.1);
        let reply = world.record(SABER).tokens(1).await.expect("it is recorded");
        assert_eq!((reply.figures("day"), reply.balance("day").carried), ((1, 0), 200));
        world.end().await;
    }

    async fn a_next_plan_in_a_migrated_database_comes_at_its_time(kind: Kind) {
        let world = world(kind).await;
        let first = at("2026-12-01T00:00:00Z");
        let before = tenant(&world, SABER).await;
        let next = NextPlan { plan: "free".into(), effective_time: Some(timestamp(first)) };
        assert_eq!((before.plan.as_str(), before.next_plan), ("steady", Some(next)));
        world.clock.set(first);
        let reply = world.record(SABER).tokens(1).await.expect("it is recorded");
        assert_eq!((reply.figures("day"), reply.figures("month")), ((1, 0), (1, 0)));
        let after = tenant(&world, SABER).await;
        assert_eq!((after.plan.as_str(), after.next_plan), ("free", None));
        world.end().await;
    }

    async fn charges_in_a_migrated_database_keep_their_amendments_and_who_served(kind: Kind) {
        let world = world(kind).await;
        let again = served(&world, "small").await.expect("the first reply");
        let subject = Served { agent: "clerk".into(), user: "u1".into(), model: "small".into() };
        assert_eq!(again.held().served, Some(subject));
        served(&world, "large").await.expect_err("another model").is(Code::FailedPrecondition, "RESERVATION_SETTLED");
        let amended = world.amend("").tokens(100).with(|request| {
            (request.tenant, request.reserve_request_id) = (DUNDER.into(), "first".into());
        });
        let amended = amended.await.expect("it was charged");
        // The window of the day is over.
        let expected = [("session", (165, 0)), ("week", (165, 10)), ("day", (145, 0))];
        for (limit, figures) in expected {
            assert_eq!(amended.figures(limit), figures, "{limit}");
        }
        let found = world.get("").with(|request| {
            (request.tenant, request.reserve_request_id) = (DUNDER.into(), "first".into());
        });
        let found = found.await.expect("it is kept").amendments;
        let figures = found.iter().map(|amendment| {
            let AmendedAmount { before, after, .. } = amendment.amounts[0];
            (amendment.operator.as_str(), before, after)
        });
        assert_eq!(figures.collect::<Vec<_>>(), [("kim", 120, 110), ("ops@example.com", 110, 100)]);
        world.end().await;
    }

    async fn settings_in_a_migrated_database_hold_for_tenants_that_calls_create(kind: Kind) {
        let world = world(kind).await;
        let settings = done(world.admin.clone().get_policy_settings(GetPolicySettingsRequest {}).await);
        let settings = settings.expect("they are there");
        assert_eq!((settings.default_plan.as_str(), settings.default_zone.as_str()), ("", "Europe/Lisbon"));
        let request = UpdatePolicySettingsRequest {
            settings: Some(PolicySettings { default_plan: "steady".into(), ..PolicySettings::default() }),
            update_mask: Some(mask(&["default_plan"])),
        };
        done(world.admin.clone().update_policy_settings(request).await).expect("the plan is there");
        world.record("kramer").tokens(1).await.expect("the call creates its tenant");
        let made = tenant(&world, "kramer").await;
        assert_eq!((made.plan.as_str(), made.zone.as_str()), ("steady", "Europe/Lisbon"));
        world.end().await;
    }
}
