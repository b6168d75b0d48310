//! What the schema m20261126_000014 was the first to have stays after a migration: counters of labels, anchors of
//! tenants, histories of zones and anchors, plans that refuse what no limit covers, zeros, and resets of single limits.

use tonic::Code;

use super::books::Books;
use crate::harness::{call::Call, clients::done, v1::*, *};

/// The tenant whose plan has limits of labels, and anchors of the tenant.
const PIPER: &str = "piper";

/// The tenant whose plan refuses what no limit covers, and whose limit `month` got another anchor.
const TYRELL: &str = "tyrell";

async fn world(kind: Kind) -> World {
    Books::of("m20261126_000014").world(kind).await
}

/// Makes a Record of the team `search` in a run.
fn record(world: &World, user: &str, run: &str, tokens: i64) -> Call<RecordRequest> {
    world.record(PIPER).user(user).label("team", "search").label("run", run).tokens(tokens)
}

/// Makes the Reserve of the hold that the earlier server left open.
fn held(world: &World, run: &str) -> Call<ReserveRequest> {
    let call = world.reserve(PIPER).user("u0").label("team", "search").label("run", run);
    call.tokens(60).ttl(2 * HOUR).id("labelled")
}

/// Makes the first Reserve of an amount of 0 again.
fn zero(world: &World, tokens: i64) -> Call<ReserveRequest> {
    let call = world.reserve(TYRELL).agent("batch").ttl(2 * HOUR).id("zero");
    call.amount("requests", 0).tokens(tokens)
}

/// Returns the window of a limit, of which the tenant has one balance.
async fn window_of(world: &World, tenant: &str, limit: &str) -> (i64, i64) {
    window(world.usage(tenant).await.balance(limit))
}

async fn plan(world: &World, id: &str) -> Plan {
    done(world.admin.clone().get_plan(GetPlanRequest { id: id.into() }).await).expect("the plan is there")
}

