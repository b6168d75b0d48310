//! Each rpc that changes something leaves one row, with the thing before and after. Calls that are refused or change
//! nothing leave none.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};

use super::{all, at_place};
use crate::harness::{
    clients::{done, mask},
    v1::*,
    *,
};

/// The rpcs of operations that spend. They are no administration and no correction. `callers.rs` has Release.
const OPERATIONS: [&str; 8] =
    ["Reserve", "Commit", "Release", "Extend", "Record", "Check", "Batch", "WatchUsage"];

/// Asks an endpoint for an answer, and changes nothing here.
const TEST_WEBHOOK: &str = "TestWebhook";

/// The rows of the audit that the test has seen, and the rpcs that left them.
struct Audit<'a> {
    world: &'a World,
    seen: usize,
    rpcs: BTreeSet<String>,
}

impl Audit<'_> {
    /// Checks that there is exactly one new row. `fields`: places in the JSON of the thing, with the values before and
    /// after the change.
    async fn one(
        &mut self,
        (rpc, kind): (&str, ChangeKind),
        (thing, tenant): (&str, &str),
        fields: &[(&str, Value, Value)],
    ) -> Change {
        let rows = all(self.world).await;
        assert_eq!(rows.len(), self.seen + 1, "{rpc}: {:?}", rows.first());
        let row = rows[0].clone();
        assert_eq!((row.rpc.as_str(), row.kind()), (rpc, kind), "{row:?}");
        assert_eq!((row.thing.as_str(), row.tenant.as_str()), (thing, tenant), "{row:?}");
        assert_eq!(row.caller, "local");
        assert!(row.address.starts_with("127.0.0.1:"), "{row:?}");
        assert_eq!(millis(row.change_time.as_ref()), Some(self.world.clock.now()), "{row:?}");
        for (place, before, after) in fields {
            assert_eq!(&at_place(&row.before, place), before, "{place} before: {row:?}");
            assert_eq!(&at_place(&row.after, place), after, "{place} after: {row:?}");
        }
        for text in [&row.before, &row.after] {
            assert_eq!(at_place(text, "/etag"), Value::Null, "{row:?}");
        }
        (self.seen, _) = (rows.len(), self.rpcs.insert(rpc.to_owned()));
        self.world.clock.advance(SECOND);
        row
    }

    /// Checks that there is no new row.
    async fn none(&self, why: &str) {
        assert_eq!(all(self.world).await.len(), self.seen, "{why}");
    }

    fn admin(&self) -> clients::Admin {
        self.world.admin.clone()
    }
}

async fn resources(audit: &mut Audit<'_>) {
    let of = |rpc| (rpc, ChangeKind::Resource);
    audit.world.resource("tokens").await.expect("it is new");
    let row = audit.one(of("CreateResource"), ("tokens", ""), &[("/id", Value::Null, json!("tokens"))]).await;
    assert_eq!((row.before.as_str(), row.revision), ("", 1));
    audit.world.resource("tokens").await.expect_err("it exists");
    audit.none("the id is taken").await;
    let request = |etag: &str| UpdateResourceRequest {
        resource: Some(Resource {
            id: "tokens".into(),
            unit: "token".into(),
            etag: etag.into(),
            ..Resource::default()
        }),
        update_mask: Some(mask(&["unit"])),
    };
    done(audit.admin().update_resource(request("old")).await).expect_err("the etag is another");
    audit.none("the etag is another").await;
    done(audit.admin().update_resource(request("")).await).expect("it is there");
    let row =
        audit.one(of("UpdateResource"), ("tokens", ""), &[("/unit", Value::Null, json!("token"))]).await;
    assert_eq!(row.revision, 2);
    done(audit.admin().update_resource(request("")).await).expect("it is there");
    audit.none("the unit is the same").await;
    audit.world.resource("temporary").await.expect("it is new");
    audit.one(of("CreateResource"), ("temporary", ""), &[]).await;
    let request = DeleteResourceRequest { id: "temporary".into(), etag: String::new() };
    done(audit.admin().delete_resource(request.clone()).await).expect("it is there");
    let row =
        audit.one(of("DeleteResource"), ("temporary", ""), &[("/id", json!("temporary"), Value::Null)]).await;
    assert_eq!(row.after, "");
    done(audit.admin().delete_resource(request).await).expect_err("it is gone");
    audit.none("it is gone").await;
}

