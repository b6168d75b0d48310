//! R4.38: with a default plan, a call for a tenant that does not exist creates the tenant, once.

use std::future::IntoFuture;

use futures::future::try_join_all;
use tonic::Code;

use crate::{
    batch::error,
    harness::{
        call::Answer,
        clients::{done, mask},
        v1::{policy_change::*, *},
        *,
    },
};

async fn settings(clients: &Clients) -> PolicySettings {
    done(clients.admin.clone().get_policy_settings(GetPolicySettingsRequest {}).await)
        .expect("they are there")
}

async fn update(clients: &Clients, settings: PolicySettings, paths: &[&str]) -> Answer<PolicySettings> {
    let update_mask = (!paths.is_empty()).then(|| mask(paths));
    let request = UpdatePolicySettingsRequest { settings: Some(settings), update_mask };
    done(clients.admin.clone().update_policy_settings(request).await)
}

fn default(plan: &str) -> PolicySettings {
    PolicySettings { default_plan: plan.into(), ..PolicySettings::default() }
}

async fn get(clients: &Clients, id: &str) -> Answer<Tenant> {
    done(clients.admin.clone().get_tenant(GetTenantRequest { id: id.into() }).await)
}

/// Declares `tokens`, makes the plan `free` of 100 tokens a day, and makes it the default plan in Tokyo.
async fn prepare(world: &World) {
    world.declare("tokens").await;
    world.plan("free", &[day("tokens", 100)]).await.expect("the plan is new");
    let wanted = PolicySettings { default_zone: "Asia/Tokyo".into(), ..default("free") };
    update(world, wanted, &[]).await.expect("the plan exists");
}

/// Returns how often tenants with this id were created, by the events.
async fn creations(world: &World, id: &str) -> usize {
    let pending = "SELECT COUNT(*) FROM pending_events";
    eventually("all events have places", async || (world.database.number(pending).await == 0).then_some(()))
        .await;
    let events = world.all_events(ListEventsRequest::default()).await;
    let changes = events.iter().filter_map(|event| event.change.as_ref());
    changes.filter(|change| change.id == id && change.action() == Action::Created).count()
}

