//! CreateTenant, UpdateTenant and DeleteTenant.

use tonic::Code;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

async fn get(world: &World, id: &str) -> Answer<Tenant> {
    done(world.admin.clone().get_tenant(GetTenantRequest { id: id.into() }).await)
}

async fn update(world: &World, tenant: Tenant, paths: &[&str]) -> Answer<Tenant> {
    let request = UpdateTenantRequest { tenant: Some(tenant), update_mask: Some(mask(paths)) };
    done(world.admin.clone().update_tenant(request).await)
}

async fn delete(world: &World, id: &str, force: bool) -> Answer<()> {
    done(
        world
            .admin
            .clone()
            .delete_tenant(DeleteTenantRequest { id: id.into(), force, ..DeleteTenantRequest::default() })
            .await,
    )
}

async fn list(world: &World, request: ListTenantsRequest) -> Answer<ListTenantsResponse> {
    done(world.admin.clone().list_tenants(request).await)
}

fn acme() -> Tenant {
    Tenant { id: "acme".into(), plan: "free".into(), ..Tenant::default() }
}

both! {
    async fn a_tenant_can_be_created_read_and_changed(world: World) {
        world.plan("free", &[]).await.expect("the plan is new");
        world.plan("pro", &[]).await.expect("the plan is new");
        let created = world.tenant("acme", "free", "").await.expect("the tenant is new");
        assert_eq!((created.plan.as_str(), created.state()), ("free", TenantState::Active));
        assert!(matches!(created.zone.as_str(), "" | "UTC"), "{created:?}");
        assert_eq!(millis(created.create_time.as_ref()), Some(NOON));
        assert_eq!(get(world, "acme").await.expect("the tenant exists"), created);
        let zoned = world.tenant("lisbon", "free", "Europe/Lisbon").await.expect("the tenant is new");
        assert_eq!(zoned.zone, "Europe/Lisbon");

        world.clock.advance(MINUTE);
        let change = Tenant {
            display_name: "Acme".into(),
            plan: "pro".into(),
            state: TenantState::Suspended.into(),
            ..acme()
        };
        let changed = update(world, change.clone(), &["plan"]).await.expect("the tenant exists");
        assert_eq!((changed.plan.as_str(), changed.display_name.as_str()), ("pro", ""));
        assert_eq!(changed.state(), TenantState::Active);
        assert_eq!(millis(changed.update_time.as_ref()), Some(NOON + MINUTE));
        let changed = update(world, change, &[]).await.expect("the tenant exists");
        assert_eq!((changed.display_name.as_str(), changed.state()), ("Acme", TenantState::Suspended));
        let unset = Tenant { state: 0, ..acme() };
        let unchanged = update(world, unset, &["state"]).await.expect("the tenant exists");
        assert_eq!(unchanged.state(), TenantState::Suspended, "unset is unchanged in an update");
        assert_eq!(get(world, "acme").await.expect("the tenant exists").create_time, created.create_time);
    }

    async fn a_second_tenant_with_the_same_id_is_refused(world: World) {
        world.tenant_with("acme", &[]).await;
        let no = world.tenant("acme", "acme", "").await.expect_err("it is taken");
        no.is(Code::AlreadyExists, "NAME_TAKEN");
    }

    async fn a_tenant_with_open_holds_is_deleted_only_with_force(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let hold = world.reserve("acme").tokens(10).await.expect("there is quota");
        let no = delete(world, "acme", false).await.expect_err("it has an open hold");
        no.is(Code::FailedPrecondition, "TENANT_HAS_HOLDS");
        assert!(no.metadata.values().any(|value| value == "1"), "it says how many: {no:?}");
        assert_eq!(world.figures("acme", "day").await, (0, 10), "nothing changed");
        delete(world, "acme", true).await.expect("by force");
        get(world, "acme").await.expect_err("it is gone").is(Code::NotFound, "TENANT_NOT_FOUND");
        let no = world.commit(hold.name()).await.expect_err("it can no longer be settled");
        assert_eq!(no.code, Code::NotFound, "{no:?}");
        world.reserve("acme").tokens(1).await.expect_err("it is gone").is(Code::NotFound, "TENANT_NOT_FOUND");
    }

    async fn a_tenant_whose_holds_have_expired_can_be_deleted(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        world.reserve("acme").tokens(10).ttl(MINUTE).await.expect("there is quota");
        world.clock.advance(MINUTE);
        delete(world, "acme", false).await.expect("nothing is open");
    }

    /// A new tenant with the name of a deleted tenant has empty books.
    async fn a_new_tenant_with_the_id_of_a_deleted_tenant_has_empty_books(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let old = world.reserve("acme").tokens(4).id("r").await.expect("there is quota");
        world.record("acme").tokens(6).await.expect("it is recorded");
        delete(world, "acme", true).await.expect("by force");
        world.tenant("acme", "acme", "").await.expect("the name is free");
        assert_eq!(world.figures("acme", "day").await, (0, 0));
        assert_eq!(world.reservations("acme").await, []);
        let new = world.reserve("acme").tokens(10).id("r").await.expect("request_ids are free, too");
        assert_ne!(new.name(), old.name());
        world.release(old.name()).await.expect_err("its holds are the old one's");
        assert_eq!(world.figures("acme", "day").await, (0, 10));
    }

    async fn tenants_are_listed_in_pages_and_by_plan(world: World) {
        for plan in ["free", "pro"] {
            world.plan(plan, &[]).await.expect("the plan is new");
        }
        for number in 0..20 {
            let plan = if number % 4 == 0 { "pro" } else { "free" };
            world.tenant(&format!("t{number:02}"), plan, "").await.expect("the tenant is new");
        }
        let read = async |plan: &str, page_size: i32| {
            let (mut read, mut page_token) = (Vec::new(), String::new());
            loop {
                let page = list(world, ListTenantsRequest { page_size, page_token, plan: plan.into() }).await;
                let page = page.expect("a page");
                read.extend(page.tenants.into_iter().map(|tenant| tenant.id));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return read;
                }
            }
        };
        let all: Vec<String> = (0..20).map(|number| format!("t{number:02}")).collect();
        for size in [1, 7, 20, 1_000] {
            assert_eq!(read("", size).await, all, "pages of {size}");
            assert_eq!(read("pro", size).await, ["t00", "t04", "t08", "t12", "t16"], "pages of {size}");
        }
        let page = list(world, ListTenantsRequest { page_size: 2, ..Default::default() }).await.expect("a page");
        let other = ListTenantsRequest { page_size: 2, page_token: page.next_page_token, plan: "pro".into() };
        list(world, other).await.expect_err("another filter").names(&["page_token"]);
        let large = ListTenantsRequest { page_size: 1_001, ..Default::default() };
        list(world, large).await.expect_err("too large").names(&["page_size"]);
    }

    async fn the_refusal_of_a_tenant_names_the_wrong_fields(world: World) {
        world.plan("free", &[]).await.expect("the plan is new");
        world.tenant("acme", "free", "").await.expect("the tenant is new");
        let before = get(world, "acme").await.expect("the tenant exists");
        let cases: [Case<Tenant>; 9] = [
            ("tenant.id", |tenant| tenant.id = String::new()),
            ("tenant.id", |tenant| tenant.id = "x".repeat(129)),
            ("tenant.id", |tenant| tenant.id = "a\u{7f}b".into()),
            ("tenant.display_name", |tenant| tenant.display_name = "x".repeat(257)),
            ("tenant.plan", |tenant| tenant.plan = String::new()),
            ("tenant.zone", |tenant| tenant.zone = "Mars/Olympus".into()),
            ("tenant.zone", |tenant| tenant.zone = "+01:00".into()),
            ("tenant.zone", |tenant| tenant.zone = "\0".into()),
            ("tenant.state", |tenant| tenant.state = 9),
        ];
        for (field, spoil) in cases {
            let mut tenant = Tenant { id: "new".into(), ..acme() };
            spoil(&mut tenant);
            let request = CreateTenantRequest { tenant: Some(tenant) };
            let no = done(world.admin.clone().create_tenant(request).await).expect_err(field);
            no.names(&[field]);
        }
        let no = done(world.admin.clone().create_tenant(CreateTenantRequest { tenant: None }).await);
        no.expect_err("nothing").names(&["tenant"]);
        let no = world.tenant("new", "nobody", "").await.expect_err("no such plan");
        no.is(Code::NotFound, "PLAN_NOT_FOUND");
        assert_eq!(no.resource.expect("it says which").1, "nobody");
        let no = update(world, Tenant { plan: "nobody".into(), ..acme() }, &["plan"]).await;
        no.expect_err("no such plan").is(Code::NotFound, "PLAN_NOT_FOUND");
        for path in ["id", "create_time", "nonsense"] {
            let no = update(world, Tenant { zone: "Asia/Tokyo".into(), ..acme() }, &[path]).await;
            let no = no.expect_err(path);
            no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
            assert!(no.fields.iter().all(|field| field.starts_with("update_mask")), "{no:?}");
        }
        let nobody = Tenant { id: "nobody".into(), display_name: "n".into(), ..Tenant::default() };
        let no = update(world, nobody, &["display_name"]).await.expect_err("unknown");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
        delete(world, "nobody", true).await.expect_err("unknown").is(Code::NotFound, "TENANT_NOT_FOUND");
        get(world, "new").await.expect_err("never made").is(Code::NotFound, "TENANT_NOT_FOUND");
        assert_eq!(get(world, "acme").await.expect("the tenant exists"), before);
    }
}
