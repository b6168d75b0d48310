//! Invalid requests to QuotaService are refused with the names of the wrong fields, and change nothing. (For
//! AdminService see `admin_*`.)

use std::collections::BTreeSet;

use prost::Message;
use prost_types::Duration;
use tonic::Code;

use crate::harness::{raw, v1::*, *};

fn too_long() -> String {
    "x".repeat(129)
}

fn span(seconds: i64, nanos: i32) -> Option<Duration> {
    Some(Duration { seconds, nanos })
}

fn units(resource: &str, quantity: i64) -> Amount {
    Amount { resource: resource.into(), quantity }
}

fn ask(resource: &str, quantity: i64, minimum: i64) -> ReserveAmount {
    ReserveAmount { resource: resource.into(), quantity, minimum }
}

const RESERVE: [Case<ReserveRequest>; 33] = [
    ("request_id", |request| request.request_id = too_long()),
    ("request_id", |request| request.request_id = "a\nb".into()),
    ("tenant", |request| request.tenant = String::new()),
    ("tenant", |request| request.tenant = too_long()),
    ("tenant", |request| request.tenant = "a\0b".into()),
    ("agent", |request| request.agent = too_long()),
    ("agent", |request| request.agent = "\u{85}".into()),
    ("user", |request| request.user = too_long()),
    ("user", |request| request.user = "\u{7f}".into()),
    ("model", |request| request.model = too_long()),
    ("model", |request| request.model = "\t".into()),
    ("amounts", |request| request.amounts.clear()),
    ("amounts", |request| request.amounts = vec![ask("tokens", 1, 0); 17]),
    ("amounts[0].resource", |request| request.amounts[0].resource = String::new()),
    ("amounts[0].resource", |request| request.amounts[0].resource = too_long()),
    ("amounts[0].resource", |request| request.amounts[0].resource = "tokens\n".into()),
    ("amounts[0].resource", |request| request.amounts[0].resource = "undeclared".into()),
    ("amounts[1].resource", |request| request.amounts.push(ask("tokens", 1, 0))),
    ("amounts[0].quantity", |request| request.amounts[0].quantity = -1),
    ("amounts[0].quantity", |request| request.amounts[0].quantity = i64::MIN),
    ("amounts[0].minimum", |request| request.amounts[0].minimum = 1),
    ("amounts[0].minimum", |request| (request.allow_partial, request.amounts[0].minimum) = (true, 11)),
    ("amounts[0].minimum", |request| (request.allow_partial, request.amounts[0].minimum) = (true, -1)),
    ("amounts[0].minimum", |request| {
        (request.allow_partial, request.amounts[0]) = (true, ask("tokens", 0, 1))
    }),
    ("amounts[0].minimum", |request| request.amounts[0] = ask("tokens", 0, 1)),
    ("ttl", |request| request.ttl = span(0, 0)),
    ("ttl", |request| request.ttl = span(-1, 0)),
    ("ttl", |request| request.ttl = span(86_400, 1_000_000)),
    ("ttl", |request| request.ttl = span(i64::MAX, 0)),
    ("ttl", |request| request.ttl = span(i64::MIN, 0)),
    ("ttl", |request| request.ttl = span(1, -1)),
    ("ttl", |request| request.ttl = span(1, 1_000_000_000)),
    ("on_expiry", |request| request.on_expiry = 99),
];

const COMMIT: [Case<CommitRequest>; 8] = [
    ("amounts", |request| request.amounts = vec![units("tokens", 1); 17]),
    ("amounts[0].resource", |request| request.amounts = vec![units("", 1)]),
    ("amounts[0].resource", |request| request.amounts = vec![units("undeclared", 1)]),
    ("amounts[1].resource", |request| request.amounts = vec![units("tokens", 1); 2]),
    ("amounts[0].quantity", |request| request.amounts = vec![units("tokens", -1)]),
    ("amounts[0].quantity", |request| request.amounts = vec![units("tokens", i64::MIN)]),
    ("reservation", |request| request.reservation = String::new()),
    ("reservation", |request| {
        (request.tenant, request.reserve_request_id) = ("acme".into(), "r".into());
    }),
];

const EXTEND: [Case<ExtendRequest>; 9] = [
    ("request_id", |request| request.request_id = too_long()),
    ("amounts", |request| request.amounts = vec![units("tokens", 1); 17]),
    ("amounts[0].resource", |request| request.amounts[0].resource = "undeclared".into()),
    ("amounts[1].resource", |request| request.amounts.push(units("tokens", 1))),
    ("amounts[0].quantity", |request| request.amounts[0].quantity = -1),
    ("ttl", |request| request.ttl = span(0, 0)),
    ("ttl", |request| request.ttl = span(-1, 0)),
    ("ttl", |request| request.ttl = span(86_401, 0)),
    ("reservation", |request| request.reservation = String::new()),
];

