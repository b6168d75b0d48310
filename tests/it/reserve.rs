//! Reserve holds quota of every limit that applies, or of no limit.

use tonic::Code;

use crate::harness::{v1::*, *};

both! {
    /// The reply contains the hold, its deadline and its balance.
    async fn a_reserve_counts_and_returns_its_hold(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let reply = world
            .reserve("acme")
            .tokens(100)
            .agent("planner")
            .user("ana")
            .model("m-1")
            .label("run", "7")
            .id("r-1")
            .ttl(90 * SECOND)
            .await
            .expect("there is quota");

        let held = reply.held();
        assert!(!held.name.is_empty());
        assert_eq!(held.tenant, "acme");
        assert_eq!([&held.agent, &held.user, &held.model], ["planner", "ana", "m-1"]);
        assert_eq!(state(held), ReservationState::Reserved);
        assert_eq!(
            held.amounts,
            [ReservationAmount { resource: "tokens".into(), reserved: 100, committed: 0, overrun: 0 }]
        );
        assert_eq!(millis(held.create_time.as_ref()), Some(NOON));
        assert_eq!(millis(held.expire_time.as_ref()), Some(NOON + 90 * SECOND));
        assert_eq!(held.settle_time, None);
        assert_eq!(held.on_expiry(), OnExpiry::Release);
        assert!(!held.late);
        assert_eq!(held.labels.get("run").map(String::as_str), Some("7"));
        assert_eq!(held.request_id, "r-1");

        let balance = reply.balance("day");
        assert_eq!(balance.resource, "tokens");
        assert_eq!(figures(balance), (0, 100));
        assert_eq!(
            (balance.quantity, balance.allowance, balance.remaining),
            (Some(1_000), Some(1_000), Some(900))
        );
        assert_eq!(millis(balance.window_start.as_ref()), Some(NOON - 12 * HOUR));
        assert_eq!(millis(balance.window_end.as_ref()), Some(NOON + 12 * HOUR));
        assert_eq!(balance.enforcement(), Enforcement::Hard);
        assert_eq!(balance.period(), Period::Day);
        assert!(!balance.exceeded);
        assert_eq!((&balance.agent, &balance.user, &balance.model), (&None, &None, &None));
        assert_eq!(world.figures("acme", "day").await, (0, 100));
    }

    async fn a_hold_lives_five_minutes_by_default(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let reply = world.reserve("acme").tokens(1).await.expect("there is quota");
        assert_eq!(millis(reply.held().expire_time.as_ref()), Some(NOON + 5 * MINUTE));
    }

    async fn the_last_unit_is_granted_and_the_next_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        world.reserve("acme").tokens(999).await.expect("999 of 1,000");
        world.reserve("acme").tokens(1).await.expect("the last one");
        let no = world.reserve("acme").tokens(1).await.expect_err("nothing is left");
        no.is_quota(&["day"]);
        assert_eq!(world.figures("acme", "day").await, (0, 1_000));
    }

    /// QuotaFailure has one violation with figures for each limit that refused, and no violation for the other limits.
    async fn a_refusal_names_every_limit_that_refused(world: World) {
        let limits = [
            day("tokens", 100),
            month("tokens", 150),
            lifetime("tokens", 100_000),
            day("requests", 5).named("calls"),
        ];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(40).await.expect("it is recorded");

        let asked = world.reserve("acme").tokens(120).amount("requests", 6);
        let no = asked.await.expect_err("three limits are in the way");
        no.is_quota(&["calls", "day", "month"]);
        let find = |id: &str| no.violations.iter().find(|violation| violation.quota_id == id).expect("the limit has a violation");
        let month = find("month");
        assert_eq!(month.quota_metric, "tokens");
        assert!(month.subject.contains("acme"), "{month:?}");
        assert!(!month.description.is_empty());
        assert_eq!(month.quota_dimensions["requested"], "120");
        assert_eq!(month.quota_dimensions["remaining"], "110");
        assert_eq!(month.quota_dimensions["allowance"], "150");
        assert!(month.quota_dimensions["window_end"].starts_with("2026-04-01T00:00:00"), "{month:?}");
        assert_eq!(find("day").quota_dimensions["remaining"], "60");
        assert_eq!(find("calls").quota_metric, "requests");
    }

    /// I5: a Reserve holds quota of all limits or of no limit.
    async fn a_refused_reserve_holds_nothing_on_any_limit(world: World) {
        let limits = [day("tokens", 1_000), month("tokens", 10_000), day("requests", 1).named("calls")];
        world.tenant_with("acme", &limits).await;
        world.reserve("acme").amount("requests", 1).await.expect("the only one");
        let before = world.books("acme").await;

        let asked = world.reserve("acme").tokens(10).amount("requests", 1);
        asked.await.expect_err("there are no requests left").is_quota(&["calls"]);
        assert_eq!(world.books("acme").await, before);
    }

    async fn several_resources_are_held_at_once(world: World) {
        let limits = [day("tokens", 1_000), day("requests", 10).named("calls")];
        world.tenant_with("acme", &limits).await;
        let asked = world.reserve("acme").tokens(300).amount("requests", 1);
        let reply = asked.await.expect("both fit");
        let resources: Vec<&str> = reply.held().amounts.iter().map(|amount| amount.resource.as_str()).collect();
        assert_eq!(resources, ["requests", "tokens"], "sorted by resource");
        assert_eq!(reply.figures("day"), (0, 300));
        assert_eq!(reply.figures("calls"), (0, 1));
    }

    async fn a_limit_of_zero_refuses_everything(world: World) {
        world.tenant_with("acme", &[day("tokens", 0)]).await;
        let no = world.reserve("acme").tokens(1).await.expect_err("nothing is allowed");
        no.is_quota(&["day"]);
        assert_eq!(no.retry, None, "no window will help");
    }

    async fn soft_and_observe_limits_grant_and_report_that_they_are_exceeded(world: World) {
        let limits = [day("tokens", 100).soft().named("soft"), month("tokens", 100).observe().named("observe")];
        world.tenant_with("acme", &limits).await;
        let within = world.reserve("acme").tokens(100).await.expect("it fits");
        assert!(!within.balance("soft").exceeded && !within.balance("observe").exceeded);
        let past = world.reserve("acme").tokens(50).await.expect("they let pass");
        for (limit, enforcement) in [("soft", Enforcement::Soft), ("observe", Enforcement::Observe)] {
            let balance = past.balance(limit);
            assert_eq!(figures(balance), (0, 150));
            assert!(balance.exceeded);
            assert_eq!(balance.remaining, Some(0), "never below 0");
            assert_eq!(balance.enforcement(), enforcement);
        }
    }

    /// R4.13: no resource is unlimited by accident.
    async fn a_resource_without_a_limit_is_granted_and_metered(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.declare("storage_bytes").await;
        let asked = world.reserve("acme").amount("storage_bytes", 1_000_000);
        let reply = asked.await.expect("no limit applies");
        let meter = reply.balance("");
        assert_eq!(meter.resource, "storage_bytes");
        assert_eq!(figures(meter), (0, 1_000_000));
        assert_eq!((meter.quantity, meter.allowance, meter.remaining), (None, None, None));
        assert_eq!((&meter.window_start, &meter.window_end), (&None, &None));
        world.commit(reply.name()).amount("storage_bytes", 7).await.expect("it is held");
        world.clock.advance(400 * DAY);
        assert_eq!(world.figures("acme", "").await, (7, 0), "it is for ever");
    }

    /// R4.13: no resource is unlimited by accident.
    async fn an_undeclared_resource_is_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let asked = world.reserve("acme").tokens(1).amount("tokenz", 1);
        asked.await.expect_err("a slip of the pen is not unlimited").names(&["amounts[1].resource"]);
    }

    async fn limits_of_the_same_shape_share_one_counter(world: World) {
        let limits = [day("tokens", 100), day("tokens", 60).soft().named("warn")];
        world.tenant_with("acme", &limits).await;
        let reply = world.reserve("acme").tokens(70).await.expect("the HARD one has room");
        assert_eq!(reply.figures("day"), (0, 70), "it counts once");
        assert_eq!(reply.figures("warn"), (0, 70));
        assert!(reply.balance("warn").exceeded && !reply.balance("day").exceeded);
    }

    async fn a_limit_with_a_selector_applies_only_to_the_selected_subject(world: World) {
        let limits = [
            day("tokens", 1_000),
            day("tokens", 100).agent("planner").named("planner"),
            day("tokens", 50).agent("planner").model("big").named("planner-big"),
        ];
        world.tenant_with("acme", &limits).await;
        let other = world.reserve("acme").tokens(500).agent("coder").await.expect("only the first applies");
        assert_eq!(other.balances.len(), 1);
        let planner = world.reserve("acme").tokens(60).agent("planner").await.expect("two apply");
        assert_eq!(planner.balances.len(), 2);
        let balance = planner.balance("planner");
        assert_eq!(balance.agent.as_deref(), Some("planner"));
        assert_eq!((&balance.user, &balance.model), (&None, &None));
        let no = world.reserve("acme").tokens(51).agent("planner").model("big").await;
        no.expect_err("60 + 51, and 51 of 50").is_quota(&["planner", "planner-big"]);
    }

    async fn each_value_of_a_per_dimension_has_its_own_counter(world: World) {
        let limits = [day("tokens", 100).per(&[Dimension::User]).named("each")];
        world.tenant_with("acme", &limits).await;
        for user in ["ana", "bob", ""] {
            let asked = world.reserve("acme").tokens(100).user(user).agent("any");
            let reply = asked.await.expect("a counter of one's own");
            assert_eq!(reply.balance("each").user.as_deref(), Some(user), "the empty value is a value");
            let no = world.reserve("acme").tokens(1).user(user).await.expect_err("used up");
            no.is_quota(&["each"]);
        }
        let apart: Vec<Balance> = world.usage("acme").await;
        assert_eq!(apart.len(), 3);
        assert!(apart.iter().all(|balance| figures(balance) == (0, 100)));
    }

    /// R4.9: partial grants are decided resource by resource.
    async fn a_partial_grant_is_the_smallest_remainder(world: World) {
        let limits = [
            day("tokens", 100),
            month("tokens", 70),
            lifetime("tokens", 10).soft(),
            day("requests", 5).named("calls"),
        ];
        world.tenant_with("acme", &limits).await;
        let asked = world.reserve("acme").tokens(90).amount("requests", 9).partial();
        let reply = asked.await.expect("some of both");
        assert_eq!(amount(reply.held(), "tokens"), (70, 0), "SOFT does not shrink it");
        assert_eq!(amount(reply.held(), "requests"), (5, 0), "resources are not scaled to each other");
        assert!(reply.balance("lifetime").exceeded);
    }

    /// R4.9: partial grants are decided resource by resource.
    async fn a_reserve_is_refused_if_less_than_its_minimum_remains(world: World) {
        let limits = [day("tokens", 100), day("requests", 5).named("calls")];
        world.tenant_with("acme", &limits).await;
        let before = world.books("acme").await;
        let asked = |minimum| world.reserve("acme").tokens(10).at_least("requests", 9, minimum).partial();
        asked(6).await.expect_err("5 are left").is_quota(&["calls"]);
        assert_eq!(world.books("acme").await, before);
        let reply = asked(5).await.expect("5 are left");
        assert_eq!(amount(reply.held(), "requests"), (5, 0));
        asked(0).await.expect_err("the minimum is 1 when it is not given").is_quota(&["calls"]);
    }

    /// I7: a call never changes rows of other tenants.
    async fn a_tenant_does_not_use_up_the_quota_of_another_tenant(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        world.tenant_with("globex", &[day("tokens", 100)]).await;
        world.reserve("acme").tokens(100).id("same").await.expect("acme has quota");
        world.reserve("globex").tokens(60).id("same").await.expect("so has globex, and request_ids of its own");
        assert_eq!(world.figures("acme", "day").await, (0, 100));
        assert_eq!(world.figures("globex", "day").await, (0, 60));
        assert_eq!(world.reservations("acme").await.len(), 1);
    }

    async fn an_unknown_tenant_is_not_found(world: World) {
        let no = world.reserve("nobody").tokens(1).await.expect_err("there is none");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
        assert_eq!(no.resource.expect("it says which").1, "nobody");
    }
}
