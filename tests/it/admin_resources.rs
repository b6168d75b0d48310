//! CreateResource, UpdateResource and DeleteResource: resources are declared before use.

use tonic::Code;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

async fn get(world: &World, id: &str) -> Answer<Resource> {
    done(world.admin.clone().get_resource(GetResourceRequest { id: id.into() }).await)
}

async fn create(world: &World, resource: Option<Resource>) -> Answer<Resource> {
    done(world.admin.clone().create_resource(CreateResourceRequest { resource }).await)
}

async fn update(world: &World, resource: Resource, paths: &[&str]) -> Answer<Resource> {
    let request = UpdateResourceRequest { resource: Some(resource), update_mask: Some(mask(paths)) };
    done(world.admin.clone().update_resource(request).await)
}

async fn delete(world: &World, id: &str) -> Answer<()> {
    done(
        world
            .admin
            .clone()
            .delete_resource(DeleteResourceRequest { id: id.into(), ..DeleteResourceRequest::default() })
            .await,
    )
}

async fn list(world: &World, page_size: i32, page_token: &str) -> Answer<ListResourcesResponse> {
    let request = ListResourcesRequest { page_size, page_token: page_token.into() };
    done(world.admin.clone().list_resources(request).await)
}

fn tokens() -> Resource {
    Resource {
        id: "tokens".into(),
        display_name: "Tokens".into(),
        unit: "token".into(),
        ..Resource::default()
    }
}

