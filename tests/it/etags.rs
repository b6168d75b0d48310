//! R4.37: an update or a delete with an etag takes effect only if the thing still has this etag.

use futures::{
    FutureExt,
    future::{join, join_all},
};
use sea_orm::ConnectionTrait;
use tonic::Code;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    stall,
    v1::*,
    world::run_in_world,
    *,
};

/// A thing that has an etag, as the replies show it.
#[derive(Clone, Copy, Debug)]
enum Thing {
    Resource,
    Plan,
    Tenant,
    Webhook,
}

const ALL: [Thing; 4] = [Thing::Resource, Thing::Plan, Thing::Tenant, Thing::Webhook];

impl Thing {
    fn name(self) -> &'static str {
        match self {
            Thing::Resource => "resource",
            Thing::Plan => "plan",
            Thing::Tenant => "tenant",
            Thing::Webhook => "webhook",
        }
    }
}

async fn create(clients: &Clients, thing: Thing, id: &str) -> Answer<String> {
    match thing {
        Thing::Resource => clients.resource(id).await.map(|made| made.etag),
        Thing::Plan => clients.plan(id, &[]).await.map(|made| made.etag),
        Thing::Tenant => clients.tenant(id, "base", "").await.map(|made| made.etag),
        Thing::Webhook => {
            let url = "https://hooks.example.invalid/tope".into();
            let webhook = Some(Webhook { id: id.into(), url, ..Webhook::default() });
            let made = clients.admin.clone().create_webhook(CreateWebhookRequest { webhook }).await;
            done(made).map(|made| made.etag)
        }
    }
}

/// Returns the text for people and the etag.
async fn get(clients: &Clients, thing: Thing, id: &str) -> Answer<(String, String)> {
    let (mut admin, id) = (clients.admin.clone(), id.to_owned());
    match thing {
        Thing::Resource => {
            done(admin.get_resource(GetResourceRequest { id }).await).map(|it| (it.display_name, it.etag))
        }
        Thing::Plan => done(admin.get_plan(GetPlanRequest { id }).await).map(|it| (it.display_name, it.etag)),
        Thing::Tenant => {
            done(admin.get_tenant(GetTenantRequest { id }).await).map(|it| (it.display_name, it.etag))
        }
        Thing::Webhook => {
            done(admin.get_webhook(GetWebhookRequest { id }).await).map(|it| (it.description, it.etag))
        }
    }
}

/// Gives the thing another text for people, and returns the new etag.
async fn update(clients: &Clients, thing: Thing, id: &str, text: &str, etag: &str) -> Answer<String> {
    let mut admin = clients.admin.clone();
    let (id, display_name, etag) = (id.to_owned(), text.to_owned(), etag.to_owned());
    let update_mask = Some(mask(&["display_name"]));
    match thing {
        Thing::Resource => {
            let resource = Some(Resource { id, display_name, etag, ..Resource::default() });
            let request = UpdateResourceRequest { resource, update_mask };
            done(admin.update_resource(request).await).map(|it| it.etag)
        }
        Thing::Plan => {
            let plan = Some(Plan { id, display_name, etag, ..Plan::default() });
            done(admin.update_plan(UpdatePlanRequest { plan, update_mask }).await).map(|it| it.etag)
        }
        Thing::Tenant => {
            let tenant = Some(Tenant { id, display_name, etag, ..Tenant::default() });
            done(admin.update_tenant(UpdateTenantRequest { tenant, update_mask }).await).map(|it| it.etag)
        }
        Thing::Webhook => {
            let webhook = Some(Webhook { id, description: display_name, etag, ..Webhook::default() });
            let request = UpdateWebhookRequest { webhook, update_mask: Some(mask(&["description"])) };
            done(admin.update_webhook(request).await).map(|it| it.etag)
        }
    }
}

async fn delete(clients: &Clients, thing: Thing, id: &str, etag: &str) -> Answer<()> {
    let (mut admin, id, etag) = (clients.admin.clone(), id.to_owned(), etag.to_owned());
    done(match thing {
        Thing::Resource => admin.delete_resource(DeleteResourceRequest { id, etag }).await,
        Thing::Plan => admin.delete_plan(DeletePlanRequest { id, etag }).await,
        Thing::Tenant => admin.delete_tenant(DeleteTenantRequest { id, etag, force: false }).await,
        Thing::Webhook => admin.delete_webhook(DeleteWebhookRequest { id, etag }).await,
    })
}

