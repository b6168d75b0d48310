//! Databases of earlier versions are migrated, verified and served.
//!
//! `tests/fixtures` has one folder per earlier schema, named after its last migration: `books.db`, a SQLite file, and
//! `books.sql`, a dump of PostgreSQL. A server of that version filled both with the same calls. The server of
//! m20261127_000019 began with the databases of m20261126_000014, which it migrated, and the server of m20261127_000020
//! with those of m20261127_000019.

mod books;
mod keys;
mod labels;
mod terms;

use tonic::Code;

use crate::harness::{clients::done, v1::*, *};
use books::{Books, Reset, SCHEMAS};

/// A balance: tenant, limit, labels, agent, user, committed, reserved and refused.
type Row = (String, String, String, Option<String>, Option<String>, i64, i64, i64);

/// Returns all balances of all tenants, sorted.
async fn usage(world: &World) -> Vec<Row> {
    let request = ListTenantsRequest { page_size: 1_000, ..ListTenantsRequest::default() };
    let tenants =
        done(world.admin.clone().list_tenants(request).await).expect("the tenants are there").tenants;
    let mut rows = Vec::new();
    for Tenant { id: tenant, .. } in tenants {
        rows.extend(world.usage(&tenant).await.into_iter().map(|balance| {
            let (committed, reserved) = figures(&balance);
            let Balance { limit_id, agent, user, refused, labels, .. } = balance;
            let mut labels: Vec<_> =
                labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            labels.sort_unstable();
            (tenant.clone(), limit_id, labels.join(","), agent, user, committed, reserved, refused)
        }));
    }
    rows.sort_unstable();
    rows
}

/// Returns the balances that the earlier server reported, sorted.
fn reported(books: &Books) -> Vec<Row> {
    let owned = |value: Option<&str>| value.map(str::to_owned);
    let plain = books.usage.iter().copied().flatten();
    let plain = plain.map(|&(tenant, limit, agent, user, committed, reserved, refused)| {
        let agent = owned(agent);
        (tenant.into(), limit.into(), String::new(), agent, owned(user), committed, reserved, refused)
    });
    let labelled =
        books.labelled.iter().map(|&(tenant, limit, labels, user, committed, reserved, refused)| {
            (tenant.into(), limit.into(), labels.into(), None, owned(user), committed, reserved, refused)
        });
    let mut rows: Vec<Row> = plain.chain(labelled).collect();
    rows.sort_unstable();
    rows
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
            assert_eq!(usage(&world).await, reported(&books), "{}", books.schema);
            // The earlier server closed the windows that were over.
            assert_eq!(world.close_windows().await.counters, 0, "{}", books.schema);
            assert_eq!(places(&world).await, (1..=books.events).collect::<Vec<i64>>(), "{}", books.schema);
            let counted = world.job("prune").await;
            assert_eq!(counted["recounted"], 0, "{}: the migration counted the counters", books.schema);
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
