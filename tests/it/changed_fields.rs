//! R4.23: POLICY_CHANGED names the fields that an update changed.

use crate::harness::{
    clients::{done, mask},
    v1::{policy_change::*, *},
    *,
};

/// Returns the changes in the order of the log: subject, action and fields.
async fn changes(world: &World, count: usize) -> Vec<(Subject, Action, String)> {
    let events = eventually("all events are listed", async || {
        let events = world.all_events(ListEventsRequest::default()).await;
        (events.len() >= count).then_some(events)
    })
    .await;
    let change = |event: Event| {
        let change = event.change.expect("it is a change");
        (change.subject(), change.action(), change.fields.join(" "))
    };
    events.into_iter().map(change).collect()
}

fn acme() -> Tenant {
    Tenant { id: "acme".into(), ..Tenant::default() }
}

both! {
    async fn an_event_names_the_fields_that_changed(world: World) {
        use {Action::*, Subject::*};
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.plan("pro", &[]).await.expect("the plan is new");
        let mut want = vec![(Resource, Created), (Plan, Created), (Plan, Created), (Tenant, Created)];
        let mut found = changes(world, 4).await;
        found.sort_by_key(|(subject, ..)| *subject as i32);
        want.sort_by_key(|(subject, _)| *subject as i32);
        assert_eq!(found, want.into_iter().map(|(s, a)| (s, a, String::new())).collect::<Vec<_>>());

        let resource = v1::Resource { id: "tokens".into(), unit: "token".into(), ..v1::Resource::default() };
        let update_mask = Some(mask(&["unit", "display_name"]));
        let request = UpdateResourceRequest { resource: Some(resource), update_mask };
        done(world.admin.clone().update_resource(request).await).expect("the resource is there");
        assert_eq!(changes(world, 5).await[4], (Resource, Updated, "unit".into()));

        let plan = v1::Plan {
            id: "acme".into(),
            display_name: "Acme".into(),
            uncovered: Uncovered::Refuse.into(),
            limits: vec![day("tokens", 100), month("tokens", 1_000)],
            ..v1::Plan::default()
        };
        let request = UpdatePlanRequest { plan: Some(plan), update_mask: None };
        done(world.admin.clone().update_plan(request).await).expect("the plan is there");
        assert_eq!(changes(world, 6).await[5], (Plan, Updated, "display_name limits uncovered".into()));

        let cases = [
            (v1::Tenant { plan: "pro".into(), state: TenantState::Active.into(), ..acme() }, "plan"),
            (v1::Tenant { zone: "Asia/Tokyo".into(), plan: "pro".into(), ..acme() }, "zone"),
            (v1::Tenant { anchor_time: Some(timestamp(NOON - DAY)), ..acme() }, "anchor_time"),
            (
                v1::Tenant {
                    zone: "UTC".into(),
                    anchor_time: Some(timestamp(NOON - 2 * DAY)),
                    state: TenantState::Suspended.into(),
                    display_name: "Acme".into(),
                    plan: "acme".into(),
                    ..acme()
                },
                "anchor_time display_name plan state zone",
            ),
        ];
        for (place, (tenant, fields)) in cases.into_iter().enumerate() {
            world.change_tenant(tenant, &[]).await.expect("the tenant is there");
            assert_eq!(changes(world, 7 + place).await[6 + place], (Tenant, Updated, fields.into()));
        }
        let same = v1::Tenant { display_name: "Acme".into(), plan: "acme".into(), ..acme() };
        world.change_tenant(same, &["display_name", "plan"]).await.expect("nothing changes");
        let tenant = DeleteTenantRequest { id: "acme".into(), ..DeleteTenantRequest::default() };
        world.admin.clone().delete_tenant(tenant).await.expect("it has no holds");
        let found = changes(world, 11).await;
        assert_eq!(found[10..], [(Tenant, Deleted, String::new())], "the update of nothing emits nothing");
    }

    async fn an_event_names_the_fields_of_agents_and_overrides(world: World) {
        use {Action::*, Subject::*};
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.plan("pro", &[]).await.expect("the plan is new");
        let agent = |display_name: &str| v1::Agent {
            tenant: "acme".into(),
            id: "planner".into(),
            display_name: display_name.into(),
            plan: "pro".into(),
            ..v1::Agent::default()
        };
        let request = CreateAgentRequest { agent: Some(agent("")) };
        done(world.admin.clone().create_agent(request).await).expect("the agent is new");
        let request = UpdateAgentRequest { agent: Some(agent("Planner")), update_mask: None };
        done(world.admin.clone().update_agent(request).await).expect("the agent is there");
        let made = |quantity: i64| v1::Override {
            tenant: "acme".into(),
            id: "more".into(),
            limit_id: "day".into(),
            quantity: Some(quantity),
            reason: "a test".into(),
            ..v1::Override::default()
        };
        let request = CreateOverrideRequest { r#override: Some(made(5)) };
        done(world.admin.clone().create_override(request).await).expect("the override is new");
        let update_mask = Some(mask(&["quantity", "reason"]));
        let request = UpdateOverrideRequest { r#override: Some(made(6)), update_mask };
        done(world.admin.clone().update_override(request).await).expect("the override is there");
        let found = changes(world, 8).await;
        let want = [(Agent, Created, ""), (Agent, Updated, "display_name"), (Override, Created, ""),
            (Override, Updated, "quantity")];
        assert_eq!(found[4..], want.map(|(subject, action, fields)| (subject, action, fields.to_owned())));
    }
}
