//! CreatePlan, UpdatePlan and DeletePlan: plans and their limits.

use tonic::Code;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

async fn get(world: &World, id: &str) -> Answer<Plan> {
    done(world.admin.clone().get_plan(GetPlanRequest { id: id.into() }).await)
}

async fn update(world: &World, plan: Plan, paths: &[&str]) -> Answer<Plan> {
    let request = UpdatePlanRequest { plan: Some(plan), update_mask: Some(mask(paths)) };
    done(world.admin.clone().update_plan(request).await)
}

async fn delete(world: &World, id: &str) -> Answer<()> {
    done(
        world
            .admin
            .clone()
            .delete_plan(DeletePlanRequest { id: id.into(), ..DeletePlanRequest::default() })
            .await,
    )
}

async fn list(world: &World, page_size: i32, page_token: &str) -> Answer<ListPlansResponse> {
    let request = ListPlansRequest { page_size, page_token: page_token.into() };
    done(world.admin.clone().list_plans(request).await)
}

/// Makes a limit invalid.
type Spoil = fn(Limit) -> Limit;

both! {
    async fn a_plan_is_returned_as_it_was_created(world: World) {
        world.declare("tokens").await;
        world.declare("requests").await;
        let limits = [
            day("tokens", 100_000).thresholds(&[80, 100]),
            month("tokens", 1_000_000).anchor(31).soft(),
            lifetime("requests", 0).observe().per(&[Dimension::Agent, Dimension::Model]),
            day("requests", i64::MAX).named("planner").agent("planner").user("ana").per(&[Dimension::Model]),
        ];
        let created = world.plan("free", &limits).await.expect("the plan is new");
        assert_eq!(created.limits.len(), 4);
        for (given, kept) in limits.iter().zip(&created.limits) {
            let mut wanted = given.clone();
            if wanted.enforcement() == Enforcement::Unspecified {
                wanted.enforcement = Enforcement::Hard.into();
            }
            wanted.anchor = Anchor::Limit.into();
            wanted.interval = i32::from(wanted.period() != Period::Lifetime);
            assert_eq!(*kept, wanted, "in order");
        }
        assert_eq!(millis(created.create_time.as_ref()), Some(NOON));
        assert_eq!(get(world, "free").await.expect("the plan exists"), created);
        world.restart().await;
        assert_eq!(get(world, "free").await.expect("it is kept"), created);
    }

    async fn an_update_changes_only_the_fields_of_a_plan_in_the_mask(world: World) {
        world.declare("tokens").await;
        world.plan("free", &[day("tokens", 10)]).await.expect("the plan is new");
        world.clock.advance(MINUTE);
        let change =
            Plan { id: "free".into(), display_name: "Free".into(), limits: vec![], ..Plan::default() };
        let named = update(world, change.clone(), &["display_name"]).await.expect("the plan exists");
        assert_eq!((named.display_name.as_str(), named.limits.len()), ("Free", 1));
        assert_eq!(millis(named.update_time.as_ref()), Some(NOON + MINUTE));
        let kept = update(world, Plan { display_name: String::new(), ..change.clone() }, &[]).await;
        let kept = kept.expect("nothing is at other than its zero value");
        assert_eq!((kept.display_name.as_str(), kept.limits.len()), ("Free", 1));
        let emptied = update(world, change, &["limits"]).await.expect("the plan exists");
        assert_eq!((emptied.display_name.as_str(), emptied.limits.len()), ("Free", 0));
    }

    async fn a_plan_that_a_tenant_has_is_not_deleted(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        let no = delete(world, "acme").await.expect_err("it is in use");
        no.is(Code::FailedPrecondition, "PLAN_IN_USE");
        assert!(no.metadata.values().any(|value| value == "acme"), "it says who: {no:?}");
        world.reserve("acme").tokens(11).await.expect_err("it is still there").is_quota(&["day"]);
        world.plan("other", &[]).await.expect("the plan is new");
        world.set_plan("acme", "other").await;
        delete(world, "acme").await.expect("nobody has it");
        get(world, "acme").await.expect_err("it is gone").is(Code::NotFound, "PLAN_NOT_FOUND");
    }

    async fn a_second_plan_with_the_same_id_is_refused(world: World) {
        world.plan("free", &[]).await.expect("the plan is new");
        world.plan("free", &[]).await.expect_err("it is taken").is(Code::AlreadyExists, "NAME_TAKEN");
        delete(world, "free").await.expect("nobody has it");
        world.plan("free", &[]).await.expect("it is free again");
    }

    async fn pages_of_plans_are_in_the_order_of_ids(world: World) {
        let ids: Vec<String> = (0..12).map(|number| format!("p{number:02}")).collect();
        for id in ids.iter().rev() {
            world.plan(id, &[]).await.expect("the plan is new");
        }
        for size in [1, 5, 12, 13] {
            let (mut read, mut token) = (Vec::new(), String::new());
            loop {
                let page = list(world, size, &token).await.expect("a page");
                read.extend(page.plans.into_iter().map(|plan| plan.id));
                if page.next_page_token.is_empty() {
                    break;
                }
                token = page.next_page_token;
            }
            assert_eq!(read, ids, "pages of {size}");
        }
        list(world, 1_001, "").await.expect_err("too large").names(&["page_size"]);
        list(world, 0, "garbage").await.expect_err("not a token").names(&["page_token"]);
    }

    async fn the_refusal_of_a_plan_names_the_wrong_field_of_a_limit(world: World) {
        world.declare("tokens").await;
        world.plan("free", &[day("tokens", 10)]).await.expect("the plan is new");
        let before = get(world, "free").await.expect("the plan exists");
        let cases: [(&str, Spoil); 34] = [
            ("id", |limit| limit.named("")),
            ("id", |limit| limit.named(&"x".repeat(129))),
            ("id", |limit| limit.named("\n")),
            ("resource", |limit| Limit { resource: String::new(), ..limit }),
            ("resource", |limit| Limit { resource: "undeclared".into(), ..limit }),
            ("quantity", |limit| Limit { quantity: -1, ..limit }),
            ("quantity", |limit| Limit { quantity: i64::MIN, ..limit }),
            ("period", |limit| Limit { period: 0, ..limit }),
            ("period", |limit| Limit { period: 9, ..limit }),
            ("period", |limit| Limit { period: -7, ..limit }),
            ("interval", |limit| limit.interval(-1)),
            ("interval", |limit| limit.interval(1_001)),
            ("anchor", |limit| Limit { anchor: 3, ..limit }),
            ("anchor_minute", |limit| Limit { anchor_minute: 1_440, ..limit }),
            ("anchor_weekday", |limit| Limit { anchor_weekday: 1, ..limit }),
            ("anchor_month", |limit| Limit { anchor_month: 1, ..limit }),
            ("origin_date", |limit| Limit { origin_date: "2026-13-01".into(), ..limit.interval(2) }),
            ("anchor_day", |limit| limit.anchor(1)),
            ("anchor_day", |limit| Limit { period: Period::Month.into(), ..limit }.anchor(32)),
            ("anchor_day", |limit| Limit { period: Period::Month.into(), ..limit }.anchor(-1)),
            ("agent", |limit| limit.agent(&"x".repeat(129))),
            ("user", |limit| limit.user("\0")),
            ("model", |limit| limit.model("\u{9f}")),
            ("per[0]", |limit| Limit { per: vec![0], ..limit }),
            ("per[0]", |limit| Limit { per: vec![9], ..limit }),
            ("per[1]", |limit| limit.per(&[Dimension::User, Dimension::User])),
            ("per[0]", |limit| limit.user("ana").per(&[Dimension::User])),
            ("enforcement", |limit| Limit { enforcement: 9, ..limit }),
            ("thresholds[0]", |limit| limit.thresholds(&[0])),
            ("thresholds[0]", |limit| limit.thresholds(&[-1])),
            ("thresholds[0]", |limit| limit.thresholds(&[1_001])),
            ("thresholds[1]", |limit| limit.thresholds(&[80, 1_001])),
            ("thresholds[1]", |limit| limit.thresholds(&[80, 80])),
            ("thresholds", |limit| limit.thresholds(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])),
        ];
        for (number, (field, spoil)) in cases.into_iter().enumerate() {
            let limits = [month("tokens", 1), spoil(day("tokens", 10))];
            let wanted = format!("plan.limits[1].{field}");
            let no = world.plan("bad", &limits).await.expect_err(field);
            assert!(no.fields.contains(&wanted), "case {number}, {wanted}: {no:?}");
            no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
            let no = world.change_plan("free", &limits).await.expect_err(field);
            assert!(no.fields.contains(&wanted), "case {number}, {wanted}: {no:?}");
        }
        let twins = [day("tokens", 1), day("tokens", 2)];
        world.plan("bad", &twins).await.expect_err("one id twice").names(&["plan.limits[1].id"]);
        let many: Vec<Limit> =
            (0..65).map(|number| day("tokens", number).named(&format!("l{number}"))).collect();
        world.plan("bad", &many).await.expect_err("65 limits").names(&["plan.limits"]);
        world.plan("full", &many[1..]).await.expect("64 limits");
        assert_eq!(get(world, "free").await.expect("the plan exists"), before);
        get(world, "bad").await.expect_err("never made").is(Code::NotFound, "PLAN_NOT_FOUND");
    }

    async fn the_refusal_of_a_plan_names_the_wrong_fields(world: World) {
        world.plan("free", &[]).await.expect("the plan is new");
        for id in [String::new(), "x".repeat(129), "a\nb".into()] {
            world.plan(&id, &[]).await.expect_err("a bad id").names(&["plan.id"]);
        }
        let request = CreatePlanRequest { plan: None };
        let no = done(world.admin.clone().create_plan(request).await).expect_err("nothing");
        no.names(&["plan"]);
        let long = Plan { id: "free".into(), display_name: "x".repeat(257), ..Plan::default() };
        let no = update(world, long, &["display_name"]).await.expect_err("too long");
        no.names(&["plan.display_name"]);
        let plan = Plan { id: "free".into(), display_name: "n".into(), ..Plan::default() };
        for path in ["id", "update_time", "nonsense", "limits.quantity"] {
            let no = update(world, plan.clone(), &[path]).await.expect_err(path);
            no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
            assert!(no.fields.iter().all(|field| field.starts_with("update_mask")), "{no:?}");
        }
        let nobody = Plan { id: "nobody".into(), ..plan };
        let no = update(world, nobody, &["display_name"]).await.expect_err("unknown");
        no.is(Code::NotFound, "PLAN_NOT_FOUND");
        delete(world, "nobody").await.expect_err("unknown").is(Code::NotFound, "PLAN_NOT_FOUND");
        get(world, "").await.expect_err("no id").names(&["id"]);
    }
}
