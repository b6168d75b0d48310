//! Databases of earlier versions are migrated, verified and served.
//!
//! `tests/fixtures` has one folder per earlier schema, named after its last migration: `books.db`, a SQLite file, and
//! `books.sql`, a dump of PostgreSQL. A server of that version filled both with the same calls.

use tonic::Code;

use crate::harness::{v1::*, *};

/// The name of the last migration of each earlier schema.
const SCHEMAS: [&str; 1] = ["m20261124_000003"];

/// The instant at which the usage below was read: 2026-11-26 11:01:30 UTC, in milliseconds.
const THEN: i64 = 1_795_690_890_000;

/// A balance that the earlier server reported: tenant, limit, agent, user, committed, reserved and refused.
type Line = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, i64, i64, i64);

const USAGE: [Line; 16] = [
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

/// Returns all balances of all tenants.
async fn usage(world: &World) -> Vec<(String, String, Option<String>, Option<String>, i64, i64, i64)> {
    let mut lines = Vec::new();
    for tenant in ["acme", "asleep", "globex", "initech"] {
        lines.extend(world.usage(tenant).await.into_iter().map(|balance| {
            let (committed, reserved) = figures(&balance);
            let Balance { limit_id, agent, user, refused, .. } = balance;
            (tenant.to_owned(), limit_id, agent, user, committed, reserved, refused)
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

on_both! {
    async fn a_migrated_database_keeps_its_usage_and_events(kind: Kind) {
        for schema in SCHEMAS {
            let world = World::on(Database::from_fixture(kind, schema), THEN).await;
            world.verify().await;
            assert_eq!(usage(&world).await, USAGE.iter().map(line).collect::<Vec<_>>(), "{schema}");
            let events = world.admin.clone().list_events(ListEventsRequest::default()).await;
            let numbers: Vec<i64> = events.expect("the log is there").into_inner().events.iter().map(|event| event.sequence).collect();
            assert_eq!(numbers, (1..=25).collect::<Vec<i64>>(), "{schema}");
            world.end().await;
        }
    }

    async fn a_migrated_database_keeps_its_holds_and_request_ids(kind: Kind) {
        for schema in SCHEMAS {
            let world = World::on(Database::from_fixture(kind, schema), THEN).await;
            let again = world.reserve("acme").tokens(100).ttl(HOUR).id("extended").await.expect("the first reply");
            assert_eq!(again.held().request_id, "extended", "{schema}");
            let no = world.reserve("acme").tokens(101).id("extended").await.expect_err("another payload");
            assert_eq!((no.code, no.reason.as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"), "{schema}");
            let done = world.commit(again.name()).tokens(120).await.expect("the hold is open");
            assert_eq!(done.figures("day"), (5_726, 900), "{schema}");
            let late = world.release("").with(|request| {
                (request.tenant, request.reserve_request_id) = ("globex".into(), "charged".into());
            });
            let late = late.await.expect("the charge of an expired hold is reversed");
            assert_eq!(late.figures("day"), (66, 0), "{schema}");
            let no = world.reserve("asleep").tokens(1).await.expect_err("the tenant is suspended");
            assert_eq!(no.reason, "TENANT_SUSPENDED", "{schema}");
            world.end().await;
        }
    }
}
