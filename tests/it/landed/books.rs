//! The databases of earlier schemas in `tests/fixtures`, and what the servers that filled them reported last.

use crate::harness::{v1::*, *};

/// The databases of one earlier schema, and what their server reported last.
pub struct Books {
    /// The name of the schema's last migration.
    pub schema: &'static str,
    /// The instant at which the usage was read, in milliseconds since 1970-01-01 UTC.
    pub read_at: i64,
    /// All balances of all tenants that count no labels separately, in one list or more.
    pub usage: &'static [&'static [Line]],
    /// All other balances of all tenants.
    pub labelled: &'static [Labelled],
    /// For some tenants: limits, and the tokens that each limit has counted after one more token is recorded.
    pub one_more: &'static [(&'static str, &'static [(&'static str, i64)])],
    /// Tenants with the plan `pro`, which has one limit. The plan `free` has the same limit, and others.
    pub pro: &'static [&'static str],
    /// The number of events in the log.
    pub events: i64,
    /// All webhooks with their deliveries.
    pub hooks: &'static [Hook],
    /// The answer if an Extend is repeated: the figures of the limit `day`, or the reason of the refusal.
    pub extended_again: Result<(i64, i64), &'static str>,
    /// Resets with a request_id.
    pub resets: &'static [Reset],
}

impl Books {
    /// Returns the databases of the schema whose last migration has this name.
    pub fn of(schema: &str) -> Self {
        SCHEMAS.into_iter().find(|books| books.schema == schema).expect("it has a fixture")
    }

    /// Starts a server on a copy of the database, at the instant at which the usage was read.
    pub async fn world(&self, kind: Kind) -> World {
        World::on(Database::from_fixture(kind, self.schema), self.read_at).await
    }
}

/// A balance that the earlier server reported: tenant, limit, agent, user, committed, reserved and refused.
pub type Line = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, i64, i64, i64);

/// A balance that counts labels separately: tenant, limit, labels, user, committed, reserved and refused. The labels
/// are sorted, as in `run=a,team=search`.
pub type Labelled = (&'static str, &'static str, &'static str, Option<&'static str>, i64, i64, i64);

/// A webhook: its id, its state, and its deliveries. Deliveries that follow each other and have the same state are one
/// entry: the places of the first and the last event, and the state.
pub type Hook = (&'static str, WebhookState, &'static [(i64, i64, DeliveryState)]);

/// A ResetUsage of a tenant, whose usage was not zero afterwards.
pub struct Reset {
    /// The id of the tenant.
    pub tenant: &'static str,
    /// The id of the ResetUsage.
    pub request_id: &'static str,
    /// The figures `adjusted` of the reply.
    pub adjusted: &'static [i64],
    /// The request_id of a hold whose charge the reset subtracted.
    pub forgiven: &'static str,
    /// Units that the limit `day` has counted since the reset.
    pub day: i64,
}