both! {
    async fn the_settings_can_be_read_and_changed(world: World) {
        let first = settings(world).await;
        assert_eq!((first.default_plan.as_str(), first.default_zone.as_str()), ("", "UTC"));
        assert_eq!(first.update_time, None);
        let no = update(world, default("free"), &[]).await.expect_err("no such plan");
        no.is(Code::NotFound, "PLAN_NOT_FOUND");
        world.plan("free", &[]).await.expect("the plan is new");
        let unchanged = update(world, PolicySettings::default(), &["default_plan", "default_zone"]).await;
        assert_eq!(unchanged.expect("nothing changes"), first);
        world.clock.advance(MINUTE);
        let second = update(world, default("free"), &[]).await.expect("the plan exists");
        assert_eq!((second.default_plan.as_str(), second.default_zone.as_str()), ("free", "UTC"));
        assert_eq!(millis(second.update_time.as_ref()), Some(NOON + MINUTE));
        assert_ne!(second.etag, first.etag);
        assert_eq!(settings(world).await, second);
        let stale = PolicySettings { etag: first.etag, ..default("") };
        let no = update(world, stale, &["default_plan"]).await.expect_err("it has changed");
        no.is(Code::Aborted, "ETAG_MISMATCH");
        assert_eq!(no.metadata["what"], "settings");
        let zoned = PolicySettings { default_zone: "Asia/Tokyo".into(), etag: second.etag, ..default("") };
        let zoned = update(world, zoned, &[]).await.expect("the etag is right");
        assert_eq!((zoned.default_plan.as_str(), zoned.default_zone.as_str()), ("free", "Asia/Tokyo"));
        let none = update(world, default(""), &["default_plan"]).await.expect("it can be unset");
        assert_eq!((none.default_plan.as_str(), none.default_zone.as_str()), ("", "Asia/Tokyo"));
        let events = eventually("the changes are listed", async || {
            let events = world.all_events(ListEventsRequest::default()).await;
            (events.len() == 4).then_some(events)
        })
        .await;
        let of_settings = |event: &Event| {
            let change = event.change.clone().expect("a change");
            assert_eq!((change.subject(), change.id.as_str()), (Subject::Settings, "policy"));
            assert_eq!((change.action(), event.tenant.as_str()), (Action::Updated, ""));
            change.fields.join(" ")
        };
        let fields: Vec<String> = events[1..].iter().map(of_settings).collect();
        assert_eq!(fields, ["default_plan", "default_zone", "default_plan"]);
    }

    async fn the_refusal_of_settings_names_the_wrong_fields(world: World) {
        let cases: [(&str, PolicySettings, &[&str]); 4] = [
            ("settings.default_plan", default(&"x".repeat(129)), &[]),
            ("settings.default_zone", PolicySettings { default_zone: "Mars".into(), ..default("") }, &[]),
            ("update_mask", default("free"), &["etag"]),
            ("update_mask", default("free"), &["update_time"]),
        ];
        for (field, given, paths) in cases {
            update(world, given, paths).await.expect_err(field).names(&[field]);
        }
        let nothing = UpdatePolicySettingsRequest::default();
        let no = done(world.admin.clone().update_policy_settings(nothing).await);
        no.expect_err("nothing").names(&["settings"]);
    }

    async fn the_default_plan_cannot_be_deleted(world: World) {
        prepare(world).await;
        let delete = async || {
            let request = DeletePlanRequest { id: "free".into(), ..DeletePlanRequest::default() };
            done(world.admin.clone().delete_plan(request).await)
        };
        let no = delete().await.expect_err("it is the default plan");
        no.is(Code::FailedPrecondition, "PLAN_IN_USE");
        assert!(no.message.contains("default plan"), "{no:?}");
        assert_eq!(no.metadata["default_plan"], "free");
        update(world, default(""), &["default_plan"]).await.expect("it can be unset");
        delete().await.expect("nobody has it");
    }

    async fn a_reserve_record_or_check_creates_its_tenant(world: World) {
        prepare(world).await;
        let reply = world.reserve("one").tokens(60).id("r").await.expect("the tenant is created");
        assert_eq!(reply.figures("day"), (0, 60));
        world.reserve("one").tokens(60).await.expect_err("40 are left").is_quota(&["day"]);
        world.record("two").tokens(7).await.expect("the tenant is created");
        assert_eq!(world.figures("two", "day").await, (7, 0));
        assert!(world.check("three").tokens(100).await.expect("the tenant is created").allowed);
        world.reserve("four").tokens(101).await.expect_err("the plan has 100").is_quota(&["day"]);
        for id in ["one", "two", "three", "four"] {
            let tenant = get(world, id).await.expect(id);
            assert_eq!((tenant.plan.as_str(), tenant.zone.as_str()), ("free", "Asia/Tokyo"), "{id}");
            assert_eq!((tenant.state(), tenant.display_name.as_str()), (TenantState::Active, ""), "{id}");
            assert_eq!(millis(tenant.create_time.as_ref()), Some(NOON), "{id}");
            assert_eq!(creations(world, id).await, 1, "{id}");
        }
        let again = world.reserve("one").tokens(60).id("r").await.expect("a retry");
        assert_eq!(again.name(), reply.name());
    }

    async fn no_other_call_creates_a_tenant(world: World) {
        prepare(world).await;
        let named = |request: &mut CommitRequest| {
            (request.tenant, request.reserve_request_id) = ("x".into(), "r".into());
        };
        world.commit("").with(named).await.expect_err("no tenant").is(Code::NotFound, "TENANT_NOT_FOUND");
        let named = |request: &mut ReleaseRequest| {
            (request.tenant, request.reserve_request_id) = ("x".into(), "r".into());
        };
        world.release("").with(named).await.expect_err("no tenant").is(Code::NotFound, "TENANT_NOT_FOUND");
        let named = |request: &mut ExtendRequest| {
            (request.tenant, request.reserve_request_id) = ("x".into(), "r".into());
        };
        let no = world.extend("").tokens(1).with(named).await.expect_err("no tenant");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
        world.get_usage("x").await.expect_err("no tenant").is(Code::NotFound, "TENANT_NOT_FOUND");
        world.list("x").await.expect_err("no tenant").is(Code::NotFound, "TENANT_NOT_FOUND");
        world.reset("x", &[]).await.expect_err("no tenant").is(Code::NotFound, "TENANT_NOT_FOUND");
        for id in [" x", "x ", "x\u{200b}"] {
            let no = world.reserve(id).tokens(1).await.expect_err("no new id");
            no.is(Code::NotFound, "TENANT_NOT_FOUND");
        }
        update(world, default(""), &["default_plan"]).await.expect("it can be unset");
        world.reserve("x").tokens(1).await.expect_err("no default plan").is(Code::NotFound, "TENANT_NOT_FOUND");
        world.reserve("x").tokens(-1).await.expect_err("a wrong field").names(&["amounts[0].quantity"]);
        assert_eq!(world.database.number("SELECT COUNT(*) FROM tenants").await, 0);
    }

    /// Many clients of two replicas call for one new tenant at once. On SQLite there is one server.
    async fn a_crowd_creates_a_tenant_once(world: World) {
        prepare(world).await;
        let replica = match world.database.kind() {
            Kind::Sqlite => None,
            Kind::Postgres => Some(world.replica().await),
        };
        let other = replica.as_ref().map_or(world.clients(), |(_, clients)| clients);
        for round in 0..5 {
            let id = format!("new {round}");
            let calls = (0..40).map(|number| {
                let clients = if number % 2 == 0 { world.clients() } else { other };
                clients.record(&id).tokens(1).into_future()
            });
            try_join_all(calls).await.expect("all are recorded");
            assert_eq!(world.figures(&id, "day").await, (40, 0));
            assert_eq!(creations(world, &id).await, 1);
        }
        let calls = (0..150).map(|number| other.record(&format!("each {number}")).tokens(1).into_future());
        try_join_all(calls).await.expect("all are recorded");
        assert_eq!(world.database.number("SELECT COUNT(*) FROM tenants").await, 155);
        if let Some((server, _)) = replica {
            server.shutdown().await;
        }
    }

    async fn a_batch_creates_its_tenants_and_keeps_the_order(world: World) {
        prepare(world).await;
        world.tenant("old", "free", "").await.expect("the tenant is new");
        let commit = |tenant: &'static str, id: &'static str| {
            world.commit("").tokens(30).with(move |request| {
                (request.tenant, request.reserve_request_id) = (tenant.into(), id.into());
            })
        };
        let results = world
            .batch(vec![
                commit("a", "r").operation(),
                world.reserve("a").tokens(90).id("r").operation(),
                world.record("old").tokens(1).operation(),
                world.reserve("b").tokens(40).id("r").operation(),
                commit("a", "r").operation(),
                world.reserve("a").tokens(70).id("s").operation(),
                world.reserve("a").tokens(1).operation(),
                commit("c", "r").operation(),
                commit("b", "r").operation(),
            ])
            .await
            .expect("each operation has a result");
        let refused: Vec<(usize, No)> = results
            .iter()
            .enumerate()
            .filter(|(_, result)| matches!(result.result, Some(operation_result::Result::Error(_))))
            .map(|(place, result)| (place, error(result.clone())))
            .collect();
        assert_eq!(refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 6, 7], "{refused:?}");
        refused[0].1.is(Code::NotFound, "TENANT_NOT_FOUND");
        refused[1].1.is_quota(&["day"]);
        refused[2].1.is(Code::NotFound, "TENANT_NOT_FOUND");
        assert_eq!(world.figures("a", "day").await, (30, 70), "90 were reserved before 70");
        assert_eq!(world.figures("b", "day").await, (30, 0));
        get(world, "c").await.expect_err("a Commit creates no tenant");
    }

    async fn a_deleted_tenant_is_created_anew_with_empty_books(world: World) {
        prepare(world).await;
        world.record("x").tokens(90).await.expect("the tenant is created");
        let request = DeleteTenantRequest { id: "x".into(), ..DeleteTenantRequest::default() };
        done(world.admin.clone().delete_tenant(request).await).expect("it has no holds");
        let reply = world.reserve("x").tokens(100).await.expect("the tenant is created");
        assert_eq!(reply.figures("day"), (0, 100));
        assert_eq!(creations(world, "x").await, 2);
    }

    /// Tenants that operators created keep their plans, and a new default plan is for new tenants only.
    async fn a_change_of_the_default_plan_is_for_new_tenants(world: World) {
        prepare(world).await;
        let replica = match world.database.kind() {
            Kind::Sqlite => None,
            Kind::Postgres => Some(world.replica().await),
        };
        let other = replica.as_ref().map_or(world.clients(), |(_, clients)| clients);
        world.plan("pro", &[day("tokens", 1_000)]).await.expect("the plan is new");
        other.record("x").tokens(1).await.expect("the tenant is created");
        for (id, plan) in [("a", "pro"), ("b", "free"), ("c", "pro"), ("d", "free")] {
            update(world, default(plan), &[]).await.expect("the plan exists");
            other.record(id).tokens(1).await.expect("the tenant is created");
            assert_eq!(get(world, id).await.expect("it is there").plan, plan);
        }
        assert_eq!(get(world, "x").await.expect("it is there").plan, "free");
        update(world, default(""), &["default_plan"]).await.expect("it can be unset");
        other.record("e").tokens(1).await.expect_err("no default").is(Code::NotFound, "TENANT_NOT_FOUND");
        if let Some((server, _)) = replica {
            server.shutdown().await;
        }
    }
}
