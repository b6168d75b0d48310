//! Databases of earlier versions are migrated, verified and served.
//!
//! `tests/fixtures` has one folder per earlier schema, named after its last migration: `books.db`, a SQLite file, and
//! `books.sql`, a dump of PostgreSQL. A server of that version filled both with the same calls.

use tonic::Code;

use crate::harness::{clients::done, v1::*, *};

/// The databases of one earlier schema, and what their server reported last.
struct Books {
    /// The name of the schema's last migration.
    schema: &'static str,
    /// The instant at which the usage was read, in milliseconds since 1970-01-01 UTC.
    read_at: i64,
    /// All balances of all tenants, sorted.
    usage: &'static [Line],
    /// For some tenants: limits, and the tokens that each limit has counted after one more token is recorded.
    one_more: &'static [(&'static str, &'static [(&'static str, i64)])],
    /// Tenants with the plan `pro`, which has one limit. The plan `free` has the same limit, and others.
    pro: &'static [&'static str],
    /// The number of events in the log.
    events: i64,
    /// All webhooks with their deliveries.
    hooks: &'static [Hook],
    /// The answer if an Extend is repeated: the figures of the limit `day`, or the reason of the refusal.
    extended_again: Result<(i64, i64), &'static str>,
    /// Resets with a request_id.
    resets: &'static [Reset],
}

/// A balance that the earlier server reported: tenant, limit, agent, user, committed, reserved and refused.
type Line = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, i64, i64, i64);

/// A webhook: its id, its state, and its deliveries. Deliveries that follow each other and have the same state are one
/// entry: the places of the first and the last event, and the state.
type Hook = (&'static str, WebhookState, &'static [(i64, i64, DeliveryState)]);

/// A ResetUsage of a tenant, whose usage was not zero afterwards.
struct Reset {
    tenant: &'static str,
    request_id: &'static str,
    /// The figures `adjusted` of the reply.
    adjusted: &'static [i64],
    /// The request_id of a hold whose charge the reset subtracted.
    forgiven: &'static str,
    /// Units that the limit `day` has counted since the reset.
    day: i64,
}

/// All earlier schemas, from the oldest on.
const SCHEMAS: [Books; 2] = [
    Books {
        schema: "m20261124_000003",
        // 2026-11-26 11:01:30 UTC.
        read_at: 1_795_690_890_000,
        usage: &USAGE_3,
        one_more: &[
            ("acme", &[("day", 5_607), ("month", 5_607)]),
            ("globex", &[("day", 567)]),
            ("initech", &[("day", 22), ("month", 22)]),
        ],
        pro: &["globex"],
        events: 25,
        hooks: &[("alerts", WebhookState::Active, &[(12, 25, DeliveryState::Pending)])],
        // Releases with migration 5 compute the fingerprint of an Extend in another way.
        extended_again: Err("REQUEST_ID_REUSED"),
        resets: &[],
    },
    Books {
        schema: "m20261126_000011",
        // 2026-11-26 12:00:30 UTC.
        read_at: 1_795_694_430_000,
        usage: &USAGE_11,
        one_more: &[
            ("acme", &[("day", 5_607), ("month", 5_607)]),
            // The id belonged to a tenant that was deleted.
            ("again", &[("day", 20), ("month", 20)]),
            ("globex", &[("day", 567)]),
            // The limit `day` was removed and put back, and was not used again.
            ("hooli", &[("day", 1), ("ever", 107), ("month", 107)]),
            ("initech", &[("day", 62), ("month", 62)]),
            // The tenant had another plan for a while, which has the limit `day`, but not the limit `month`.
            ("stark", &[("day", 436), ("month", 6)]),
            // The limit `day` was removed and put back, and was used again.
            ("umbrella", &[("day", 51), ("ever", 371), ("month", 371)]),
            // The tenant got another plan, which has the limit `day`.
            ("wayne", &[("day", 61)]),
        ],
        pro: &["globex", "wayne"],
        events: 52,
        hooks: &[
            ("alerts", WebhookState::Active, &[(11, 52, DeliveryState::Pending)]),
            (
                "books",
                WebhookState::Disabled,
                &[(26, 27, DeliveryState::Delivered), (34, 37, DeliveryState::Delivered)],
            ),
            ("dropped", WebhookState::Gone, &[(26, 26, DeliveryState::Pending)]),
        ],
        extended_again: Ok((5_606, 1_050)),
        resets: &[Reset {
            tenant: "initech",
            request_id: "courtesy",
            adjusted: &[-4_521, -4_521, -4_521],
            forgiven: "forgiven",
            day: 61,
        }],
    },
];