async fn plans(audit: &mut Audit<'_>) {
    let of = |rpc| (rpc, ChangeKind::Plan);
    audit.world.plan("free", &[day("tokens", 100)]).await.expect("it is new");
    let fields = [
        ("/limits/0/quantity", Value::Null, json!("100")),
        ("/limits/0/resource", Value::Null, json!("tokens")),
    ];
    audit.one(of("CreatePlan"), ("free", ""), &fields).await;
    audit.world.change_plan("free", &[day("tokens", 200)]).await.expect("it is there");
    let fields = [("/limits/0/quantity", json!("100"), json!("200"))];
    audit.one(of("UpdatePlan"), ("free", ""), &fields).await;
    audit.world.change_plan("free", &[day("tokens", 200)]).await.expect("it is there");
    audit.world.change_plan("nobody", &[]).await.expect_err("there is no such plan");
    audit.none("nothing changes").await;
    audit.world.plan("spare", &[]).await.expect("it is new");
    audit.one(of("CreatePlan"), ("spare", ""), &[]).await;
    let request = DeletePlanRequest { id: "spare".into(), etag: String::new() };
    done(audit.admin().delete_plan(request).await).expect("nobody has it");
    audit.one(of("DeletePlan"), ("spare", ""), &[("/id", json!("spare"), Value::Null)]).await;
    let request = UpdatePolicySettingsRequest {
        settings: Some(PolicySettings { default_plan: "free".into(), ..PolicySettings::default() }),
        update_mask: Some(mask(&["default_plan"])),
    };
    done(audit.admin().update_policy_settings(request.clone()).await).expect("the plan is there");
    let fields = [("/default_plan", Value::Null, json!("free"))];
    audit.one(("UpdatePolicySettings", ChangeKind::Settings), ("policy", ""), &fields).await;
    done(audit.admin().update_policy_settings(request).await).expect("the plan is there");
    let request = DeletePlanRequest { id: "free".into(), etag: String::new() };
    done(audit.admin().delete_plan(request).await).expect_err("it is the default");
    audit.none("nothing changes").await;
}

async fn tenants(audit: &mut Audit<'_>) {
    let of = |rpc| (rpc, ChangeKind::Tenant);
    audit.world.tenant("acme", "free", "").await.expect("it is new");
    let fields =
        [("/plan", Value::Null, json!("free")), ("/state", Value::Null, json!("TENANT_STATE_ACTIVE"))];
    audit.one(of("CreateTenant"), ("acme", "acme"), &fields).await;
    for (state, before, after) in [
        (TenantState::Suspended, "TENANT_STATE_ACTIVE", "TENANT_STATE_SUSPENDED"),
        (TenantState::Active, "TENANT_STATE_SUSPENDED", "TENANT_STATE_ACTIVE"),
    ] {
        audit.world.set_state("acme", state).await;
        audit.one(of("UpdateTenant"), ("acme", "acme"), &[("/state", json!(before), json!(after))]).await;
        audit.world.set_state("acme", state).await;
        audit.none("the state is the same").await;
    }
    audit.world.plan("pro", &[day("tokens", 900)]).await.expect("it is new");
    audit.one(("CreatePlan", ChangeKind::Plan), ("pro", ""), &[]).await;
    let next_plan = Some(NextPlan { plan: "pro".into(), effective_time: None });
    let planned = Tenant { id: "acme".into(), next_plan, ..Tenant::default() };
    audit.world.change_tenant(planned, &["next_plan"]).await.expect("the plan is there");
    let fields = [("/next_plan/plan", Value::Null, json!("pro")), ("/plan", json!("free"), json!("free"))];
    audit.one(of("UpdateTenant"), ("acme", "acme"), &fields).await;
    // A call creates this tenant, so no operator does.
    audit.world.record("by-a-call").tokens(1).await.expect("there is a default plan");
    audit.none("no operator created the tenant").await;
    let request = DeleteTenantRequest { id: "by-a-call".into(), ..DeleteTenantRequest::default() };
    done(audit.admin().delete_tenant(request).await).expect("it has no holds");
    audit.one(of("DeleteTenant"), ("by-a-call", "by-a-call"), &[("/plan", json!("free"), Value::Null)]).await;
}