const RECORD: [Case<RecordRequest>; 7] = [
    ("request_id", |request| request.request_id = "\u{1b}".into()),
    ("tenant", |request| request.tenant = String::new()),
    ("agent", |request| request.agent = too_long()),
    ("amounts", |request| request.amounts.clear()),
    ("amounts", |request| request.amounts = vec![units("tokens", 1); 17]),
    ("amounts[0].resource", |request| request.amounts[0].resource = "undeclared".into()),
    ("amounts[1].resource", |request| request.amounts.push(units("tokens", 1))),
];

both! {
    async fn a_refusal_names_the_wrong_field_and_nothing_changes(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(10).await.expect("there is quota").name().to_owned();
        let before = world.books("acme").await;
        for (field, spoil) in RESERVE {
            world.reserve("acme").tokens(10).with(spoil).await.expect_err(field).names(&[field]);
        }
        for (field, spoil) in COMMIT {
            world.commit(&hold).with(spoil).await.expect_err(field).names(&[field]);
        }
        for (field, spoil) in EXTEND {
            world.extend(&hold).tokens(1).with(spoil).await.expect_err(field).names(&[field]);
        }
        for (field, spoil) in RECORD {
            world.record("acme").tokens(1).with(spoil).await.expect_err(field).names(&[field]);
        }
        world.release("").await.expect_err("no reservation").names(&["reservation"]);
        let half = world.release("").with(|request| request.tenant = "acme".into());
        half.await.expect_err("half a name").names(&["reserve_request_id"]);
        let half = world.release("").with(|request| request.reserve_request_id = "r".into());
        half.await.expect_err("half a name").names(&["tenant"]);
        let idle = world.extend(&hold).await.expect_err("neither time nor quantity");
        idle.is(Code::InvalidArgument, "INVALID_ARGUMENT");
        assert!(!idle.fields.is_empty());
        assert_eq!(world.books("acme").await, before);
    }

    async fn labels_have_bounds(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let before = world.books("acme").await;
        let spoiled: [fn(&mut ReserveRequest); 6] = [
            |request| request.labels.extend((0..17).map(|number| (number.to_string(), String::new()))),
            |request| drop(request.labels.insert(String::new(), "v".into())),
            |request| drop(request.labels.insert("k".repeat(65), "v".into())),
            |request| drop(request.labels.insert("a\nb".into(), "v".into())),
            |request| drop(request.labels.insert("k".into(), "v".repeat(257))),
            |request| drop(request.labels.insert("k".into(), "\0".into())),
        ];
        for (index, spoil) in spoiled.into_iter().enumerate() {
            let no = world.reserve("acme").tokens(1).with(spoil).await.expect_err("labels");
            no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
            assert!(no.fields.len() == 1 && no.fields[0].starts_with("labels"), "case {index}: {no:?}");
        }
        assert_eq!(world.books("acme").await, before);
        let full = world.reserve("acme").tokens(1).with(|request| {
            request.labels.extend((10..26).map(|number| (format!("{number}{}", "k".repeat(62)), "v".repeat(256))));
        });
        assert_eq!(full.await.expect("at the bounds").held().labels.len(), 16);
    }

    async fn one_refusal_names_every_wrong_field(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let no = world.reserve("").amount("", -1).at_least("tokens", -5, 7).amount("tokens", 1).user("\n").ttl(0);
        let no = no.await.expect_err("seven faults");
        no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
        let named: BTreeSet<&str> = no.fields.iter().map(String::as_str).collect();
        for field in [
            "tenant",
            "amounts[0].resource",
            "amounts[0].quantity",
            "amounts[1].quantity",
            "amounts[1].minimum",
            "amounts[2].resource",
            "user",
            "ttl",
        ] {
            assert!(named.contains(field), "{field}: {no:?}");
        }
    }

    async fn names_of_the_maximum_length_are_accepted(world: World) {
        let longest = "ü".repeat(64);
        world.tenant_with(&longest, &[day(&longest, 1_000).named(&longest)]).await;
        let asked = world.reserve(&longest).amount(&longest, 1).agent(&longest).user(&longest).model(&longest);
        let reply = asked.id(&longest).ttl(DAY).await.expect("at the bounds");
        assert_eq!(reply.figures(&longest), (0, 1));
        assert_eq!(world.get(reply.name()).await.expect("it is kept").agent, longest);
        let mut many = world.reserve(&longest).ttl(1);
        for number in 0..16 {
            world.declare(&format!("r{number}")).await;
            many = many.amount(&format!("r{number}"), 1);
        }
        assert_eq!(many.await.expect("sixteen").held().amounts.len(), 16);
    }

    async fn sums_that_overflow_are_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", i64::MAX), month("tokens", 5).soft()]).await;
        world.declare("meter").await;
        for resource in ["tokens", "meter"] {
            let hold = world.reserve("acme").amount(resource, 10).await.expect("it fits").name().to_owned();
            let rest = world.reserve("acme").amount(resource, i64::MAX - 10).await.expect("to the brim");
            let before = world.books("acme").await;
            for no in [
                world.extend(&hold).amount(resource, 1).await.map(drop).expect_err("one more"),
                world.reserve("acme").amount(resource, 1).await.map(drop).expect_err("one more"),
                world.reserve("acme").amount(resource, i64::MAX).await.map(drop).expect_err("as much again"),
            ] {
                match resource {
                    "tokens" => no.is_quota(&["day"]),
                    _ => no.names(&["amounts[0].quantity"]),
                };
            }
            assert_eq!(world.books("acme").await, before);
            world.commit(rest.name()).await.expect("it fits");
            let before = world.books("acme").await;
            for no in [
                world.commit(&hold).amount(resource, 11).await.map(drop).expect_err("one more"),
                world.commit(&hold).amount(resource, i64::MAX).await.map(drop).expect_err("as much again"),
                world.record("acme").amount(resource, 11).await.map(drop).expect_err("one more"),
                world.record("acme").amount(resource, i64::MAX).await.map(drop).expect_err("as much again"),
            ] {
                no.names(&["amounts[0].quantity"]);
            }
            assert_eq!(world.books("acme").await, before);
            world.release(&hold).await.expect("it is held");
        }
        // The figures stay within an int64, and the books stay correct.
        for change in [i64::MIN, i64::MAX, -i64::MAX, i64::MAX, i64::MIN, 7] {
            world.record("acme").amount("meter", change).await.expect("clamped at zero");
        }
        assert_eq!(world.figures("acme", "").await, (7, 0));
    }

    async fn malformed_and_too_large_requests_are_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let before = world.books("acme").await;
        let path = "/tope.v1.QuotaService/Reserve";
        let mut giant = world.reserve("acme").tokens(1).request;
        giant.labels.insert("k".into(), "v".repeat(4 * 1024 * 1024));
        let mut truncated = world.reserve("acme").tokens(1).request.encode_to_vec();
        truncated.pop();
        let cases: [(&str, Vec<u8>); 4] = [
            ("garbage", vec![0xff; 64]),
            ("not UTF-8 in a string", vec![0x12, 2, 0xff, 0xfe]),
            ("truncated", truncated),
            ("above 4 MiB", giant.encode_to_vec()),
        ];
        for (case, bytes) in cases {
            let no = raw::post(world.address(), path, &[], &bytes).await.expect(case);
            no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
            assert!(!no.faults.is_empty(), "{case}: BadRequest says what is wrong: {no:?}");
        }
        assert_eq!(world.books("acme").await, before);
        let good = world.reserve("acme").tokens(1).request.encode_to_vec();
        assert!(raw::post(world.address(), path, &[], &good).await.is_none(), "a good one passes this door");
    }

    async fn a_page_token_is_valid_only_for_its_own_list(world: World) {
        let limits = [day("tokens", 1_000).per(&[Dimension::User]).named("each")];
        world.tenant_with("acme", &limits).await;
        world.tenant_with("globex", &limits).await;
        for tenant in ["acme", "globex"] {
            for user in ["a", "b", "c"] {
                world.reserve(tenant).tokens(1).user(user).await.expect("there is quota");
            }
        }
        let usage = |tenant: &str| world.get_usage(tenant).with(|request| request.page_size = 2);
        let list = |tenant: &str| world.list(tenant).with(|request| request.page_size = 2);
        let of_usage = usage("acme").await.expect("two of three").next_page_token;
        let of_list = list("acme").await.expect("two of three").next_page_token;
        assert!(!of_usage.is_empty() && !of_list.is_empty());

        let usage_with = |token: &str, change: fn(&mut GetUsageRequest)| {
            usage("acme").with(|request| request.page_token = token.into()).with(change)
        };
        let list_with = |token: &str, change: fn(&mut ListReservationsRequest)| {
            list("acme").with(|request| request.page_token = token.into()).with(change)
        };
        let tampered: String = of_usage.chars().rev().collect();
        let cases = [
            ("another tenant", usage_with(&of_usage, |r| r.tenant = "globex".into()).await.map(drop)),
            ("another filter", usage_with(&of_usage, |r| r.user = Some("a".into())).await.map(drop)),
            ("other resources", usage_with(&of_usage, |r| r.resources = vec!["tokens".into()]).await.map(drop)),
            ("another rpc", usage_with(&of_list, |_| ()).await.map(drop)),
            ("tampered", usage_with(&tampered, |_| ()).await.map(drop)),
            ("longer", usage_with(&format!("{of_usage}A"), |_| ()).await.map(drop)),
            ("another tenant", list_with(&of_list, |r| r.tenant = "globex".into()).await.map(drop)),
            ("other states", list_with(&of_list, |r| r.states = vec![2]).await.map(drop)),
            ("another agent", list_with(&of_list, |r| r.agent = Some("a".into())).await.map(drop)),
            ("another age", list_with(&of_list, |r| r.min_age = span(1, 0)).await.map(drop)),
            ("another rpc", list_with(&of_usage, |_| ()).await.map(drop)),
        ];
        for (case, result) in cases {
            result.expect_err(case).names(&["page_token"]);
        }
        usage_with(&of_usage, |_| ()).await.expect("where it came from");
        list_with(&of_list, |_| ()).await.expect("where it came from");
    }
}
