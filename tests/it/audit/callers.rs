//! Who made a change: in the audit, and in events. Who may read the audit.

use tonic::{Code, Request, metadata::AsciiMetadataValue};
use tope::config::{Auth, Config};

use super::{all, at_place, changes};
use crate::harness::{
    call::Answer,
    clients::{done, mask},
    process::{run, said, tope},
    v1::{operation::Operation as Wire, quota_service_client::QuotaServiceClient, *},
    world::settings,
    *,
};

/// Makes a request with a key, and with an id in the metadata unless the id is empty.
fn with<T>(text: &str, id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = |text: String| text.parse::<AsciiMetadataValue>().expect("letters");
    request.metadata_mut().insert("authorization", value(format!("Bearer {text}")));
    if !id.is_empty() {
        request.metadata_mut().insert("x-request-id", value(id.to_owned()));
    }
    request
}

/// Creates a key of this role.
async fn key(world: &World, role: Role, tenants: &[&str]) -> Key {
    let tenants = tenants.iter().map(|&tenant| tenant.to_owned()).collect();
    let key = Key { role: role.into(), tenants, ..Key::default() };
    done(world.admin.clone().create_key(CreateKeyRequest { key: Some(key) }).await).expect("it is right")
}

async fn need_keys(world: &mut World) {
    let config = Config { auth: Auth::Keys, ..settings(world.database.url()) };
    world.restart_with(config).await;
}

async fn list(world: &World, text: &str, request: ListChangesRequest) -> Answer<Vec<Change>> {
    let request = ListChangesRequest { page_size: 1_000, ..request };
    done(world.admin.clone().list_changes(with(text, "", request)).await).map(|page| page.changes)
}

fn only(tenant: &str) -> ListChangesRequest {
    ListChangesRequest { tenant: tenant.into(), ..ListChangesRequest::default() }
}

async fn reserve(world: &World, text: &str) -> String {
    let amounts = vec![ReserveAmount { resource: "tokens".into(), quantity: 5, ..ReserveAmount::default() }];
    let request = ReserveRequest { tenant: "acme".into(), amounts, ..ReserveRequest::default() };
    let mut quota = QuotaServiceClient::new(world.channel.clone());
    done(quota.reserve(with(text, "", request)).await).expect("it fits").name().to_owned()
}

fn release(name: &str) -> ReleaseRequest {
    ReleaseRequest { reservation: name.into(), ..ReleaseRequest::default() }
}