async fn agents(audit: &mut Audit<'_>) {
    let of = |rpc| (rpc, ChangeKind::Agent);
    let agent = Agent { tenant: "acme".into(), id: "planner".into(), plan: "pro".into(), ..Agent::default() };
    let request = CreateAgentRequest { agent: Some(agent.clone()) };
    done(audit.admin().create_agent(request).await).expect("it is new");
    audit.one(of("CreateAgent"), ("planner", "acme"), &[("/plan", Value::Null, json!("pro"))]).await;
    let agent = Agent { state: AgentState::Suspended.into(), ..agent };
    let request = UpdateAgentRequest { agent: Some(agent), update_mask: Some(mask(&["state"])) };
    done(audit.admin().update_agent(request.clone()).await).expect("it is there");
    let fields = [("/state", json!("AGENT_STATE_ACTIVE"), json!("AGENT_STATE_SUSPENDED"))];
    audit.one(of("UpdateAgent"), ("planner", "acme"), &fields).await;
    done(audit.admin().update_agent(request).await).expect("it is there");
    audit.none("the state is the same").await;
    let request = DeleteAgentRequest { tenant: "acme".into(), id: "planner".into(), etag: String::new() };
    done(audit.admin().delete_agent(request.clone()).await).expect("it is there");
    audit.one(of("DeleteAgent"), ("planner", "acme"), &[("/plan", json!("pro"), Value::Null)]).await;
    done(audit.admin().delete_agent(request).await).expect_err("it is gone");
    audit.none("it is gone").await;
}