on_both! {
    async fn counters_of_labels_in_a_migrated_database_count_on(kind: Kind) {
        let world = world(kind).await;
        let limits = plan(&world, "labelled").await.limits;
        let crew = limits.iter().find(|limit| limit.id == "crew").expect("the plan has it");
        assert_eq!((crew.labels["team"].as_str(), crew.per_labels.as_slice()), ("search", &["run".to_owned()][..]));
        let reply = record(&world, "u0", "a", 1).await.expect("it is recorded");
        let expected = [("search", 566, 60), ("run", 6, 0), ("crew", 406, 0), ("sprint", 575, 60), ("billing", 575, 60)];
        for (limit, committed, reserved) in expected {
            assert_eq!(reply.figures(limit), (committed, reserved), "{limit}");
        }
        // Of 500 tokens the run has spent 128 and holds 60.
        let run = |tokens| world.reserve(PIPER).label("run", "b").tokens(tokens);
        run(313).await.expect_err("312 are left").is_quota(&["run"]);
        let reply = run(312).await.expect("they are left");
        assert_eq!(reply.figures("run"), (128, 372));
        assert_eq!(reply.balance("run").refused, 2);
        world.end().await;
    }

    async fn holds_with_labels_in_a_migrated_database_are_settled_in_their_counters(kind: Kind) {
        let world = world(kind).await;
        let hold = held(&world, "b").await.expect("the first reply");
        assert_eq!(hold.figures("crew"), (0, 60));
        let no = held(&world, "a").await.expect_err("another payload");
        no.is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        let longer = world.extend(hold.name()).tokens(5).await.expect("the hold is open");
        assert_eq!((longer.figures("run"), longer.figures("crew")), ((128, 65), (0, 65)));
        let settled = world.commit(hold.name()).tokens(45).await.expect("the hold is open");
        let expected = [("search", 610), ("run", 173), ("crew", 45), ("sprint", 619), ("billing", 619)];
        for (limit, committed) in expected {
            assert_eq!(settled.figures(limit), (committed, 0), "{limit}");
        }
        let late = world.release("").with(|request| {
            (request.tenant, request.reserve_request_id) = (PIPER.into(), "spent".into());
        });
        let late = late.await.expect("the charge of an expired hold is reversed");
        assert_eq!((late.figures("run"), late.figures("search")), ((0, 0), (570, 0)));
        world.end().await;
    }

    async fn records_and_resets_in_a_migrated_database_keep_their_request_ids(kind: Kind) {
        let world = world(kind).await;
        let again = record(&world, "u0", "a", 400).id("named").await.expect("the first reply");
        assert_eq!(again.applied, [400; 5]);
        assert_eq!(again.figures("run"), (5, 0), "it is not counted twice");
        let no = record(&world, "u0", "b", 400).id("named").await.expect_err("another payload");
        no.is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        let mut request = ResetUsageRequest {
            tenant: PIPER.into(),
            limit_ids: vec!["run".into()],
            labels: [("run".to_owned(), "a".to_owned())].into(),
            reason: "run again".into(),
            operator: "kim".into(),
            request_id: "rerun".into(),
            ..ResetUsageRequest::default()
        };
        let again = done(world.admin.clone().reset_usage(request.clone()).await).expect("the first reply");
        assert_eq!((again.adjusted.as_slice(), again.balances.figures("run")), (&[-430][..], (5, 0)));
        request.request_id.clear();
        let reset = done(world.admin.clone().reset_usage(request).await).expect("a new reset");
        assert_eq!((reset.adjusted.as_slice(), reset.balances.figures("run")), (&[-5][..], (0, 0)));
        // The reset subtracted these tokens from the counter of the run, so the run stays at zero.
        let amended = world.amend("").tokens(390).with(|request| {
            (request.tenant, request.reserve_request_id) = (PIPER.into(), "named".into());
        });
        let amended = amended.await.expect("it was charged");
        assert_eq!((amended.figures("run"), amended.figures("crew")), ((0, 0), (395, 0)));
        world.end().await;
    }

    async fn windows_of_a_migrated_database_follow_their_old_anchors_and_zones(kind: Kind) {
        let world = world(kind).await;
        let fortnight = (at("2026-11-25T08:00:00Z"), at("2026-12-09T08:00:00Z"));
        assert_eq!(window_of(&world, PIPER, "sprint").await, fortnight, "from Wednesday at nine in Berlin");
        let billed = (at("2026-10-31T10:30:00Z"), at("2026-11-30T10:30:00Z"));
        assert_eq!(window_of(&world, PIPER, "billing").await, billed, "the subscription began on a 31st");
        let day = (at("2026-11-26T05:00:00Z"), at("2026-11-27T05:00:00Z"));
        assert_eq!(window_of(&world, "cyberdyne", "day").await, day, "the day of the old zone runs to its end");
        let month = (at("2026-10-31T23:00:00Z"), at("2026-11-30T23:00:00Z"));
        assert_eq!(window_of(&world, TYRELL, "month").await, month, "the month of the old anchor runs to its end");
        world.clock.set(day.1);
        let reply = world.record("cyberdyne").tokens(1).await.expect("it is recorded");
        // Tokyo's next midnight comes 10 hours later, which is less than half a day.
        assert_eq!(window(reply.balance("day")), (day.1, at("2026-11-28T15:00:00Z")));
        assert_eq!((reply.figures("day"), reply.figures("month")), ((1, 0), (1_201, 0)));
        world.clock.set(month.1);
        let reply = world.record(TYRELL).tokens(1).await.expect("it is recorded");
        // The next 15th comes 14 days later, which is less than half a month.
        assert_eq!(window(reply.balance("month")), (month.1, at("2027-01-14T23:00:00Z")));
        world.record(PIPER).tokens(1).await.expect("it is recorded");
        assert_eq!(window_of(&world, PIPER, "billing").await, (billed.1, at("2026-12-31T10:30:00Z")));
        world.end().await;
    }

    async fn a_migrated_plan_still_refuses_what_no_limit_covers(kind: Kind) {
        let world = world(kind).await;
        assert_eq!(plan(&world, "closed").await.uncovered(), Uncovered::Refuse);
        assert_eq!(plan(&world, "free").await.uncovered(), Uncovered::Meter);
        let calls = |quantity| world.reserve(TYRELL).amount("requests", quantity);
        calls(1).await.expect_err("no limit covers it").is_quota(&[""]);
        calls(0).await.expect("zero needs nothing");
        calls(1).agent("batch").await.expect_err("the quantity is zero").is_quota(&["batch"]);
        let again = zero(&world, 20).await.expect("the first reply");
        assert_eq!((amount(again.held(), "requests"), amount(again.held(), "tokens")), ((0, 0), (20, 0)));
        assert_eq!(again.figures("day"), (370, 20), "it is not held twice");
        zero(&world, 21).await.expect_err("another payload").is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        let settled = world.commit(again.name()).tokens(20).await.expect("the hold is open");
        assert_eq!((settled.figures("day"), settled.figures("batch")), ((390, 0), (0, 0)));
        let nothing = world.record(TYRELL).tokens(0).id("none").await.expect("the first reply");
        assert_eq!(nothing.applied, [0, 0]);
        let counted = world.record(TYRELL).amount("requests", 1).await.expect("usage is never refused");
        assert_eq!(counted.figures(""), (7, 0));
        world.end().await;
    }
}
