//! What is legal and looks wrong is applied, and the reply warns of it.

use crate::harness::{clients::done, v1::*, *};

fn one(warnings: &[String]) -> &str {
    match warnings {
        [only] => only,
        other => panic!("not one warning: {other:?}"),
    }
}

both! {
    async fn a_limit_of_zero_and_usage_above_a_new_limit_are_reported(world: World) {
        world.declare("tokens").await;
        let plan = world.plan("acme", &[day("tokens", 100), month("tokens", 0).named("none")]).await.expect("legal");
        assert!(one(&plan.warnings).contains("limits[1]: limit \"none\" is 0"), "{plan:?}");
        let plan = world.change_plan("acme", &[day("tokens", 100)]).await.expect("legal");
        assert!(plan.warnings.is_empty());
        for tenant in ["acme", "globex"] {
            world.tenant(tenant, "acme", "").await.expect("it is new");
        }
        world.record("acme").tokens(80).await.expect("it is recorded");
        let plan = world.change_plan("acme", &[day("tokens", 70)]).await.expect("legal");
        let warning = one(&plan.warnings);
        assert!(warning.contains("tenant \"acme\": limit \"day\" is exceeded: 80 of 70"), "{warning}");
        world.reserve("acme").tokens(1).await.expect_err("80 of 70 are used").is_quota(&["day"]);
        let soft = world.change_plan("acme", &[day("tokens", 70).soft()]).await.expect("legal");
        assert!(soft.warnings.is_empty(), "SOFT refuses nothing");
        let got = world.admin.clone().get_plan(GetPlanRequest { id: "acme".into() }).await;
        assert!(done::<Plan>(got).expect("it is there").warnings.is_empty());
    }

    async fn usage_above_a_limit_of_another_plan_is_reported(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.plan("small", &[day("tokens", 10), month("tokens", 10).per(&[Dimension::User])]).await.expect("it is new");
        world.record("acme").tokens(80).user("u").await.expect("it is recorded");
        let tenant = Tenant { id: "acme".into(), plan: "small".into(), ..Tenant::default() };
        let changed = world.change_tenant(tenant, &["plan"]).await.expect("legal");
        assert!(one(&changed.warnings).contains("limit \"day\" is exceeded: 80 of 10"), "{changed:?}");
    }

    async fn overrides_without_effect_and_below_the_usage_are_reported(world: World) {
        world.tenant_with("acme", &[day("tokens", 100).per(&[Dimension::User])]).await;
        world.record("acme").tokens(80).user("u").await.expect("it is recorded");
        let create = async |made: Override| {
            let request = CreateOverrideRequest { r#override: Some(made) };
            done::<Override>(world.admin.clone().create_override(request).await).expect("legal").warnings
        };
        let made = |id: &str, limit: &str, quantity: i64| Override {
            tenant: "acme".into(),
            id: id.into(),
            limit_id: limit.into(),
            quantity: Some(quantity),
            ..Override::default()
        };
        assert!(one(&create(made("a", "month", 1)).await).contains("no effect"));
        let low = create(Override { user: Some("u".into()), ..made("b", "day", 50) }).await;
        assert!(one(&low).contains("limit \"day\" of user \"u\" is exceeded: 80 of 50"), "{low:?}");
        assert!(create(Override { user: Some("v".into()), ..made("c", "day", 50) }).await.is_empty());
        let zero = create(Override { user: Some("v".into()), ..made("d", "day", 0) }).await;
        assert!(one(&zero).contains("limit \"day\" is 0"), "{zero:?}");
    }
}
