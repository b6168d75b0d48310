//! R4.31: limits that select labels, and limits that count the values of labels separately.

use crate::harness::{
    v1::{EventKind::*, *},
    *,
};

/// A limit for each run, over all time.
fn per_run(quantity: i64) -> Limit {
    lifetime("tokens", quantity).named("run").per_label("run")
}

/// Agent, user and model of a call.
type Names = [&'static str; 3];

/// Labels of a call: keys and values.
type Labels = &'static [(&'static str, &'static str)];

/// A limit, calls, and whether the limit applies to the call.
type Row = (Limit, Vec<(Names, Labels, bool)>);

const TEAM: Labels = &[("team", "search")];
const OTHER: Labels = &[("team", "ads")];
const BOTH: Labels = &[("region", "eu"), ("team", "search")];
const EMPTY: Labels = &[("team", "")];
const NONE: Labels = &[];
const NOBODY: Names = ["", "", ""];
const NAMES_GIVEN: Names = ["planner", "ana", "large"];

/// Returns rows about limits that select only labels, or nothing.
fn of_labels() -> Vec<Row> {
    let limit = || day("tokens", 100);
    vec![
        (limit(), vec![(NOBODY, NONE, true), (NAMES_GIVEN, TEAM, true), (NOBODY, BOTH, true)]),
        (
            limit().label("team", "search"),
            vec![
                (NOBODY, TEAM, true),
                (NAMES_GIVEN, TEAM, true),
                (NOBODY, BOTH, true),
                (NOBODY, OTHER, false),
                (NOBODY, EMPTY, false),
                (NOBODY, NONE, false),
                (NAMES_GIVEN, NONE, false),
                (NOBODY, &[("Team", "search")], false),
                (NOBODY, &[("team", "Search")], false),
                (NOBODY, &[("team", "search ")], false),
                (NOBODY, &[("search", "team")], false),
            ],
        ),
        (
            limit().label("team", ""),
            vec![
                (NOBODY, NONE, true),
                (NOBODY, EMPTY, true),
                (NOBODY, TEAM, false),
                (NOBODY, &[("region", "eu")], true),
            ],
        ),
        (
            limit().label("team", "search").label("region", "eu"),
            vec![
                (NOBODY, BOTH, true),
                (NAMES_GIVEN, BOTH, true),
                (NOBODY, TEAM, false),
                (NOBODY, NONE, false),
                (NOBODY, &[("region", "eu")], false),
                (NOBODY, &[("region", "us"), ("team", "search")], false),
            ],
        ),
    ]
}

/// Returns rows about limits that select or count labels together with other things.
fn of_labels_and_more() -> Vec<Row> {
    let limit = || day("tokens", 100);
    vec![
        (
            limit().label("team", "search").agent("planner"),
            vec![
                (NAMES_GIVEN, TEAM, true),
                (["planner", "", ""], TEAM, true),
                (NOBODY, TEAM, false),
                (["writer", "", ""], TEAM, false),
                (NAMES_GIVEN, OTHER, false),
                (NAMES_GIVEN, NONE, false),
            ],
        ),
        (
            limit().label("team", "search").user("ana").model("large"),
            vec![
                (NAMES_GIVEN, TEAM, true),
                (["", "ana", "large"], BOTH, true),
                (["", "ana", "small"], TEAM, false),
                (["", "bob", "large"], TEAM, false),
            ],
        ),
        (
            limit().per_label("team"),
            vec![
                (NOBODY, NONE, true),
                (NOBODY, EMPTY, true),
                (NOBODY, TEAM, true),
                (NAMES_GIVEN, OTHER, true),
            ],
        ),
        (
            limit().per_label("run").label("team", "search"),
            vec![
                (NOBODY, TEAM, true),
                (NOBODY, &[("run", "7"), ("team", "search")], true),
                (NOBODY, &[("run", "7")], false),
                (NOBODY, OTHER, false),
            ],
        ),
        (
            limit().per_label("run").per_label("team").per(&[Dimension::User]),
            vec![(NOBODY, NONE, true), (NAMES_GIVEN, BOTH, true), (NOBODY, &[("run", "7")], true)],
        ),
        (
            limit().label("a", "1").label("b", "2").label("c", "3").per_label("d"),
            vec![
                (NOBODY, &[("a", "1"), ("b", "2"), ("c", "3")], true),
                (NOBODY, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")], true),
                (NOBODY, &[("a", "1"), ("b", "2")], false),
                (NOBODY, &[("a", "1"), ("b", "2"), ("c", "4")], false),
                (NOBODY, &[("a", "3"), ("b", "2"), ("c", "1")], false),
            ],
        ),
    ]
}

both! {
    async fn a_limit_applies_to_the_calls_whose_labels_it_selects(world: World) {
        let mut rows = 0;
        for (number, (limit, calls)) in of_labels().into_iter().chain(of_labels_and_more()).enumerate() {
            let tenant = format!("t{number}");
            world.tenant_with(&tenant, std::slice::from_ref(&limit)).await;
            for (names, labels, applies) in calls {
                let check = world.check(&tenant).tokens(1).agent(names[0]).user(names[1]).model(names[2]);
                let check = labels.iter().fold(check, |check, &(key, value)| check.label(key, value));
                let reply = check.await.expect("an answer");
                let covered = !reply.verdicts.is_empty();
                assert_eq!(covered, applies, "{limit:?} {names:?} {labels:?}");
                rows += 1;
            }
        }
        assert!(rows >= 50, "{rows} rows");
    }

    async fn the_budget_of_a_run_is_shared_by_the_agents_of_the_run(world: World) {
        let own = day("tokens", 60).named("agent").per(&[Dimension::Agent]);
        world.tenant_with("acme", &[per_run(90), own]).await;
        let record = world.record("acme").tokens(30).agent("parent").label("run", "7");
        record.await.expect("it is recorded");
        let ask = |agent: &'static str, run: &'static str| {
            world.reserve("acme").tokens(50).partial().agent(agent).label("run", run).ttl(HOUR)
        };
        let first = ask("one", "7").await.expect("60 are left");
        assert_eq!(amount(first.held(), "tokens"), (50, 0));
        let second = ask("two", "7").await.expect("10 are left");
        assert_eq!(amount(second.held(), "tokens"), (10, 0));
        ask("three", "7").await.expect_err("nothing is left").is_quota(&["run"]);
        // Another run is untouched, and each agent has its own limit.
        let other = ask("one", "8").await.expect("90 are left in run 8");
        assert_eq!(amount(other.held(), "tokens"), (10, 0), "the agent has ten left");
        assert_eq!(other.balance("run").labels["run"], "8");
        assert_eq!(other.figures("run"), (0, 10));
        let settled = world.commit(first.name()).tokens(40).await.expect("it is held");
        assert_eq!((settled.figures("run"), settled.figures("agent")), ((70, 10), (40, 10)));
        // A call without the label has the empty value.
        let without = world.reserve("acme").tokens(50).agent("four").await.expect("a run of its own");
        assert_eq!(without.balance("run").labels["run"], "");
        world.verify().await;
    }

    async fn balances_refusals_and_events_name_the_labels(world: World) {
        let limit = day("tokens", 100).named("team").per_label("team").label("env", "prod").thresholds(&[50]);
        world.tenant_with("acme", &[limit]).await;
        let record = world.record("acme").tokens(60).label("team", "search").label("env", "prod").label("x", "y");
        let recorded = record.await.expect("it is recorded");
        let want = std::collections::HashMap::from([("env".to_owned(), "prod".to_owned()), ("team".to_owned(), "search".to_owned())]);
        assert_eq!(recorded.balance("team").labels, want);
        let no = world.reserve("acme").tokens(50).label("team", "search").label("env", "prod").await;
        let no = no.expect_err("40 are left");
        no.is_quota(&["team"]);
        let violation = &no.violations[0];
        assert_eq!(violation.subject, "tenant:acme");
        assert_eq!(violation.quota_dimensions["labels.team"], "search");
        let events = world.events_of("acme").await;
        let reached = events.iter().find(|event| event.kind() == ThresholdReached).expect("60 of 100");
        assert_eq!(reached.balances[0].labels, want);
        let refused = events.iter().find(|event| event.kind() == ReserveRefused).expect("it was refused");
        assert_eq!(refused.balances[0].labels, want);
        world.restart().await;
        let usage = world.usage("acme").await;
        assert_eq!(usage.balance("team").labels, want);
    }

    async fn usage_is_filtered_by_labels(world: World) {
        let limits = [per_run(90), day("tokens", 100).named("team").label("team", "search"), day("tokens", 1_000)];
        world.tenant_with("acme", &limits).await;
        for run in ["", "7", "8"] {
            world.record("acme").tokens(10).label("run", run).label("team", "search").await.expect("recorded");
        }
        let cases: [(&[(&str, &str)], &[&str]); 5] = [
            (&[], &["day", "run", "run", "run", "team"]),
            (&[("run", "7")], &["day", "run", "team"]),
            (&[("run", "")], &["day", "run", "team"]),
            (&[("team", "ads"), ("run", "9")], &["day"]),
            (&[("unknown", "7")], &["day", "run", "run", "run", "team"]),
        ];
        for (labels, want) in cases {
            let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
            let request = GetUsageRequest { tenant: "acme".into(), labels, ..GetUsageRequest::default() };
            let reply = world.quota.clone().get_usage(request).await.expect("an answer").into_inner();
            let mut found: Vec<&str> = reply.balances.iter().filter(|b| !b.limit_id.is_empty()).map(|b| b.limit_id.as_str()).collect();
            found.sort_unstable();
            assert_eq!(found, want);
        }
    }

    async fn a_reset_finds_the_counters_of_a_label(world: World) {
        world.tenant_with("acme", &[per_run(90), day("tokens", 1_000)]).await;
        for run in ["7", "8"] {
            world.record("acme").tokens(10).label("run", run).await.expect("it is recorded");
        }
        let reset = |labels: &[(&str, &str)]| {
            let request = ResetUsageRequest {
                tenant: "acme".into(),
                limit_ids: vec!["run".into(), "day".into()],
                labels: labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
                reason: "a test".into(),
                operator: "tests".into(),
                ..ResetUsageRequest::default()
            };
            let mut admin = world.admin.clone();
            async move { admin.reset_usage(request).await.expect("an answer").into_inner() }
        };
        assert_eq!(reset(&[("run", "9")]).await.adjusted.len(), 0, "nobody spent in run 9");
        assert_eq!(reset(&[("run", "7"), ("team", "search")]).await.adjusted.len(), 0, "no limit counts teams");
        let done = reset(&[("run", "7")]).await;
        assert_eq!((done.adjusted, done.balances[0].labels["run"].as_str()), (vec![-10], "7"));
        assert_eq!(reset(&[]).await.adjusted.len(), 2, "the day, and run 8");
        world.verify().await;
    }

    async fn a_page_token_ends_if_a_label_is_selected_instead_of_counted(world: World) {
        world.tenant_with("acme", &[per_run(90)]).await;
        for run in ["", "7", "8"] {
            world.record("acme").tokens(10).label("run", run).await.expect("it is recorded");
        }
        let page = |page_token: String| {
            let request = GetUsageRequest { tenant: "acme".into(), page_size: 1, page_token, ..GetUsageRequest::default() };
            let mut quota = world.quota.clone();
            async move { quota.get_usage(request).await }
        };
        let first = page(String::new()).await.expect("an answer").into_inner();
        world.change_plan("acme", &[lifetime("tokens", 90).named("run").label("run", "")]).await.expect("there");
        let refused = page(first.next_page_token).await.expect_err("the list is another one");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }

    async fn limits_share_the_counter_of_a_label_and_it_continues(world: World) {
        let one = || lifetime("tokens", 50).named("seven").label("run", "7");
        world.tenant_with("acme", &[per_run(90), one()]).await;
        let spend = |run: &'static str| world.record("acme").tokens(40).label("run", run);
        let both = spend("7").await.expect("it is recorded");
        assert_eq!((both.figures("run"), both.figures("seven")), ((40, 0), (40, 0)));
        spend("8").await.expect("it is recorded");
        // The one run is counted all the time, the others are not.
        world.change_plan("acme", &[one()]).await.expect("the plan is there");
        spend("8").await.expect("it is recorded");
        world.change_plan("acme", &[per_run(90)]).await.expect("the plan is there");
        let seven = world.reserve("acme").tokens(51).label("run", "7").await;
        seven.expect_err("50 are left").is_quota(&["run"]);
        world.reserve("acme").tokens(90).label("run", "8").await.expect("it starts at zero");
        world.verify().await;
    }

    async fn wrong_labels_of_a_limit_are_refused_by_name(world: World) {
        world.declare("tokens").await;
        let limit = || day("tokens", 10);
        let many = |limit: Limit, count: usize| (0..count).fold(limit, |limit, n| limit.per_label(&n.to_string()));
        let cases: Vec<(Limit, &[&str])> = vec![
            (many(limit(), 4), &[]),
            (many(limit(), 5), &["plan.limits[0].per_labels"]),
            (many(limit().label("team", "a").label("run", "b"), 3), &["plan.limits[0].per_labels"]),
            (limit().label("run", "7").per_label("run"), &["plan.limits[0].per_labels[0]"]),
            (limit().per_label("run").per_label("run"), &["plan.limits[0].per_labels[1]"]),
            (limit().per_label(""), &["plan.limits[0].per_labels[0]"]),
            (limit().per_label(&"k".repeat(65)), &["plan.limits[0].per_labels[0]"]),
            (limit().per_label("a\nb"), &["plan.limits[0].per_labels[0]"]),
            (limit().label("", "7"), &["plan.limits[0].labels[\"\"]"]),
            (limit().label("run", &"v".repeat(257)), &["plan.limits[0].labels[\"run\"]"]),
            (limit().label(&"k".repeat(64), &"v".repeat(256)), &[]),
        ];
        for (number, (limit, wrong)) in cases.into_iter().enumerate() {
            let made = world.plan(&format!("p{number}"), std::slice::from_ref(&limit)).await;
            match made {
                Ok(plan) => {
                    assert_eq!(wrong.len(), 0, "{limit:?}");
                    assert_eq!((&plan.limits[0].labels, &plan.limits[0].per_labels), (&limit.labels, &limit.per_labels));
                }
                Err(no) => drop(no.names(wrong)),
            }
        }
    }

    async fn the_longest_labels_have_a_counter(world: World) {
        let limit = ["a", "b", "c", "d"].into_iter().fold(day("tokens", 100), |limit, key| limit.per_label(&key.repeat(64)));
        world.tenant_with("acme", &[limit.per(&[Dimension::Agent, Dimension::User, Dimension::Model])]).await;
        let name = "n".repeat(128);
        let reserve = ["a", "b", "c", "d"].into_iter().fold(world.reserve("acme").tokens(60), |reserve, key| {
            reserve.label(&key.repeat(64), &"v".repeat(256))
        });
        let hold = reserve.agent(&name).user(&name).model(&name).await.expect("there is quota");
        assert_eq!(hold.balance("day").labels.len(), 4);
        world.restart().await;
        world.extend(hold.name()).tokens(41).await.expect_err("40 are left").is_quota(&["day"]);
        let settled = world.commit(hold.name()).tokens(50).await.expect("it is held");
        assert_eq!(settled.figures("day"), (50, 0));
        world.verify().await;
    }
}