const USAGE_3: [Line; 16] = [
    ("acme", "", None, None, 7, 0, 0),
    ("acme", "day", None, None, 5_606, 1_050, 1),
    ("acme", "month", None, None, 5_606, 1_050, 0),
    ("acme", "planner", Some("planner"), None, 2_806, 900, 0),
    ("acme", "user", None, Some(""), 0, 150, 0),
    ("acme", "user", None, Some("u0"), 4_202, 0, 0),
    ("acme", "user", None, Some("u1"), 1_404, 900, 0),
    ("asleep", "day", None, None, 0, 40, 0),
    ("asleep", "month", None, None, 0, 40, 0),
    ("asleep", "planner", Some("planner"), None, 0, 0, 0),
    ("asleep", "user", None, Some(""), 0, 40, 0),
    ("globex", "day", None, None, 566, 0, 0),
    ("initech", "day", None, None, 21, 0, 0),
    ("initech", "month", None, None, 21, 0, 0),
    ("initech", "planner", Some("planner"), None, 0, 0, 0),
    ("initech", "user", None, Some(""), 21, 0, 0),
];

const USAGE_11: [Line; 33] = [
    ("acme", "", None, None, 7, 0, 0),
    ("acme", "day", None, None, 5_606, 1_050, 1),
    ("acme", "month", None, None, 5_606, 1_050, 0),
    ("acme", "planner", Some("planner"), None, 2_831, 900, 0),
    ("acme", "user", None, Some(""), 0, 150, 0),
    ("acme", "user", None, Some("u0"), 4_202, 0, 0),
    ("acme", "user", None, Some("u1"), 1_404, 900, 0),
    ("again", "day", None, None, 19, 0, 0),
    ("again", "month", None, None, 19, 0, 0),
    ("again", "planner", Some("planner"), None, 0, 0, 0),
    ("again", "user", None, Some(""), 19, 0, 0),
    ("asleep", "day", None, None, 0, 40, 0),
    ("asleep", "month", None, None, 0, 40, 0),
    ("asleep", "planner", Some("planner"), None, 0, 0, 0),
    ("asleep", "user", None, Some(""), 0, 40, 0),
    ("globex", "", None, None, 0, 0, 0),
    ("globex", "day", None, None, 566, 0, 0),
    ("hooli", "day", None, None, 0, 0, 0),
    ("hooli", "ever", None, None, 106, 0, 0),
    ("hooli", "month", None, None, 106, 0, 0),
    ("initech", "day", None, None, 61, 0, 0),
    ("initech", "month", None, None, 61, 0, 0),
    ("initech", "planner", Some("planner"), None, 0, 0, 1),
    ("initech", "user", None, Some(""), 21, 0, 0),
    ("initech", "user", None, Some("u9"), 40, 0, 0),
    ("stark", "day", None, None, 435, 0, 0),
    ("stark", "month", None, None, 5, 0, 0),
    ("stark", "planner", Some("planner"), None, 0, 0, 0),
    ("stark", "user", None, Some("u0"), 5, 0, 0),
    ("umbrella", "day", None, None, 50, 0, 0),
    ("umbrella", "ever", None, None, 370, 0, 0),
    ("umbrella", "month", None, None, 370, 0, 0),
    ("wayne", "day", None, None, 60, 90, 0),
];

