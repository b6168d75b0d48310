//! A plan decides what happens to resources that no limit covers: a meter counts them, or they are refused (R4.42).

use tonic::Code;

use crate::harness::{
    call::Answer,
    clients::{done, mask},
    v1::*,
    *,
};

async fn update(world: &Clients, uncovered: i32, paths: &[&str]) -> Answer<Plan> {
    let plan = Plan { id: "acme".into(), uncovered, ..Plan::default() };
    let request = UpdatePlanRequest { plan: Some(plan), update_mask: Some(mask(paths)) };
    done(world.admin.clone().update_plan(request).await)
}

async fn set(world: &Clients, uncovered: Uncovered) {
    let plan = update(world, uncovered.into(), &["uncovered"]).await.expect("the plan exists");
    assert_eq!(plan.uncovered(), uncovered);
}

/// Makes a tenant whose plan limits tokens of all agents and requests of the planner, and refuses the rest.
async fn refusing(world: &Clients) {
    let limits = [day("tokens", 100), day("requests", 5).agent("planner").named("calls")];
    world.tenant_with("acme", &limits).await;
    world.declare("images").await;
    set(world, Uncovered::Refuse).await;
}

both! {
    async fn a_resource_that_no_limit_covers_is_refused(world: World) {
        refusing(world).await;
        let before = world.books("acme").await;
        let no = world.reserve("acme").amount("images", 3).await.expect_err("no limit covers it");
        no.is_quota(&[""]);
        assert_eq!(no.retry, None, "waiting never helps");
        let violation = &no.violations[0];
        assert_eq!((violation.quota_metric.as_str(), violation.quota_dimensions["requested"].as_str()), ("images", "3"));
        let description = &violation.description;
        assert!(description.contains("no limit of the plan covers") && description.contains("images"), "{violation:?}");
        assert!(no.message.contains("no limit of the plan covers"), "{no:?}");
        let partial = world.reserve("acme").amount("images", 3).partial().await;
        partial.expect_err("not in part either").is_quota(&[""]);
        assert_eq!(world.books("acme").await, before);
        let events = world.events_of("acme").await;
        assert!(events.iter().all(|event| event.kind() != EventKind::ReserveRefused), "no limit refused: {events:?}");
    }

    /// The limit of another agent does not cover this call.
    async fn a_limit_covers_only_the_subjects_to_which_it_applies(world: World) {
        refusing(world).await;
        world.reserve("acme").amount("requests", 1).agent("planner").await.expect("its limit covers it");
        let other = world.reserve("acme").amount("requests", 1).agent("coder").await;
        other.expect_err("no limit covers it").is_quota(&[""]);
    }

    /// I5: all or nothing. A limit that refuses as well is named, too.
    async fn other_resources_are_refused_with_an_uncovered_one(world: World) {
        refusing(world).await;
        let before = world.books("acme").await;
        let both = |tokens| world.reserve("acme").tokens(tokens).amount("images", 1);
        both(1).await.expect_err("no limit covers images").is_quota(&[""]);
        let no = both(101).await.expect_err("two reasons");
        no.is_quota(&["", "day"]);
        assert_eq!(no.retry, None);
        world.record("acme").tokens(60).await.expect("it is recorded");
        assert_eq!(both(50).await.expect_err("two reasons").retry, None, "a new day gives no limit");
        let waiting = world.reserve("acme").tokens(50).amount("images", 0).await.expect_err("40 are left");
        assert!(waiting.is_quota(&["day"]).retry.is_some());
        world.record("acme").tokens(-60).await.expect("it gives back");
        assert_eq!(world.figures("acme", "day").await, (0, 0));
        assert_eq!(world.reservations("acme").await.len(), before.1.len() + 2, "only the Records");
    }

    /// R4.40: zero needs nothing.
    async fn a_quantity_of_zero_needs_no_limit(world: World) {
        refusing(world).await;
        let reply = world.reserve("acme").tokens(10).amount("images", 0).await.expect("nothing of it is needed");
        assert_eq!((reply.figures("day"), reply.figures("")), ((0, 10), (0, 0)));
        world.extend(reply.name()).amount("images", 0).await.expect("nothing of it is needed");
        let check = world.check("acme").amount("images", 0).await.expect("an answer");
        assert!(check.allowed && check.verdicts.is_empty(), "{check:?}");
    }

    async fn a_check_says_that_no_limit_covers_the_resource(world: World) {
        refusing(world).await;
        let reply = world.check("acme").tokens(10).amount("images", 3).await.expect("an answer");
        assert!(!reply.allowed && !reply.suspended);
        assert_eq!((reply.granted.as_slice(), reply.retry_delay), (&[][..], None));
        let find = |resource: &str| {
            let of = |verdict: &&Verdict| verdict.balance.as_ref().is_some_and(|balance| balance.resource == resource);
            reply.verdicts.iter().find(of).expect("it has a verdict")
        };
        assert_eq!(find("tokens").outcome(), verdict::Outcome::Pass);
        let refused = find("images");
        assert_eq!((refused.outcome(), refused.requested), (verdict::Outcome::Refuse, 3));
        assert!(refused.reason.contains("no limit of the plan covers \"images\""), "{refused:?}");
        let balance = refused.balance.as_ref().expect("every verdict has its balance");
        assert_eq!((balance.limit_id.as_str(), balance.allowance), ("", None));
        assert_eq!(reply.verdicts.len(), 2);
    }

    /// Usage is never refused. The hold was made while the plan metered, and can still be settled.
    async fn usage_that_no_limit_covers_is_still_recorded_and_committed(world: World) {
        refusing(world).await;
        set(world, Uncovered::Meter).await;
        let old = world.reserve("acme").amount("images", 5).await.expect("it is metered").name().to_owned();
        set(world, Uncovered::Refuse).await;
        let reply = world.record("acme").amount("images", 7).await.expect("it is always recorded");
        assert_eq!(reply.figures(""), (7, 5));
        let hold = world.reserve("acme").tokens(10).await.expect("a limit covers it");
        let no = world.extend(hold.name()).amount("images", 1).await.expect_err("no limit covers it");
        assert_eq!(no.is_quota(&[""]).retry, None);
        world.extend(&old).amount("images", 1).await.expect_err("the hold has a meter only").is_quota(&[""]);
        world.extend(&old).ttl(HOUR).await.expect("more time needs no limit");
        let reply = world.commit(hold.name()).tokens(10).amount("images", 2).await.expect("it is held");
        assert_eq!((reply.figures("day"), reply.figures("")), ((10, 0), (9, 5)));
        world.commit(&old).amount("images", 6).await.expect("it is held");
        assert_eq!(world.usage("acme").await.figures(""), (15, 0));
    }

    /// A plan meters unless it says otherwise. A change applies at once, also after a restart.
    async fn a_plan_keeps_what_it_says_about_uncovered_resources(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.declare("images").await;
        let get = async |world: &Clients| {
            let request = GetPlanRequest { id: "acme".into() };
            done(world.admin.clone().get_plan(request).await).expect("the plan exists")
        };
        let first = get(world).await;
        assert_eq!(first.uncovered(), Uncovered::Meter, "the default");
        world.reserve("acme").amount("images", 1).await.expect("it is metered");
        world.clock.advance(MINUTE);
        assert_eq!(update(world, 0, &[]).await.expect("nothing is given"), first);
        assert_eq!(update(world, 1, &[]).await.expect("nothing changes"), first);
        set(world, Uncovered::Refuse).await;
        assert_eq!(get(world).await.limits, first.limits, "the limits stay");
        for restarts in [false, true] {
            if restarts {
                world.restart().await;
            }
            world.reserve("acme").amount("images", 1).await.expect_err("no limit covers it").is_quota(&[""]);
        }
        world.change_plan("acme", &[day("tokens", 100), day("images", 1).named("images")]).await.expect("there");
        assert_eq!(get(world).await.uncovered(), Uncovered::Refuse, "an update of the limits does not change it");
        world.reserve("acme").amount("images", 1).await.expect("a limit covers it");
        world.reserve("acme").amount("images", 1).await.expect_err("1 of 1 is held").is_quota(&["images"]);
        world.change_plan("acme", &[]).await.expect("the plan exists");
        let again = update(world, 0, &["uncovered"]).await.expect("the plan exists");
        assert_eq!(again.uncovered(), Uncovered::Meter, "unset means METER");
        world.reserve("acme").amount("images", 1).await.expect("it is metered");
        let no = update(world, 3, &["uncovered"]).await.expect_err("there is no such value");
        no.names(&["plan.uncovered"]);
        let plan = Plan { id: "strict".into(), uncovered: Uncovered::Refuse.into(), ..Plan::default() };
        let request = CreatePlanRequest { plan: Some(plan) };
        let strict = done(world.admin.clone().create_plan(request).await).expect("the plan is new");
        assert_eq!(strict.uncovered(), Uncovered::Refuse);
        world.tenant("globex", "strict", "").await.expect("the tenant is new");
        let no = world.reserve("globex").tokens(1).await.expect_err("a plan without limits covers nothing");
        no.is(Code::ResourceExhausted, "QUOTA_EXCEEDED");
    }
}