both! {
    /// R8.1, R8.4: a change names the key of its caller, the rpc and the request id; so do the events.
    async fn a_change_and_its_event_name_the_key_of_the_caller(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let admin = key(world, Role::Admin, &[]).await;
        let operator = key(world, Role::Operator, &[]).await;
        world.record("acme").tokens(7).await.expect("it is recorded");
        need_keys(world).await;
        let caller = |key: &Key| format!("key:{}", key.id);
        let tenant = Tenant { id: "acme".into(), state: TenantState::Suspended.into(), ..Tenant::default() };
        let request = UpdateTenantRequest { tenant: Some(tenant), update_mask: Some(mask(&["state"])) };
        let mut client = world.admin.clone();
        done(client.update_tenant(with(&operator.text, "trace-7", request)).await).expect("it may suspend");
        let reset = ResetUsageRequest {
            tenant: "acme".into(),
            reason: "a test".into(),
            operator: "kim".into(),
            ..ResetUsageRequest::default()
        };
        // Longer than 128 bytes, so it is not kept.
        done(client.reset_usage(with(&admin.text, &"x".repeat(129), reset)).await).expect("it is there");

        let rows = list(world, &admin.text, only("acme")).await.expect("it may read");
        let found: Vec<_> = rows[..2].iter().map(|row| (&*row.rpc, row.caller.clone(), &*row.request_id)).collect();
        assert_eq!(found, [("ResetUsage", caller(&admin), ""), ("UpdateTenant", caller(&operator), "trace-7")]);
        let events = eventually("the events are numbered", async || {
            let request = ListEventsRequest { tenant: "acme".into(), ..ListEventsRequest::default() };
            let events = done(client.clone().list_events(with(&admin.text, "", request)).await).expect("a page").events;
            events.iter().any(|event| event.kind() == EventKind::UsageReset).then_some(events)
        })
        .await;
        let callers: Vec<_> = events.iter().map(|event| (event.kind(), event.caller.clone())).collect();
        assert!(callers.contains(&(EventKind::PolicyChanged, "local".into())), "{callers:?}");
        assert!(callers.contains(&(EventKind::PolicyChanged, caller(&operator))), "{callers:?}");
        assert!(callers.contains(&(EventKind::UsageReset, caller(&admin))), "{callers:?}");
    }

    /// R8.3: a Release by an operator or admin is a correction, also in a Batch; a Release by a spender is not.
    async fn a_release_by_an_operator_is_in_the_audit(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let spender = key(world, Role::Spender, &["acme"]).await;
        let operator = key(world, Role::Operator, &["acme"]).await;
        let local = world.reserve("acme").tokens(5).await.expect("it fits");
        world.release(local.name()).await.expect("it is open");
        need_keys(world).await;
        let mut quota = QuotaServiceClient::new(world.channel.clone());
        let [first, second, third] =
            [reserve(world, &spender.text).await, reserve(world, &spender.text).await, reserve(world, &spender.text).await];
        done(quota.release(with(&spender.text, "", release(&first))).await).expect("it is open");
        done(quota.release(with(&operator.text, "fix", release(&second))).await).expect("it is open");
        done(quota.release(with(&operator.text, "fix", release(&second))).await).expect("the first reply");
        let operation = Operation { operation: Some(Wire::Release(release(&third))) };
        let batch = BatchRequest { operations: vec![operation] };
        done(quota.batch(with(&operator.text, "", batch)).await).expect("each is judged by itself");

        let rows = list(world, &operator.text, only("acme")).await.expect("it may read");
        let rows: Vec<_> = rows.iter().filter(|row| row.kind() == ChangeKind::Reservation).collect();
        let found: Vec<_> = rows.iter().map(|row| (&*row.thing, &*row.rpc, &*row.caller, &*row.request_id)).collect();
        let caller = format!("key:{}", operator.id);
        assert_eq!(found, [(&*third, "Release", &*caller, ""), (&*second, "Release", &*caller, "fix")]);
        for row in rows {
            assert_eq!(at_place(&row.before, "/state"), "RESERVATION_STATE_RESERVED", "{row:?}");
            assert_eq!(at_place(&row.after, "/state"), "RESERVATION_STATE_RELEASED", "{row:?}");
            assert_eq!(at_place(&row.before, "/amounts/0/reserved"), "5", "{row:?}");
        }
    }

    /// R8.5: a spender may not read the audit, and a key of one tenant reads only that tenant's changes.
    async fn the_audit_is_read_by_those_who_may(world: World) {
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[day("tokens", 100).named(tenant)]).await;
        }
        let spender = key(world, Role::Spender, &[]).await;
        let page = key(world, Role::Viewer, &["acme"]).await;
        let viewer = key(world, Role::Viewer, &[]).await;
        need_keys(world).await;
        for (text, tenant) in [(&spender.text, "acme"), (&spender.text, ""), (&page.text, "globex"), (&page.text, "")] {
            let no = list(world, text, only(tenant)).await.expect_err("it may not");
            no.is(Code::PermissionDenied, "NOT_PERMITTED");
        }
        let own = list(world, &page.text, only("acme")).await.expect("it is the own tenant");
        assert!(!own.is_empty() && own.iter().all(|row| row.tenant == "acme"), "{own:?}");
        assert!(own.iter().all(|row| row.address.is_empty()), "{own:?}");
        let whole = list(world, &viewer.text, only("")).await.expect("it may");
        assert!(whole.len() > own.len());
        for row in whole {
            assert_eq!(row.after.is_empty(), row.kind() == ChangeKind::Key, "keys are for admins: {row:?}");
        }
    }

    /// R8.5: whoever has the id of a deleted tenant now sees nothing of the tenant before.
    async fn a_tenant_does_not_see_the_changes_of_an_earlier_tenant(world: World) {
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[day("tokens", 100).named(tenant)]).await;
        }
        let page = key(world, Role::Viewer, &["acme"]).await;
        let viewer = key(world, Role::Viewer, &[]).await;
        need_keys(world).await;
        assert_eq!(list(world, &page.text, only("acme")).await.expect("its own").len(), 1);
        let delete = DeleteTenantRequest { id: "acme".into(), ..DeleteTenantRequest::default() };
        world.restart_with(settings(world.database.url())).await;
        done(world.admin.clone().delete_tenant(delete).await).expect("it has no holds");
        need_keys(world).await;
        assert_eq!(list(world, &page.text, only("acme")).await.expect("there is no such tenant"), []);
        world.clock.advance(SECOND);
        world.restart_with(settings(world.database.url())).await;
        world.tenant("acme", "globex", "").await.expect("the id is free");
        need_keys(world).await;
        let own = list(world, &page.text, only("acme")).await.expect("its own");
        assert_eq!(own.iter().map(|row| &*row.rpc).collect::<Vec<_>>(), ["CreateTenant"]);
        assert_eq!(list(world, &viewer.text, only("acme")).await.expect("it may").len(), 3);
    }

    /// `tope keys` works on the database itself, and `tope changes` prints the audit.
    async fn commands_leave_rows_and_print_them(world: World) {
        let url = world.database.url().to_owned();
        let mut create = tope();
        create.args(["keys", "create", "--role", "viewer", "--name", "a page", "--database", &url]);
        let created = run(create).await;
        assert!(created.status.success(), "{}", said(&created));
        let rows = all(world).await;
        assert_eq!((rows.len(), &*rows[0].rpc, &*rows[0].caller), (1, "CreateKey", "command line"));
        assert_eq!((at_place(&rows[0].after, "/role"), &*rows[0].address), ("ROLE_VIEWER".into(), ""));
        world.resource("tokens").await.expect("it is new");
        let print = |arguments: &[&str]| {
            let mut command = tope();
            command.args([&["changes", "--target", &world.target()], arguments].concat());
            run(command)
        };
        let table = print(&[]).await;
        assert!(table.status.success(), "{}", said(&table));
        let text = String::from_utf8(table.stdout).expect("text");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        // The command has the time of day, which is later than the world's.
        assert_eq!(lines[1][1..4], ["command", "line", "CreateKey"], "{text}");
        assert_eq!(lines[2][1..], ["local", "CreateResource", "resource", "tokens"], "{text}");
        let json = print(&["--kind", "key", "--output", "json", "--until", "2100-01-01T00:00:00Z"]).await;
        let found: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
        assert_eq!((&found[0]["before"], &found[0]["after"]["role"]), (&serde_json::Value::Null, &"ROLE_VIEWER".into()));
        let wrong = print(&["--since", "yesterday"]).await;
        assert!(!wrong.status.success() && said(&wrong).contains("--since"), "{}", said(&wrong));
        assert_eq!(changes(world, &ListChangesRequest::default(), 1).await, all(world).await);
    }
}