async fn overrides(audit: &mut Audit<'_>) {
    let of = |rpc| (rpc, ChangeKind::Override);
    let made = Override {
        tenant: "acme".into(),
        id: "friday".into(),
        limit_id: "day".into(),
        quantity: Some(500),
        ..Override::default()
    };
    let request = CreateOverrideRequest { r#override: Some(made.clone()) };
    done(audit.admin().create_override(request).await).expect("it is new");
    audit.one(of("CreateOverride"), ("friday", "acme"), &[("/quantity", Value::Null, json!("500"))]).await;
    let made = Override { quantity: Some(600), ..made };
    let request = UpdateOverrideRequest { r#override: Some(made), update_mask: Some(mask(&["quantity"])) };
    done(audit.admin().update_override(request.clone()).await).expect("it is there");
    audit.one(of("UpdateOverride"), ("friday", "acme"), &[("/quantity", json!("500"), json!("600"))]).await;
    done(audit.admin().update_override(request).await).expect("it is there");
    audit.none("the quantity is the same").await;
    let request = DeleteOverrideRequest { tenant: "acme".into(), id: "friday".into(), etag: String::new() };
    done(audit.admin().delete_override(request).await).expect("it is there");
    let fields =
        [("/quantity", json!("600"), Value::Null), ("/state", json!("OVERRIDE_STATE_ACTIVE"), Value::Null)];
    audit.one(of("DeleteOverride"), ("friday", "acme"), &fields).await;
}

async fn webhooks(audit: &mut Audit<'_>) {
    let of = |rpc| (rpc, ChangeKind::Webhook);
    let hook = Webhook { id: "chat".into(), url: "http://127.0.0.1:9/".into(), ..Webhook::default() };
    let request = CreateWebhookRequest { webhook: Some(hook.clone()) };
    done(audit.admin().create_webhook(request).await).expect("it is new");
    audit.one(of("CreateWebhook"), ("chat", ""), &[("/url", Value::Null, json!(hook.url))]).await;
    let hook = Webhook { description: "for the team".into(), ..hook };
    let request = UpdateWebhookRequest { webhook: Some(hook), update_mask: Some(mask(&["description"])) };
    done(audit.admin().update_webhook(request.clone()).await).expect("it is there");
    let fields = [("/description", Value::Null, json!("for the team"))];
    audit.one(of("UpdateWebhook"), ("chat", ""), &fields).await;
    done(audit.admin().update_webhook(request).await).expect("it is there");
    audit.none("the description is the same").await;
    let request = RotateWebhookSecretRequest { id: "chat".into(), ..RotateWebhookSecretRequest::default() };
    let rotated = done(audit.admin().rotate_webhook_secret(request).await).expect("it is there");
    let row = audit.one(of("RotateWebhookSecret"), ("chat", ""), &[]).await;
    assert_eq!(at_place(&row.before, "/old_secret_expire_time"), Value::Null);
    assert!(at_place(&row.after, "/old_secret_expire_time").is_string(), "{row:?}");
    let same = RotateWebhookSecretRequest { id: "chat".into(), secret: rotated.secret, overlap: None };
    done(audit.admin().rotate_webhook_secret(same).await).expect("it has this secret");
    audit.none("the secret is the same").await;
    let request = TestWebhookRequest { id: "chat".into() };
    done(audit.admin().test_webhook(request).await).expect("an outcome");
    let all_failed = RedeliverRequest { webhook: "chat".into(), sequences: Vec::new() };
    let none = done(audit.admin().redeliver(all_failed).await).expect("it is there");
    assert_eq!(none.count, 0);
    audit.none("there is nothing to send again").await;
    audit.world.resource("requests").await.expect("it is new");
    audit.one(("CreateResource", ChangeKind::Resource), ("requests", ""), &[]).await;
    audit.world.job("deliver-webhooks").await;
    audit.one(("RunJob", ChangeKind::Job), ("deliver-webhooks", ""), &[]).await;
    let sequence = eventually("a delivery is there", async || {
        let request = ListDeliveriesRequest { webhook: "chat".into(), ..ListDeliveriesRequest::default() };
        let page = done(audit.admin().list_deliveries(request).await).expect("it is there");
        page.deliveries.first().map(|delivery| delivery.sequence)
    })
    .await;
    let request = RedeliverRequest { webhook: "chat".into(), sequences: vec![sequence] };
    done(audit.admin().redeliver(request).await).expect("the delivery is there");
    let fields =
        [("/count", Value::Null, json!("1")), ("/sequences/0", Value::Null, json!(sequence.to_string()))];
    audit.one(of("Redeliver"), ("chat", ""), &fields).await;
    let request = DeleteWebhookRequest { id: "chat".into(), etag: String::new() };
    done(audit.admin().delete_webhook(request).await).expect("it is there");
    audit
        .one(of("DeleteWebhook"), ("chat", ""), &[("/description", json!("for the team"), Value::Null)])
        .await;
}

async fn keys(audit: &mut Audit<'_>) {
    let of = |rpc| (rpc, ChangeKind::Key);
    let key = Key { role: Role::Viewer.into(), display_name: "a page".into(), ..Key::default() };
    let made =
        done(audit.admin().create_key(CreateKeyRequest { key: Some(key) }).await).expect("it is right");
    let fields =
        [("/role", Value::Null, json!("ROLE_VIEWER")), ("/display_name", Value::Null, json!("a page"))];
    audit.one(of("CreateKey"), (&made.id, ""), &fields).await;
    let key = Key { id: made.id.clone(), state: KeyState::Revoked.into(), ..Key::default() };
    let request = UpdateKeyRequest { key: Some(key), update_mask: Some(mask(&["state"])) };
    done(audit.admin().update_key(request.clone()).await).expect("it is there");
    let fields = [("/state", json!("KEY_STATE_ACTIVE"), json!("KEY_STATE_REVOKED"))];
    audit.one(of("UpdateKey"), (&made.id, ""), &fields).await;
    done(audit.admin().update_key(request).await).expect("it is there");
    audit.none("it is revoked").await;
    let request = DeleteKeyRequest { id: made.id.clone(), etag: String::new() };
    done(audit.admin().delete_key(request).await).expect("it is there");
    audit.one(of("DeleteKey"), (&made.id, ""), &[("/role", json!("ROLE_VIEWER"), Value::Null)]).await;
}

async fn corrections(audit: &mut Audit<'_>) {
    let charge = audit.world.record("acme").tokens(40).await.expect("it is recorded");
    audit.none("a Record is no correction").await;
    let name = charge.name();
    let amend = audit.world.amend(name).tokens(30);
    amend.clone().await.expect("it was charged");
    let fields = [
        ("/amounts/0/committed", json!("40"), json!("30")),
        ("/state", json!("RESERVATION_STATE_COMMITTED"), json!("RESERVATION_STATE_COMMITTED")),
        ("/operator", Value::Null, json!("ops@example.com")),
        ("/reason", Value::Null, json!("ticket 7")),
    ];
    audit.one(("Amend", ChangeKind::Reservation), (name, "acme"), &fields).await;
    amend.await.expect("the first reply");
    audit.world.amend("r_none").tokens(1).await.expect_err("there is no such reservation");
    audit.none("the figures are the same").await;
    let request = ResetUsageRequest {
        tenant: "acme".into(),
        reason: "a courtesy".into(),
        operator: "kim".into(),
        request_id: "reset-1".into(),
        ..ResetUsageRequest::default()
    };
    done(audit.admin().reset_usage(request.clone()).await).expect("it is there");
    let fields = [
        ("/balances/0/committed", json!("30"), json!("0")),
        ("/balances/0/limit_ids/0", json!("day"), json!("day")),
        ("/balances/0/resource", json!("tokens"), json!("tokens")),
        ("/operator", Value::Null, json!("kim")),
    ];
    let row = audit.one(("ResetUsage", ChangeKind::Usage), ("acme", "acme"), &fields).await;
    assert_eq!(row.request_id, "reset-1");
    done(audit.admin().reset_usage(request.clone()).await).expect("the first reply");
    let again = ResetUsageRequest { request_id: String::new(), ..request };
    done(audit.admin().reset_usage(again).await).expect("nothing is committed");
    audit.none("nothing was committed").await;
}

/// Returns the names of all rpcs of the services.
fn rpcs() -> BTreeSet<String> {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/tope_descriptor.bin"));
    let set = FileDescriptorSet::decode(&bytes[..]).expect("descriptors");
    let files = set.file.into_iter().filter(|file| file.package() == "tope.v1");
    files
        .flat_map(|file| file.service)
        .flat_map(|service| service.method)
        .map(|rpc| rpc.name().to_owned())
        .collect()
}

both! {
    /// R8.1, R8.2: one row for each change, and none for refusals and for calls that change nothing.
    async fn each_change_leaves_one_row_with_the_thing_before_and_after(world: World) {
        let mut audit = Audit { world, seen: 0, rpcs: BTreeSet::new() };
        resources(&mut audit).await;
        plans(&mut audit).await;
        tenants(&mut audit).await;
        agents(&mut audit).await;
        overrides(&mut audit).await;
        webhooks(&mut audit).await;
        keys(&mut audit).await;
        corrections(&mut audit).await;
        world.run_job("nothing").await.expect_err("there is no such job");
        audit.none("there is no such job").await;

        let reads = |rpc: &String| rpc.starts_with("Get") || rpc.starts_with("List");
        let others = |rpc: &String| OPERATIONS.contains(&rpc.as_str()) || rpc == TEST_WEBHOOK;
        let expected: BTreeSet<String> = rpcs().into_iter().filter(|rpc| !reads(rpc) && !others(rpc)).collect();
        assert_eq!(audit.rpcs, expected, "each rpc that changes something has a case");
    }
}