both! {
    async fn a_resource_can_be_created_read_changed_and_deleted(world: World) {
        let created = create(world, Some(tokens())).await.expect("the resource is new");
        assert_eq!((created.display_name.as_str(), created.unit.as_str()), ("Tokens", "token"));
        assert_eq!(millis(created.create_time.as_ref()), Some(NOON));
        assert_eq!(created.update_time, created.create_time);
        assert_eq!(get(world, "tokens").await.expect("the resource exists"), created);

        world.clock.advance(MINUTE);
        let change = Resource { display_name: "All tokens".into(), unit: "ignored".into(), ..tokens() };
        let changed = update(world, change, &["display_name"]).await.expect("the resource exists");
        assert_eq!((changed.display_name.as_str(), changed.unit.as_str()), ("All tokens", "token"));
        assert_eq!(millis(changed.update_time.as_ref()), Some(NOON + MINUTE));
        assert_eq!(changed.create_time, created.create_time);
        let cleared = update(world, Resource { unit: String::new(), ..tokens() }, &["unit"]).await;
        assert_eq!(cleared.expect("the resource exists").unit, "", "a path that is named is set, to nothing too");
        let change = Resource { id: "tokens".into(), unit: "piece".into(), ..Resource::default() };
        let changed = update(world, change, &[]).await.expect("the resource exists");
        assert_eq!((changed.display_name.as_str(), changed.unit.as_str()), ("All tokens", "piece"));
        assert_eq!(get(world, "tokens").await.expect("the resource exists"), changed);

        delete(world, "tokens").await.expect("nobody uses it");
        let no = get(world, "tokens").await.expect_err("it is gone");
        no.is(Code::NotFound, "RESOURCE_NOT_FOUND");
        assert_eq!(no.resource.expect("it says which").1, "tokens");
    }

    async fn a_second_resource_with_the_same_id_is_refused(world: World) {
        create(world, Some(tokens())).await.expect("the resource is new");
        let no = create(world, Some(tokens())).await.expect_err("it is taken");
        no.is(Code::AlreadyExists, "NAME_TAKEN");
        delete(world, "tokens").await.expect("nobody uses it");
        create(world, Some(tokens())).await.expect("it is free again");
    }

    async fn a_resource_that_a_plan_limits_is_not_deleted(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let no = delete(world, "tokens").await.expect_err("it is in use");
        no.is(Code::FailedPrecondition, "RESOURCE_IN_USE");
        assert!(no.metadata.values().any(|value| value == "acme"), "it says which plan: {no:?}");
        world.reserve("acme").tokens(10).await.expect("nothing changed");
        world.change_plan("acme", &[]).await.expect("the plan is there");
        delete(world, "tokens").await.expect("nobody uses it now");
        let no = world.reserve("acme").tokens(1).await.expect_err("it is gone");
        no.names(&["amounts[0].resource"]);
    }

    /// Usage of the deleted resource stays in the books, and open holds can be settled.
    async fn holds_of_a_deleted_resource_can_still_be_settled(world: World) {
        world.declare("meter").await;
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let hold = world.reserve("acme").amount("meter", 5).await.expect("it is metered");
        let other = world.reserve("acme").amount("meter", 5).await.expect("it is metered");
        delete(world, "meter").await.expect("no plan limits it");
        assert_eq!(amount(&world.get(hold.name()).await.expect("it is kept"), "meter"), (5, 0));
        let settled = world.commit(hold.name()).await.expect("as reserved");
        assert_eq!(amount(settled.held(), "meter"), (5, 5));
        world.commit(other.name()).amount("meter", 2).await.expect("it was reserved");
        // The id is free again. The counter of the new resource begins at zero.
        world.resource("meter").await.expect("it is free again");
        let reply = world.record("acme").amount("meter", 1).await.expect("it is metered");
        assert_eq!(reply.figures(""), (1, 0));
    }

    async fn pages_of_resources_are_in_the_order_of_ids(world: World) {
        let mut ids: Vec<String> = (0..55).map(|number| format!("r{:02}", number * 7 % 55)).collect();
        for id in &ids {
            world.resource(id).await.expect("the resource is new");
        }
        ids.sort_unstable();
        let first = list(world, 0, "").await.expect("a page");
        assert_eq!(first.resources.len(), 50, "the default");
        for size in [1, 10, 54, 55, 1_000] {
            let (mut read, mut token) = (Vec::new(), String::new());
            loop {
                let page = list(world, size, &token).await.expect("a page");
                read.extend(page.resources.into_iter().map(|resource| resource.id));
                if page.next_page_token.is_empty() {
                    break;
                }
                token = page.next_page_token;
            }
            assert_eq!(read, ids, "pages of {size}");
        }
        list(world, 1_001, "").await.expect_err("too large").names(&["page_size"]);
        list(world, -1, "").await.expect_err("negative").names(&["page_size"]);
        list(world, 0, "garbage").await.expect_err("not a token").names(&["page_token"]);
        let plans = ListPlansRequest { page_size: 0, page_token: first.next_page_token };
        let no = done(world.admin.clone().list_plans(plans).await).expect_err("a token from elsewhere");
        no.names(&["page_token"]);
    }

    async fn the_refusal_of_a_resource_names_the_wrong_fields(world: World) {
        create(world, Some(tokens())).await.expect("the resource is new");
        let before = list(world, 0, "").await.expect("a page");
        let with = |change: fn(&mut Resource)| {
            let mut resource = Resource { id: "other".into(), ..tokens() };
            change(&mut resource);
            resource
        };
        let cases: [Case<Resource>; 6] = [
            ("resource.id", |resource| resource.id = String::new()),
            ("resource.id", |resource| resource.id = "x".repeat(129)),
            ("resource.id", |resource| resource.id = "a\nb".into()),
            ("resource.display_name", |resource| resource.display_name = "x".repeat(257)),
            ("resource.display_name", |resource| resource.display_name = "\0".into()),
            ("resource.unit", |resource| resource.unit = "x".repeat(65)),
        ];
        for (field, spoil) in cases {
            create(world, Some(with(spoil))).await.expect_err(field).names(&[field]);
        }
        create(world, None).await.expect_err("nothing").names(&["resource"]);
        for path in ["id", "create_time", "nonsense", "resource.unit"] {
            let no = update(world, tokens(), &[path]).await.expect_err(path);
            no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
            assert!(no.fields.iter().all(|field| field.starts_with("update_mask")), "{no:?}");
        }
        let unit = Resource { unit: "x".repeat(65), ..tokens() };
        update(world, unit, &["unit"]).await.expect_err("too long").names(&["resource.unit"]);
        let nobody = Resource { id: "nobody".into(), unit: "u".into(), ..Resource::default() };
        update(world, nobody, &["unit"]).await.expect_err("unknown").is(Code::NotFound, "RESOURCE_NOT_FOUND");
        delete(world, "nobody").await.expect_err("unknown").is(Code::NotFound, "RESOURCE_NOT_FOUND");
        get(world, "").await.expect_err("no id").names(&["id"]);
        assert_eq!(list(world, 0, "").await.expect("a page"), before);
    }
}