fn is_stale<T: std::fmt::Debug>(answer: Answer<T>, thing: Thing, id: &str) {
    let no = answer.expect_err(thing.name());
    no.is(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!((no.metadata["what"].as_str(), no.metadata["id"].as_str()), (thing.name(), id), "{no:?}");
}

both! {
    async fn an_etag_changes_with_each_change_and_a_stale_one_is_refused(world: World) {
        world.plan("base", &[]).await.expect("the plan is new");
        for thing in ALL {
            let first = create(world, thing, "x").await.expect("it is new");
            let (_, read) = get(world, thing, "x").await.expect("it is there");
            assert_eq!(read, first, "{thing:?}");
            assert!(!first.is_empty() && first.len() < 64, "{first}");
            world.clock.advance(MINUTE);
            let second = update(world, thing, "x", "a", &first).await.expect("the etag is right");
            assert_ne!(second, first, "{thing:?}");
            assert_eq!(get(world, thing, "x").await.expect("it is there"), ("a".into(), second.clone()));
            let other = create(world, thing, "y").await.expect("it is new");
            for stale in [&first, &other, "nonsense", " ", &format!("{second} "), &"x".repeat(10_000)] {
                is_stale(update(world, thing, "x", "b", stale).await, thing, "x");
                is_stale(update(world, thing, "x", "a", stale).await, thing, "x");
                is_stale(delete(world, thing, "x", stale).await, thing, "x");
            }
            assert_eq!(get(world, thing, "x").await.expect("it is there"), ("a".into(), second.clone()));
            let same = update(world, thing, "x", "a", &second).await.expect("the etag is right");
            assert_eq!(same, second, "nothing changes");
            let third = update(world, thing, "x", "b", "").await.expect("no etag, no check");
            is_stale(delete(world, thing, "x", &second).await, thing, "x");
            delete(world, thing, "x", &third).await.expect("the etag is right");
            delete(world, thing, "y", "").await.expect("no etag, no check");
            let gone = update(world, thing, "x", "b", &third).await.expect_err("it is gone");
            assert_eq!(gone.code, Code::NotFound, "{gone:?}");
        }
    }

    /// The etag contains the internal key. The clock does not move here, so all else is the same.
    async fn the_etag_of_a_thing_that_was_deleted_is_stale_for_its_successor(world: World) {
        world.plan("base", &[]).await.expect("the plan is new");
        for thing in ALL {
            let first = create(world, thing, "x").await.expect("it is new");
            delete(world, thing, "x", &first).await.expect("the etag is right");
            create(world, thing, "x").await.expect("the id is free");
            is_stale(update(world, thing, "x", "b", &first).await, thing, "x");
            is_stale(delete(world, thing, "x", &first).await, thing, "x");
        }
    }

    async fn of_two_updates_at_once_with_one_etag_one_takes_effect(world: World) {
        world.plan("base", &[]).await.expect("the plan is new");
        for thing in ALL {
            let mut etag = create(world, thing, "x").await.expect("it is new");
            for round in 0..5 {
                let texts = [format!("a{round}"), format!("b{round}")];
                let [a, b] = &texts;
                let (one, other) =
                    join(update(world, thing, "x", a, &etag), update(world, thing, "x", b, &etag)).await;
                let (text, new, stale) = match (one, other) {
                    (Ok(new), stale @ Err(_)) => (a, new, stale),
                    (stale @ Err(_), Ok(new)) => (b, new, stale),
                    both => panic!("{thing:?}: {both:?}"),
                };
                is_stale(stale, thing, "x");
                assert_eq!(get(world, thing, "x").await.expect("it is there"), (text.clone(), new.clone()));
                etag = new;
            }
        }
    }

    async fn usage_does_not_change_the_etag_of_a_tenant(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let (_, etag) = get(world, Thing::Tenant, "acme").await.expect("it is there");
        let hold = world.reserve("acme").tokens(60).ttl(MINUTE).await.expect("there is quota");
        world.record("acme").tokens(5).await.expect("it is recorded");
        world.reserve("acme").tokens(60).await.expect_err("it is used up").is_quota(&["day"]);
        world.clock.advance(2 * MINUTE);
        world.commit(hold.name()).await.expect("late");
        world.reset("acme", &[]).await.expect("the tenant exists");
        assert_eq!(get(world, Thing::Tenant, "acme").await.expect("it is there").1, etag);
        let tenant = Tenant { id: "acme".into(), zone: "Asia/Tokyo".into(), etag, ..Tenant::default() };
        let moved = world.change_tenant(tenant.clone(), &["zone"]).await.expect("the etag is right");
        assert_ne!(moved.etag, tenant.etag);
        let tenant = Tenant { zone: "UTC".into(), ..tenant };
        is_stale(world.change_tenant(tenant, &["zone"]).await, Thing::Tenant, "acme");
        let listed = world.admin.clone().list_tenants(ListTenantsRequest::default()).await.expect("a page");
        assert_eq!(listed.into_inner().tenants[0].etag, moved.etag);
    }

    async fn the_etag_of_a_plan_covers_its_limits(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let (_, first) = get(world, Thing::Plan, "acme").await.expect("it is there");
        let changed = world.change_plan("acme", &[day("tokens", 99)]).await.expect("the plan is there");
        assert_ne!(changed.etag, first);
        let listed = world.admin.clone().list_plans(ListPlansRequest::default()).await.expect("a page");
        assert_eq!(listed.into_inner().plans[0].etag, changed.etag);
        is_stale(update(world, Thing::Plan, "acme", "b", &first).await, Thing::Plan, "acme");
    }

    /// Of two operators who add a limit each, one is refused and reads again. Without etags one limit would be lost.
    async fn no_change_of_two_writers_is_lost(world: World) {
        world.declare("tokens").await;
        world.plan("free", &[]).await.expect("the plan is new");
        let add = async |number: i64| {
            let mut refused = 0;
            loop {
                let mut admin = world.admin.clone();
                let plan = admin.get_plan(GetPlanRequest { id: "free".into() }).await.expect("the plan is there");
                let mut plan = plan.into_inner();
                plan.limits.push(day("tokens", number).named(&format!("limit {number}")));
                let update_mask = Some(mask(&["limits"]));
                match done(admin.update_plan(UpdatePlanRequest { plan: Some(plan), update_mask }).await) {
                    Ok(_) => return refused,
                    Err(no) => drop(no.is(Code::Aborted, "ETAG_MISMATCH")),
                }
                refused += 1;
            }
        };
        for round in 0..5 {
            join_all([add(2 * round), add(2 * round + 1)]).await;
        }
        let plan = world.admin.clone().get_plan(GetPlanRequest { id: "free".into() }).await.expect("a plan");
        assert_eq!(plan.into_inner().limits.len(), 10);
        let (_, etag) = get(world, Thing::Plan, "free").await.expect("it is there");
        let both = join_all(["a", "b"].map(|text| update(world, Thing::Plan, "free", text, &etag))).await;
        let refused: Vec<_> = both.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
        refused[0].is(Code::Aborted, "ETAG_MISMATCH");
    }

    async fn an_etag_cannot_be_named_in_a_mask(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let tenant = Tenant { id: "acme".into(), etag: "x".into(), ..Tenant::default() };
        let no = world.change_tenant(tenant, &["etag"]).await.expect_err("it is set by the server");
        no.names(&["update_mask"]);
    }
}

/// An attempt of a delivery ends the notifications of a webhook, and commits while an update waits for the row.
async fn end_webhook_during_updates(world: &mut World) {
    for (text, deletes) in [("a", false), ("b", true)] {
        let etag = create(world, Thing::Webhook, text).await.expect("it is new");
        let attempt = stall::connect(world.database.url()).await;
        let end = format!("BEGIN; UPDATE webhooks SET state = 4 WHERE id = '{text}'");
        attempt.execute_unprepared(&end).await.expect("the row is free");
        let call = async {
            if deletes {
                is_stale(delete(world, Thing::Webhook, text, &etag).await, Thing::Webhook, text);
            } else {
                is_stale(update(world, Thing::Webhook, text, "other", &etag).await, Thing::Webhook, text);
            }
        };
        let commit = async {
            let waits = async || (world.database.count_waiting().await > 0).then_some(());
            eventually("the call waits for the row", waits).await;
            attempt.execute_unprepared("COMMIT").await.expect("it is committed");
        };
        join(call, commit).await;
        attempt.close().await.expect("the connection closes");
    }
}

#[test]
fn an_etag_is_checked_under_the_lock_of_the_webhook() {
    run_in_world(Kind::Postgres, |world| end_webhook_during_updates(world).boxed_local());
}
