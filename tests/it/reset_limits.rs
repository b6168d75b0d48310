//! ResetUsage resets only the counters that the request names, and what counts for ever only if it is named (R4.41).

use tonic::Code;

use crate::harness::{call::Answer, clients::done, v1::*, *};

async fn reset(world: &Clients, change: impl FnOnce(&mut ResetUsageRequest)) -> Answer<ResetUsageResponse> {
    let mut request = ResetUsageRequest {
        tenant: "acme".into(),
        reason: "credit note 7".into(),
        operator: "ops@example.com".into(),
        ..ResetUsageRequest::default()
    };
    change(&mut request);
    done(world.admin.clone().reset_usage(request).await)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.into()).collect()
}

/// Returns limit, agent and adjusted units of each balance, sorted.
fn adjusted(reply: &ResetUsageResponse) -> Vec<(&str, Option<&str>, i64)> {
    let rows = reply.balances.iter().zip(&reply.adjusted);
    let mut rows: Vec<_> =
        rows.map(|(balance, &by)| (balance.limit_id.as_str(), balance.agent.as_deref(), by)).collect();
    rows.sort_unstable();
    rows
}

both! {
    /// In one round the server remembers the counters. In the other round it loads them after a restart.
    async fn only_the_named_limits_are_reset(world: World) {
        let limits = [
            day("tokens", 100),
            month("tokens", 1_000),
            lifetime("tokens", 10_000),
            day("tokens", 100).per(&[Dimension::Agent]).named("each"),
            day("requests", 100).named("calls"),
        ];
        world.tenant_with("acme", &limits).await;
        for restarts in [false, true] {
            for agent in ["a", "b"] {
                let record = world.record("acme").tokens(10).amount("requests", 1).agent(agent);
                record.await.expect("it is recorded");
            }
            if restarts {
                world.restart().await;
            }
            let reply = reset(world, |request| request.limit_ids = names(&["day"])).await.expect("the limit exists");
            assert_eq!(adjusted(&reply), [("day", None, -20)], "only today's");
            let reply = reset(world, |request| {
                (request.limit_ids, request.agent) = (names(&["each", "month", "each"]), Some("a".into()));
            });
            let reply = reply.await.expect("the limits exist");
            assert_eq!(adjusted(&reply), [("each", Some("a"), -10)], "the month counts all agents together");
            let reply = reset(world, |request| {
                (request.limit_ids, request.resources) = (names(&["calls", "each"]), names(&["requests"]));
            });
            assert_eq!(adjusted(&reply.await.expect("the limits exist")), [("calls", None, -2)]);
            let reply = reset(world, |request| request.limit_ids = names(&["each", "lifetime", "month"])).await;
            let reply = reply.expect("the limits exist");
            assert_eq!(adjusted(&reply), [("each", Some("b"), -10), ("lifetime", None, -20), ("month", None, -20)]);
        }
    }

    /// The limits that share a counter are all reported, since the counter is one.
    async fn a_counter_is_reset_for_every_limit_that_reads_it(world: World) {
        let limits = [
            day("tokens", 100),
            day("tokens", 60).soft().named("warn"),
            day("tokens", 9).user("ana").named("ana"),
            day("tokens", 50).per(&[Dimension::User]).named("each"),
        ];
        world.tenant_with("acme", &limits).await;
        for user in ["ana", "bob"] {
            world.record("acme").tokens(10).user(user).await.expect("it is recorded");
        }
        let reply = reset(world, |request| request.limit_ids = names(&["warn"])).await.expect("the limit exists");
        assert_eq!(adjusted(&reply), [("day", None, -20), ("warn", None, -20)]);
        let reply = reset(world, |request| request.limit_ids = names(&["ana"])).await.expect("the limit exists");
        assert_eq!(adjusted(&reply), [("ana", None, -10), ("each", None, -10)], "not the counter of bob");
    }

    async fn what_counts_for_ever_is_reset_only_if_it_is_named(world: World) {
        let limits = [day("tokens", 100), lifetime("tokens", 1_000)];
        world.tenant_with("acme", &limits).await;
        world.declare("meter").await;
        world.declare("other").await;
        world.record("acme").tokens(10).amount("meter", 7).amount("other", 5).await.expect("it is recorded");
        let cases: [(&[&str], &[&str], &[(&str, Option<&str>, i64)]); 7] = [
            (&[], &[], &[("day", None, -10)]),
            (&["tokens"], &[], &[]),
            (&["other", "tokens"], &[], &[("", None, -5)]),
            (&["meter"], &["lifetime"], &[]),
            (&[], &["lifetime"], &[("lifetime", None, -10)]),
            (&["meter"], &[], &[("", None, -7)]),
            (&[], &["lifetime", "day"], &[]),
        ];
        for (resources, limits, want) in cases {
            let reply = reset(world, |request| {
                (request.resources, request.limit_ids) = (names(resources), names(limits));
            });
            assert_eq!(adjusted(&reply.await.expect("they exist")), want, "{resources:?} and {limits:?}");
        }
        world.record("acme").amount("meter", -5).await.expect("clamped at zero");
    }

    /// A limit that the plan no longer has cannot be named, and its counter for ever is not reset by chance.
    async fn a_limit_of_another_plan_is_unknown(world: World) {
        let both = [day("tokens", 100), lifetime("tokens", 1_000)];
        world.tenant_with("acme", &both).await;
        world.record("acme").tokens(10).await.expect("it is recorded");
        world.change_plan("acme", &both[..1]).await.expect("the plan exists");
        let no = reset(world, |request| request.limit_ids = names(&["day", "lifetime"])).await;
        no.expect_err("it is gone").names(&["limit_ids[1]"]);
        assert_eq!(world.figures("acme", "day").await, (10, 0), "nothing is reset");
        let reply = reset(world, |_| ()).await.expect("the tenant exists");
        assert_eq!(adjusted(&reply), [("day", None, -10)]);
        world.verify().await;
    }

    async fn a_retry_is_answered_even_if_the_limit_is_gone(world: World) {
        let both = [day("tokens", 100), month("tokens", 1_000)];
        world.tenant_with("acme", &both).await;
        world.record("acme").tokens(10).await.expect("it is recorded");
        let keyed = |limits: &'static [&'static str]| {
            move |request: &mut ResetUsageRequest| {
                (request.request_id, request.limit_ids) = ("x".into(), names(limits));
            }
        };
        let first = reset(world, keyed(&["day", "month"])).await.expect("the limits exist");
        assert_eq!(first.adjusted, [-10, -10]);
        world.change_plan("acme", &both[1..]).await.expect("the plan exists");
        let again = reset(world, keyed(&["month", "day", "month"])).await.expect("a retry: the limits are a set");
        assert_eq!(again.adjusted, first.adjusted);
        for other in [&["day"][..], &[]] {
            let no = reset(world, keyed(other)).await.expect_err("another payload");
            no.is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        }
    }
}
