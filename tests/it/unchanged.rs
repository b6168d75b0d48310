//! An update that changes nothing has no effect: `update_time` stays, no event is emitted, and no cache is discarded.

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

/// Reads the figures that each real update changes.
async fn traces(world: &World) -> Vec<i64> {
    let mut traces = Vec::new();
    for query in [
        "SELECT revision FROM policy",
        "SELECT (SELECT COUNT(*) FROM events) + (SELECT COUNT(*) FROM pending_events)",
        "SELECT version FROM tenants",
        "SELECT updated_at FROM resources",
        "SELECT updated_at FROM plans",
        "SELECT updated_at FROM tenants",
        "SELECT updated_at FROM webhooks",
    ] {
        traces.push(world.database.number(query).await);
    }
    traces
}

fn resource() -> Resource {
    Resource { id: "tokens".into(), unit: "token".into(), ..Resource::default() }
}

fn plan() -> Plan {
    let limits =
        vec![day("tokens", 100).thresholds(&[50, 80]), month("tokens", 1_000).per(&[Dimension::User])];
    Plan { id: "free".into(), display_name: "Free".into(), limits, ..Plan::default() }
}

fn tenant() -> Tenant {
    Tenant { id: "acme".into(), plan: "free".into(), display_name: "Acme".into(), ..Tenant::default() }
}

fn hook() -> Webhook {
    Webhook {
        id: "chat".into(),
        url: "https://hooks.example.invalid/tope".into(),
        tenants: vec!["acme".into()],
        kinds: vec![EventKind::LimitReached.into()],
        ..Webhook::default()
    }
}

async fn update_resource(world: &World, resource: Resource, paths: &[&str]) -> Answer<Resource> {
    let update_mask = (!paths.is_empty()).then(|| mask(paths));
    let request = UpdateResourceRequest { resource: Some(resource), update_mask };
    done(world.admin.clone().update_resource(request).await)
}

async fn update_plan(world: &World, plan: Plan, paths: &[&str]) -> Answer<Plan> {
    let update_mask = (!paths.is_empty()).then(|| mask(paths));
    let request = UpdatePlanRequest { plan: Some(plan), update_mask };
    done(world.admin.clone().update_plan(request).await)
}

async fn update_tenant(world: &World, tenant: Tenant, paths: &[&str]) -> Answer<Tenant> {
    let update_mask = (!paths.is_empty()).then(|| mask(paths));
    let request = UpdateTenantRequest { tenant: Some(tenant), update_mask };
    done(world.admin.clone().update_tenant(request).await)
}

async fn update_webhook(world: &World, webhook: Webhook, paths: &[&str]) -> Answer<Webhook> {
    let update_mask = (!paths.is_empty()).then(|| mask(paths));
    let request = UpdateWebhookRequest { webhook: Some(webhook), update_mask };
    done(world.admin.clone().update_webhook(request).await)
}

both! {
    async fn an_update_that_changes_nothing_has_no_effect(world: World) {
        let admin = || world.admin.clone();
        let request = CreateResourceRequest { resource: Some(resource()) };
        let made = done(admin().create_resource(request).await).expect("the resource is new");
        let planned = done(admin().create_plan(CreatePlanRequest { plan: Some(plan()) }).await).expect("the plan is new");
        let request = CreateTenantRequest { tenant: Some(tenant()) };
        let customer = done(admin().create_tenant(request).await).expect("the tenant is new");
        let request = CreateWebhookRequest { webhook: Some(hook()) };
        let hooked = done(admin().create_webhook(request).await).expect("the webhook is new");
        let hooked = Webhook { secret: String::new(), ..hooked };
        let before = traces(world).await;
        world.clock.advance(MINUTE);

        for (change, paths) in [
            (resource(), &[][..]),
            (resource(), &["unit", "display_name"]),
            (Resource { id: "tokens".into(), ..Resource::default() }, &[]),
        ] {
            assert_eq!(update_resource(world, change, paths).await.expect("the resource exists"), made, "{paths:?}");
        }
        let mut reordered = plan();
        reordered.limits[0].thresholds = vec![80, 50];
        for (change, paths) in [
            (plan(), &[][..]),
            (plan(), &["display_name", "limits"]),
            (planned.clone(), &["limits"]),
            (reordered, &["limits"]),
            (Plan { id: "free".into(), ..Plan::default() }, &[]),
        ] {
            assert_eq!(update_plan(world, change, paths).await.expect("the plan exists"), planned, "{paths:?}");
        }
        for (change, paths) in [
            (tenant(), &[][..]),
            (customer.clone(), &["display_name", "plan", "state"]),
            (tenant(), &["state"]),
            (Tenant { id: "acme".into(), ..Tenant::default() }, &[]),
        ] {
            assert_eq!(update_tenant(world, change, paths).await.expect("the tenant exists"), customer, "{paths:?}");
        }
        for (change, paths) in [
            (hook(), &[][..]),
            (hooked.clone(), &["url", "description", "tenants", "kinds", "state"]),
            (hook(), &["state"]),
            (Webhook { id: "chat".into(), ..Webhook::default() }, &[]),
        ] {
            assert_eq!(update_webhook(world, change, paths).await.expect("the webhook exists"), hooked, "{paths:?}");
        }
        assert_eq!(traces(world).await, before);
    }

    /// Another order of limits is a change, too, because GetUsage lists balances in the order of the limits.
    async fn an_update_that_changes_one_field_moves_the_update_time(world: World) {
        world.tenant_with("free", &plan().limits).await;
        let admin = world.admin.clone();
        let hooked = CreateWebhookRequest { webhook: Some(hook()) };
        done(admin.clone().create_webhook(hooked).await).expect("the webhook is new");
        world.clock.advance(MINUTE);
        let mut turned = plan();
        turned.limits.reverse();
        let turned = update_plan(world, turned, &["limits"]).await.expect("the plan exists");
        assert_eq!(millis(turned.update_time.as_ref()), Some(NOON + MINUTE));
        let change = Tenant { id: "free".into(), state: TenantState::Suspended.into(), ..Tenant::default() };
        let suspended = update_tenant(world, change, &["state"]).await.expect("the tenant exists");
        assert_eq!(millis(suspended.update_time.as_ref()), Some(NOON + MINUTE));
        let change = Webhook { kinds: vec![], ..hook() };
        let widened = update_webhook(world, change, &["kinds"]).await.expect("the webhook exists");
        assert_eq!(millis(widened.update_time.as_ref()), Some(NOON + MINUTE));
        let change = Webhook { state: WebhookState::Disabled.into(), ..hook() };
        world.clock.advance(MINUTE);
        let disabled = update_webhook(world, change, &["state"]).await.expect("the webhook exists");
        assert_eq!(millis(disabled.update_time.as_ref()), Some(NOON + 2 * MINUTE));
    }
}