impl Books {
    /// Starts a server on a copy of the database, at the instant at which the usage was read.
    async fn world(&self, kind: Kind) -> World {
        World::on(Database::from_fixture(kind, self.schema), self.read_at).await
    }
}

/// Returns all balances of all tenants.
async fn usage(world: &World) -> Vec<(String, String, Option<String>, Option<String>, i64, i64, i64)> {
    let request = ListTenantsRequest { page_size: 1_000, ..ListTenantsRequest::default() };
    let tenants =
        done(world.admin.clone().list_tenants(request).await).expect("the tenants are there").tenants;
    let mut lines = Vec::new();
    for Tenant { id: tenant, .. } in tenants {
        lines.extend(world.usage(&tenant).await.into_iter().map(|balance| {
            let (committed, reserved) = figures(&balance);
            let Balance { limit_id, agent, user, refused, .. } = balance;
            (tenant.clone(), limit_id, agent, user, committed, reserved, refused)
        }));
    }
    lines.sort_unstable();
    lines
}

fn line(line: &Line) -> (String, String, Option<String>, Option<String>, i64, i64, i64) {
    let &(tenant, limit, agent, user, committed, reserved, refused) = line;
    let owned = |value: Option<&str>| value.map(str::to_owned);
    (tenant.to_owned(), limit.to_owned(), owned(agent), owned(user), committed, reserved, refused)
}

/// Returns the places of all events in the log.
async fn places(world: &World) -> Vec<i64> {
    let request = ListEventsRequest { page_size: 1_000, ..ListEventsRequest::default() };
    let reply = done(world.admin.clone().list_events(request).await).expect("the log is there");
    reply.events.iter().map(|event| event.sequence).collect()
}

/// Returns the deliveries of a webhook, the oldest event first: the place of the event, and the state.
async fn deliveries(world: &World, webhook: &str) -> Vec<(i64, DeliveryState)> {
    let request = ListDeliveriesRequest {
        webhook: webhook.into(),
        page_size: 1_000,
        ..ListDeliveriesRequest::default()
    };
    let reply = done(world.admin.clone().list_deliveries(request).await).expect("the webhook is there");
    reply.deliveries.iter().rev().map(|delivery| (delivery.sequence, delivery.state())).collect()
}

/// Repeats a reset, which changes nothing, and releases the hold whose charge the reset subtracted.
async fn repeat_reset(world: &World, reset: &Reset) {
    let &Reset { tenant, request_id, adjusted, forgiven, day } = reset;
    let request = ResetUsageRequest {
        tenant: tenant.into(),
        resources: vec!["tokens".into()],
        reason: "a courtesy".into(),
        operator: "kim".into(),
        request_id: request_id.into(),
        ..ResetUsageRequest::default()
    };
    let again = done(world.admin.clone().reset_usage(request).await).expect("the first reply");
    assert_eq!(again.adjusted, adjusted);
    assert_eq!(again.balances.figures("day"), (day, 0));
    let late = world.release("").with(|request| {
        (request.tenant, request.reserve_request_id) = (tenant.into(), forgiven.into());
    });
    let late = late.await.expect("the expired hold is there");
    assert_eq!(late.figures("day"), (day, 0), "the charge is not subtracted twice");
}