/// The earlier schemas that have a fixture, from the oldest on.
pub const SCHEMAS: [Books; 5] = [
    Books {
        schema: "m20261124_000003",
        // 2026-11-26 11:01:30 UTC.
        read_at: 1_795_690_890_000,
        usage: &[&USAGE_3],
        labelled: &[],
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
        usage: &[&USAGE_11],
        labelled: &[],
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
    Books {
        schema: "m20261126_000014",
        // 2026-11-26 12:01:10 UTC.
        read_at: 1_795_694_470_000,
        usage: &[&USAGE_14],
        labelled: &LABELLED_14,
        one_more: &[
            ("acme", &[("day", 5_607), ("month", 5_607)]),
            // The tenant got another zone.
            ("cyberdyne", &[("day", 1_201), ("month", 1_201)]),
            ("globex", &[("day", 567)]),
            ("initech", &[("day", 22), ("month", 22)]),
            // The token has no labels, so the limit `run` counts the token with an empty value.
            ("piper", &[("billing", 575), ("run", 10), ("sprint", 575)]),
            // The limit `month` got another anchor.
            ("tyrell", &[("day", 371), ("month", 371)]),
        ],
        pro: &["globex"],
        events: 52,
        hooks: &[
            ("alerts", WebhookState::Active, &[(15, 52, DeliveryState::Pending)]),
            ("books", WebhookState::Disabled, &[(28, 29, DeliveryState::Delivered)]),
        ],
        extended_again: Ok((5_606, 1_050)),
        resets: &[Reset {
            tenant: "initech",
            request_id: "courtesy",
            adjusted: &[-4_521, -4_521, -4_521],
            forgiven: "forgiven",
            day: 21,
        }],
    },
    // The database of the schema before it, with two more tenants.
    Books {
        schema: "m20261127_000019",
        // 2026-11-26 12:02:40 UTC.
        read_at: 1_795_694_560_000,
        usage: &[&USAGE_14, &ADDED_19],
        labelled: &LABELLED_14,
        one_more: &[
            ("acme", &[("day", 5_607), ("month", 5_607)]),
            ("cyberdyne", &[("day", 1_201), ("month", 1_201)]),
            // The token has no user, so the limit `session` counts the token with an empty value.
            ("dunder", &[("day", 21), ("session", 1), ("week", 176)]),
            ("globex", &[("day", 567)]),
            ("initech", &[("day", 22), ("month", 22)]),
            ("piper", &[("billing", 575), ("run", 10), ("sprint", 575)]),
            ("saber", &[("day", 1), ("session", 1), ("week", 451)]),
            ("tyrell", &[("day", 371), ("month", 371)]),
        ],
        pro: &["globex"],
        events: 70,
        hooks: &[
            ("alerts", WebhookState::Active, &[(15, 70, DeliveryState::Pending)]),
            ("books", WebhookState::Disabled, &[(28, 29, DeliveryState::Delivered)]),
        ],
        extended_again: Ok((5_606, 1_050)),
        resets: &[Reset {
            tenant: "initech",
            request_id: "courtesy",
            adjusted: &[-4_521, -4_521, -4_521],
            forgiven: "forgiven",
            day: 21,
        }],
    },
    // The database of the schema before it, with keys.
    Books {
        schema: "m20261127_000020",
        // 2026-11-26 12:04:00 UTC.
        read_at: 1_795_694_640_000,
        usage: &[&USAGE_14, &ADDED_19],
        labelled: &LABELLED_14,
        one_more: &[
            ("acme", &[("day", 5_607), ("month", 5_607)]),
            ("cyberdyne", &[("day", 1_201), ("month", 1_201)]),
            // The token has no user, so the limit `session` counts the token with an empty value.
            ("dunder", &[("day", 21), ("session", 1), ("week", 176)]),
            ("globex", &[("day", 567)]),
            ("initech", &[("day", 22), ("month", 22)]),
            ("piper", &[("billing", 575), ("run", 10), ("sprint", 575)]),
            ("saber", &[("day", 1), ("session", 1), ("week", 451)]),
            ("tyrell", &[("day", 371), ("month", 371)]),
        ],
        pro: &["globex"],
        events: 78,
        hooks: &[
            ("alerts", WebhookState::Active, &[(15, 78, DeliveryState::Pending)]),
            ("books", WebhookState::Disabled, &[(28, 29, DeliveryState::Delivered)]),
        ],
        extended_again: Ok((5_606, 1_050)),
        resets: &[Reset {
            tenant: "initech",
            request_id: "courtesy",
            adjusted: &[-4_521, -4_521, -4_521],
            forgiven: "forgiven",
            day: 21,
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

const USAGE_14: [Line; 26] = [
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
    ("cyberdyne", "day", None, None, 1_200, 0, 0),
    ("cyberdyne", "month", None, None, 1_200, 0, 0),
    ("cyberdyne", "planner", Some("planner"), None, 0, 0, 0),
    ("cyberdyne", "user", None, Some("u0"), 1_200, 0, 0),
    ("globex", "day", None, None, 566, 0, 0),
    ("initech", "day", None, None, 21, 0, 0),
    ("initech", "month", None, None, 21, 0, 0),
    ("initech", "planner", Some("planner"), None, 0, 0, 0),
    ("initech", "user", None, Some(""), 21, 0, 0),
    ("piper", "billing", None, None, 574, 60, 0),
    ("piper", "sprint", None, None, 574, 60, 0),
    ("tyrell", "", None, None, 6, 0, 0),
    ("tyrell", "batch", Some("batch"), None, 0, 0, 0),
    ("tyrell", "day", None, None, 370, 20, 0),
    ("tyrell", "month", None, None, 370, 20, 0),
];

/// The balances of the two tenants that were added to the database of the schema m20261126_000014.
const ADDED_19: [Line; 9] = [
    ("dunder", "burst", Some("clerk"), None, 45, 10, 2),
    ("dunder", "day", None, None, 20, 10, 0),
    ("dunder", "own", Some("clerk"), None, 45, 10, 1),
    ("dunder", "session", None, Some("u1"), 175, 0, 0),
    ("dunder", "session", None, Some("u2"), 0, 10, 0),
    ("dunder", "week", None, None, 175, 10, 0),
    ("saber", "day", None, None, 0, 0, 0),
    ("saber", "session", None, Some("u1"), 450, 0, 0),
    ("saber", "week", None, None, 450, 0, 0),
];

const LABELLED_14: [Labelled; 10] = [
    ("piper", "crew", "run=a,team=search", Some("u0"), 405, 0, 0),
    ("piper", "crew", "run=b,team=search", Some("u0"), 0, 60, 0),
    ("piper", "crew", "run=b,team=search", Some("u1"), 120, 0, 0),
    ("piper", "crew", "run=c,team=search", Some("u1"), 40, 0, 0),
    ("piper", "run", "run=", None, 9, 0, 0),
    ("piper", "run", "run=a", None, 5, 0, 0),
    ("piper", "run", "run=b", None, 128, 60, 1),
    ("piper", "run", "run=c", None, 40, 0, 0),
    ("piper", "run", "run=d", None, 0, 0, 0),
    ("piper", "search", "team=search", None, 565, 60, 0),
];