on_both! {
    async fn a_migrated_database_keeps_its_usage_and_events(kind: Kind) {
        for books in SCHEMAS {
            let world = books.world(kind).await;
            world.verify().await;
            assert_eq!(usage(&world).await, books.usage.iter().map(line).collect::<Vec<_>>(), "{}", books.schema);
            // The earlier server closed the windows that were over.
            assert_eq!(world.close_windows().await.counters, 0, "{}", books.schema);
            assert_eq!(places(&world).await, (1..=books.events).collect::<Vec<i64>>(), "{}", books.schema);
            world.end().await;
        }
    }

    async fn a_migrated_database_keeps_its_holds_and_request_ids(kind: Kind) {
        for books in SCHEMAS {
            let (schema, world) = (books.schema, books.world(kind).await);
            let longer = world.extend("").id("e1").ttl(2 * HOUR).tokens(50).with(|request| {
                (request.tenant, request.reserve_request_id) = ("acme".into(), "extended".into());
            });
            let longer = longer.await.map(|reply| reply.figures("day")).map_err(|no| no.reason);
            assert_eq!(longer, books.extended_again.map_err(str::to_owned), "{schema}");
            let again = world.reserve("acme").tokens(100).ttl(HOUR).id("extended").await.expect("the first reply");
            assert_eq!(again.held().request_id, "extended", "{schema}");
            let no = world.reserve("acme").tokens(101).id("extended").await.expect_err("another payload");
            assert_eq!((no.code, no.reason.as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"), "{schema}");
            let settled = world.commit(again.name()).tokens(120).await.expect("the hold is open");
            assert_eq!(settled.figures("day"), (5_726, 900), "{schema}");
            let late = world.release("").with(|request| {
                (request.tenant, request.reserve_request_id) = ("globex".into(), "charged".into());
            });
            let late = late.await.expect("the charge of an expired hold is reversed");
            assert_eq!(late.figures("day"), (66, 0), "{schema}");
            let no = world.reserve("asleep").tokens(1).await.expect_err("the tenant is suspended");
            assert_eq!(no.reason, "TENANT_SUSPENDED", "{schema}");
            for reset in books.resets {
                repeat_reset(&world, reset).await;
            }
            world.end().await;
        }
    }

    async fn limits_of_a_migrated_database_count_on(kind: Kind) {
        for books in SCHEMAS {
            let (schema, world) = (books.schema, books.world(kind).await);
            for &(tenant, limits) in books.one_more {
                let reply = world.record(tenant).tokens(1).await.expect("it is recorded");
                let counted = limits.iter().map(|&(limit, _)| (limit, reply.balance(limit).committed));
                assert_eq!(counted.collect::<Vec<_>>(), limits, "{schema}: {tenant}");
            }
            for &tenant in books.pro {
                let before = world.figures(tenant, "day").await;
                world.set_plan(tenant, "free").await;
                let usage = world.usage(tenant).await;
                assert_eq!(usage.figures("day"), before, "{schema}: {tenant}: both plans have the limit");
                assert_eq!(usage.balance("month").committed, 0, "{schema}: {tenant}: the limit is new");
            }
            world.end().await;
        }
    }

    async fn a_migrated_database_keeps_its_webhooks_and_deletions(kind: Kind) {
        for books in SCHEMAS {
            let (schema, world) = (books.schema, books.world(kind).await);
            let reply = world.admin.clone().list_webhooks(ListWebhooksRequest::default()).await;
            let found = done(reply).expect("the webhooks are there").webhooks;
            let found: Vec<_> = found.iter().map(|webhook| (webhook.id.as_str(), webhook.state())).collect();
            assert_eq!(found, books.hooks.iter().map(|&(id, state, _)| (id, state)).collect::<Vec<_>>(), "{schema}");
            for &(id, _, runs) in books.hooks {
                let places = |&(first, last, state)| (first..=last).map(move |place| (place, state));
                let expected: Vec<(i64, DeliveryState)> = runs.iter().flat_map(places).collect();
                assert_eq!(deliveries(&world, id).await, expected, "{schema}: {id}");
            }
            let no = world.record("gone").tokens(1).await.expect_err("the tenant is deleted");
            no.is(Code::NotFound, "TENANT_NOT_FOUND");
            let no = world.record("acme").amount("gone", 1).await.expect_err("the resource is deleted");
            no.names(&["amounts[0].resource"]);
            world.end().await;
        }
    }
}
