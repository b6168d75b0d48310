//! ROLLING: a window begins with the first use after the window before has ended (R4.47).

use crate::harness::{
    call::span,
    clients::done,
    v1::{Dimension, EventKind::*, Period, *},
    *,
};

const LENGTH: i64 = 5 * HOUR;

/// A step of a case, and what the balance of the limit must be afterwards.
struct Step {
    /// When it happens, in milliseconds after NOON.
    at: i64,
    act: Act,
    /// Committed, reserved, and the start of the window in milliseconds after NOON. `None`: no window is running.
    want: (i64, i64, Option<i64>),
}

/// What happens to the one tenant, whose limit permits 100 tokens in five hours.
enum Act {
    /// A Reserve of so many tokens, with a ttl of an hour.
    Hold(i64),
    /// A Reserve that is refused. Returns after how many milliseconds it is to be repeated; `None`: never.
    Refuse(i64, Option<i64>),
    Record(i64),
    /// A Record of usage that occurred so many milliseconds after NOON.
    Occurred(i64, i64),
    Check(i64),
    /// Commits the last hold with so many tokens. The balance of the reply is compared.
    Commit(i64),
    Release,
    /// An Extend of the last hold. The balance of the reply is compared.
    Extend(i64),
    /// An Amend of the first Record.
    Amend(i64),
    Reset,
    Read,
    Restart,
}

use Act::*;

fn step(at: i64, act: Act, committed: i64, reserved: i64, start: Option<i64>) -> Step {
    Step { at, act, want: (committed, reserved, start) }
}

/// A claim, and the steps that show it.
type Case = (&'static str, Vec<Step>);

/// Cases of what begins a window.
fn beginnings() -> Vec<Case> {
    vec![
        ("without use there is no window", vec![step(0, Read, 0, 0, None), step(LENGTH, Read, 0, 0, None)]),
        ("a Check begins no window", vec![step(0, Check(100), 0, 0, None), step(1, Read, 0, 0, None)]),
        (
            "a refusal begins no window, and waiting does not help",
            vec![step(0, Refuse(101, None), 0, 0, None)],
        ),
        ("a hold begins a window", vec![step(7, Hold(10), 0, 10, Some(7)), step(9, Read, 0, 10, Some(7))]),
        ("a Record begins a window", vec![step(7, Record(10), 10, 0, Some(7))]),
        ("a Record of nothing begins a window", vec![step(7, Record(0), 0, 0, Some(7))]),
        (
            "later use counts in the running window",
            vec![step(0, Record(10), 10, 0, Some(0)), step(LENGTH - 1, Record(5), 15, 0, Some(0))],
        ),
    ]
}

/// Cases of what ends a window, and of retry hints.
fn ends() -> Vec<Case> {
    vec![
        (
            "at its end the window is over",
            vec![step(0, Record(10), 10, 0, Some(0)), step(LENGTH, Read, 0, 0, None)],
        ),
        (
            "the next window begins with the next use, not at the end of the window before",
            vec![
                step(0, Record(10), 10, 0, Some(0)),
                step(LENGTH + HOUR, Record(5), 5, 0, Some(LENGTH + HOUR)),
            ],
        ),
        (
            "use at the very end begins the next window",
            vec![step(0, Record(10), 10, 0, Some(0)), step(LENGTH, Hold(5), 0, 5, Some(LENGTH))],
        ),
        (
            "the retry hint is the end of the window",
            vec![
                step(0, Record(95), 95, 0, Some(0)),
                step(HOUR, Refuse(6, Some(4 * HOUR)), 95, 0, Some(0)),
                step(LENGTH, Hold(6), 0, 6, Some(LENGTH)),
            ],
        ),
        (
            "the retry hint is earlier if a hold frees enough",
            vec![step(0, Hold(95), 0, 95, Some(0)), step(1, Refuse(6, Some(HOUR - 1)), 0, 95, Some(0))],
        ),
    ]
}

/// Cases of reservations that were made in an older window.
fn older_windows() -> Vec<Case> {
    vec![
        (
            "a hold of the window before is settled there",
            vec![
                step(LENGTH - HOUR, Hold(40), 0, 40, Some(LENGTH - HOUR)),
                step(LENGTH - 1, Read, 0, 40, Some(LENGTH - HOUR)),
            ],
        ),
        (
            "a late Commit counts in the window of its hold",
            vec![
                step(0, Hold(40), 0, 40, Some(0)),
                step(2 * LENGTH, Record(1), 1, 0, Some(2 * LENGTH)),
                step(2 * LENGTH, Commit(30), 30, 0, Some(0)),
                step(2 * LENGTH, Read, 1, 0, Some(2 * LENGTH)),
            ],
        ),
        (
            "an Amend counts in the window of its Record",
            vec![
                step(0, Record(40), 40, 0, Some(0)),
                step(LENGTH, Record(1), 1, 0, Some(LENGTH)),
                step(LENGTH, Amend(2), 2, 0, Some(0)),
                step(LENGTH, Read, 1, 0, Some(LENGTH)),
            ],
        ),
        (
            "an Extend counts in the window of its hold",
            vec![
                step(0, Record(1), 1, 0, Some(0)),
                step(LENGTH - MINUTE, Hold(40), 1, 40, Some(0)),
                step(LENGTH, Record(2), 2, 0, Some(LENGTH)),
                step(LENGTH, Extend(5), 1, 45, Some(0)),
                step(LENGTH, Read, 2, 0, Some(LENGTH)),
            ],
        ),
        (
            "a hold that is released leaves the window",
            vec![
                step(0, Hold(40), 0, 40, Some(0)),
                step(1, Release, 0, 0, Some(0)),
                step(2, Read, 0, 0, Some(0)),
            ],
        ),
        (
            "a Reset does not end the window",
            vec![
                step(0, Record(40), 40, 0, Some(0)),
                step(9, Reset, 0, 0, Some(0)),
                step(9, Record(1), 1, 0, Some(0)),
            ],
        ),
    ]
}

/// Cases of usage that occurred before, and of a server that starts again.
fn past_usage() -> Vec<Case> {
    vec![
        (
            "usage that occurred in the running window counts there",
            vec![step(0, Record(1), 1, 0, Some(0)), step(HOUR, Occurred(2, MINUTE), 3, 0, Some(0))],
        ),
        (
            "usage that occurred before the newest window counts in it",
            vec![step(HOUR, Record(1), 1, 0, Some(HOUR)), step(HOUR + 1, Occurred(2, 0), 3, 0, Some(HOUR))],
        ),
        (
            "usage that occurred when no window was running began one then",
            vec![step(3 * HOUR, Occurred(2, HOUR), 2, 0, Some(HOUR)), step(6 * HOUR, Read, 0, 0, None)],
        ),
        (
            "a window that began in the past may be over",
            vec![
                step(3 * LENGTH, Occurred(2, HOUR), 2, 0, Some(HOUR)),
                step(3 * LENGTH, Read, 0, 0, None),
                step(3 * LENGTH, Hold(100), 0, 100, Some(3 * LENGTH)),
            ],
        ),
        (
            "a server that is started again knows the window",
            vec![
                step(0, Record(10), 10, 0, Some(0)),
                step(MINUTE, Restart, 10, 0, Some(0)),
                step(HOUR, Hold(90), 10, 90, Some(0)),
                step(HOUR, Refuse(1, Some(HOUR)), 10, 90, Some(0)),
            ],
        ),
        (
            "a server that is started again knows that the window is over",
            vec![
                step(0, Record(10), 10, 0, Some(0)),
                step(LENGTH, Restart, 0, 0, None),
                step(LENGTH, Hold(100), 0, 100, Some(LENGTH)),
            ],
        ),
    ]
}

/// Returns the seconds after which a refused call is to be repeated. `None`: never.
fn retry(refused: &No) -> Option<i64> {
    refused.retry.map(|delay| i64::try_from(delay.as_secs()).expect("a small number"))
}

/// Plays a step, and returns the balance of the limit afterwards.
async fn play(world: &mut World, tenant: &str, act: Act, now: i64, first: &mut Option<String>) -> Balance {
    let reply = match act {
        Hold(quantity) => {
            let reply = world.reserve(tenant).tokens(quantity).ttl(HOUR).await.expect("it fits");
            *first = Some(reply.name().to_owned());
            Some(reply.balance("limit").clone())
        }
        Refuse(quantity, after) => {
            let refused = world.reserve(tenant).tokens(quantity).await.expect_err("it does not fit");
            refused.is_quota(&["limit"]);
            let seconds = after.map(|millis| (millis + 999) / 1_000);
            assert_eq!(retry(&refused), seconds, "{tenant}");
            None
        }
        Record(quantity) => {
            let reply = world.record(tenant).tokens(quantity).await.expect("no limit refuses it");
            first.get_or_insert(reply.name().to_owned());
            Some(reply.balance("limit").clone())
        }
        Occurred(quantity, at) => {
            let reply = world.record(tenant).tokens(quantity).occurred(NOON + at).await;
            Some(reply.expect("no limit refuses it").balance("limit").clone())
        }
        Check(quantity) => {
            let reply = world.check(tenant).tokens(quantity).await.expect("it is answered");
            reply.verdicts[0].balance.clone()
        }
        Commit(quantity) => {
            let name = first.as_ref().expect("there is a hold");
            Some(world.commit(name).tokens(quantity).await.expect("it is settled").balance("limit").clone())
        }
        Release => {
            let name = first.as_ref().expect("there is a hold");
            Some(world.release(name).await.expect("it is settled").balance("limit").clone())
        }
        Extend(quantity) => {
            let name = first.as_ref().expect("there is a hold");
            Some(world.extend(name).tokens(quantity).await.expect("it fits").balance("limit").clone())
        }
        Amend(quantity) => {
            let name = first.as_ref().expect("there is a reservation");
            Some(world.amend(name).tokens(quantity).await.expect("it is amended").balance("limit").clone())
        }
        Reset => {
            let reply = world.reset_only(tenant, &[], &["limit"]).await.expect("it is reset");
            Some(reply.balances.balance("limit").clone())
        }
        Restart => {
            world.restart().await;
            world.clock.set(NOON + now);
            None
        }
        Read => None,
    };
    match reply {
        Some(balance) => balance,
        None => world.usage(tenant).await.balance("limit").clone(),
    }
}

both! {
    async fn windows_begin_with_the_first_use(world: World) {
        let mut hours = 0;
        for (place, (claim, steps)) in [beginnings(), ends(), older_windows(), past_usage()].into_iter().flatten().enumerate() {
            // Each case has a tenant and a day of its own, so that the time never goes back.
            let (tenant, begun) = (format!("tenant-{place}"), hours * HOUR);
            world.tenant_with(&tenant, &[rolling(LENGTH, 100)]).await;
            let mut first = None;
            for Step { at, act, want } in steps {
                world.clock.set(NOON + begun + at);
                let act = match act {
                    Occurred(quantity, at) => Occurred(quantity, begun + at),
                    other => other,
                };
                let balance = play(world, &tenant, act, begun + at, &mut first).await;
                let start = millis(balance.window_start.as_ref());
                let (committed, reserved, wanted) = want;
                let wanted = wanted.map(|start| NOON + begun + start);
                assert_eq!((balance.committed, balance.reserved, start), (committed, reserved, wanted), "{claim}");
                assert_eq!(millis(balance.window_end.as_ref()), wanted.map(|start| start + LENGTH), "{claim}");
                assert_eq!((balance.period(), balance.allowance), (Period::Rolling, Some(100)), "{claim}");
            }
            hours += 24;
        }
    }

    async fn each_user_has_windows_of_its_own(world: World) {
        world.tenant_with("acme", &[rolling(LENGTH, 100).per(&[Dimension::User]).per_label("run")]).await;
        for (number, user) in ["ann", "bob", "cid"].into_iter().enumerate() {
            world.clock.set(NOON + HOUR * i64::try_from(number).expect("small"));
            world.record("acme").user(user).label("run", "7").tokens(60).await.expect("it is recorded");
        }
        world.clock.set(NOON + LENGTH);
        let balances = world.usage("acme").await;
        let listed: Vec<_> = balances
            .iter()
            .map(|balance| (balance.user.as_deref(), millis(balance.window_start.as_ref()), balance.committed))
            .collect();
        let want = [(Some("bob"), Some(NOON + HOUR), 60), (Some("cid"), Some(NOON + 2 * HOUR), 60)];
        assert_eq!(listed, want, "ann's window is over");
        let reserve = async |user: &str| world.reserve("acme").user(user).label("run", "7").tokens(60).await;
        reserve("ann").await.expect("ann's window is over");
        let refused = reserve("bob").await.expect_err("40 are left");
        assert_eq!(retry(refused.is_quota(&["limit"])), Some(HOUR / SECOND));
        let other = world.reserve("acme").user("bob").label("run", "8").tokens(60).await;
        other.expect("another run has another window");
        let pages = async |user: Option<&str>| {
            let call = world.get_usage("acme").with(|request| request.page_size = 1);
            let mut call = match user {
                Some(user) => call.with(|request| request.user = Some(user.into())),
                None => call,
            };
            let mut found = Vec::new();
            loop {
                let reply = call.clone().await.expect("a page");
                found.extend(reply.balances.into_iter().map(|balance| (balance.user, balance.labels["run"].clone())));
                if reply.next_page_token.is_empty() {
                    return found;
                }
                call = call.with(|request| request.page_token = reply.next_page_token);
            }
        };
        assert_eq!(pages(None).await.len(), 4);
        assert_eq!(pages(Some("bob")).await.len(), 2);
    }

    /// Both calls of the first round arrive when no window is running. They come in one Batch, in which a Record that
    /// occurred earlier begins the window.
    async fn operations_of_one_batch_share_the_window_that_the_first_begins(world: World) {
        world.tenant_with("acme", &[rolling(LENGTH, 100)]).await;
        let operations = vec![
            world.record("acme").tokens(10).occurred(NOON - HOUR).operation(),
            world.reserve("acme").tokens(20).operation(),
            world.reserve("acme").tokens(71).operation(),
        ];
        let results = world.batch(operations).await.expect("it is answered");
        assert_eq!(results.len(), 3);
        let balance = world.usage("acme").await.balance("limit").clone();
        assert_eq!((figures(&balance), window(&balance)), ((10, 20), (NOON - HOUR, NOON + 4 * HOUR)));
    }

    async fn refusals_without_a_window_are_counted_and_emitted_once(world: World) {
        world.tenant_with("acme", &[rolling(LENGTH, 100), rolling(LENGTH, 50).named("observed").observe()]).await;
        for _ in 0..2 {
            let refused = world.reserve("acme").tokens(101).await.expect_err("never");
            refused.is_quota(&["limit"]);
        }
        let balance = world.usage("acme").await.balance("limit").clone();
        assert!(is_windowless(&balance));
        assert_eq!(balance.refused, 2);
        let reply = world.reserve("acme").tokens(60).await.expect("OBSERVE lets it pass");
        assert_eq!((reply.balance("limit").refused, reply.balance("observed").refused), (0, 1), "a new window");
        assert_eq!(window(reply.balance("observed")), (NOON, NOON + LENGTH));
        let kinds = world.kinds("acme").await;
        assert_eq!(kinds.iter().filter(|(kind, _)| *kind == ReserveRefused).count(), 2, "{kinds:?}");
        let events = world.events_of("acme").await;
        let refusals: Vec<_> = events.iter().filter(|event| event.kind() == ReserveRefused).collect();
        assert!(is_windowless(&refusals[0].balances[0]));
        assert_eq!(window(&refusals[1].balances[0]), (NOON, NOON + LENGTH));
    }

    async fn a_window_is_closed_by_an_event_if_it_lasts_an_hour(world: World) {
        let limits = [rolling(LENGTH, 100), rolling(59 * MINUTE, 100).named("short")];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(30).await.expect("it is recorded");
        world.clock.set(NOON + LENGTH);
        world.close_windows().await;
        world.record("acme").tokens(4).await.expect("it is recorded");
        world.clock.set(NOON + 3 * LENGTH);
        world.close_windows().await;
        world.close_windows().await;
        let events = world.events_of("acme").await;
        let closed: Vec<_> = events.iter().filter(|event| event.kind() == WindowClosed).collect();
        let figures: Vec<_> = closed.iter().map(|event| event.balances.figures("limit")).collect();
        assert_eq!(figures, [(30, 0), (4, 0)]);
        assert_eq!(window(closed[1].balances.balance("limit")), (NOON + LENGTH, NOON + 2 * LENGTH));
    }

    /// R4.45: the subject that served the call has the same counter, in the window of the hold.
    async fn a_commit_of_another_model_counts_in_the_window_of_its_hold(world: World) {
        world.tenant_with("acme", &[rolling(LENGTH, 100)]).await;
        let hold = world.reserve("acme").tokens(10).ttl(2 * LENGTH).await.expect("it fits");
        world.clock.set(NOON + LENGTH);
        world.record("acme").tokens(1).await.expect("it is recorded");
        let reply = world.commit(hold.name()).tokens(12).model("small").await.expect("it is settled");
        let balance = reply.balance("limit");
        assert_eq!((figures(balance), window(balance)), ((12, 0), (NOON, NOON + LENGTH)));
        assert_eq!(world.figures("acme", "limit").await, (1, 0));
    }

    /// A change of the zone leaves the window. Another duration is another limit.
    async fn only_another_duration_makes_another_limit(world: World) {
        world.tenant_with("acme", &[rolling(LENGTH, 100)]).await;
        world.record("acme").tokens(30).await.expect("it is recorded");
        world.move_to("acme", "Pacific/Auckland").await.expect("the zone is changed");
        assert_eq!(window(world.usage("acme").await.balance("limit")), (NOON, NOON + LENGTH));
        world.change_plan("acme", &[rolling(LENGTH, 50)]).await.expect("the plan is changed");
        let reply = world.reserve("acme").tokens(21).await;
        reply.expect_err("20 are left").is_quota(&["limit"]);
        world.change_plan("acme", &[rolling(6 * HOUR, 50)]).await.expect("the plan is changed");
        assert!(is_windowless(world.usage("acme").await.balance("limit")));
        world.clock.advance(HOUR);
        let reply = world.reserve("acme").tokens(50).await.expect("it counts from now");
        assert_eq!(window(reply.balance("limit")), (NOON + HOUR, NOON + 7 * HOUR));
        // A limit that returns starts anew, in the window that is still running.
        world.change_plan("acme", &[rolling(LENGTH, 100)]).await.expect("the plan is changed");
        let reply = world.record("acme").tokens(1).await.expect("it is recorded");
        assert_eq!((reply.figures("limit"), window(reply.balance("limit"))), ((1, 0), (NOON, NOON + LENGTH)));
    }

    async fn overrides_and_agents_plans_apply_to_rolling_windows(world: World) {
        world.tenant_with("acme", &[rolling(LENGTH, 100)]).await;
        let given = Override {
            tenant: "acme".into(),
            id: "more".into(),
            limit_id: "limit".into(),
            quantity: Some(150),
            end_time: Some(timestamp(NOON + HOUR)),
            ..Override::default()
        };
        let request = CreateOverrideRequest { r#override: Some(given) };
        done(world.admin.clone().create_override(request).await).expect("it fits the limit");
        world.record("acme").tokens(120).await.expect("it is recorded");
        world.reserve("acme").tokens(30).ttl(MINUTE).await.expect("150 in all");
        world.clock.set(NOON + HOUR);
        let refused = world.reserve("acme").tokens(1).await.expect_err("the override has ended");
        assert_eq!(retry(refused.is_quota(&["limit"])), Some(4 * HOUR / SECOND));
    }

    async fn a_duration_that_makes_no_sense_is_refused_with_its_path(world: World) {
        world.declare("tokens").await;
        let cases = [
            (Limit { duration: None, ..rolling(LENGTH, 1) }, "plan.limits[0].duration"),
            (rolling(MINUTE - SECOND, 1), "plan.limits[0].duration"),
            (rolling(400 * DAY + SECOND, 1), "plan.limits[0].duration"),
            (rolling(MINUTE + 1, 1), "plan.limits[0].duration"),
            (rolling(-HOUR, 1), "plan.limits[0].duration"),
            (Limit { duration: Some(span(HOUR)), ..day("tokens", 1) }, "plan.limits[0].duration"),
            (rolling(LENGTH, 1).interval(2), "plan.limits[0].interval"),
            (rolling(LENGTH, 1).anchor(3), "plan.limits[0].anchor_day"),
            (rolling(LENGTH, 1).of_tenant(), "plan.limits[0].anchor"),
            (rolling(LENGTH, 1).carrying(50, 0), "plan.limits[0].carry"),
            (Limit { origin_date: "2026-01-01".into(), ..rolling(LENGTH, 1) }, "plan.limits[0].origin_date"),
        ];
        for (limit, field) in cases {
            let refused = world.plan("wrong", &[limit]).await.expect_err("it makes no sense");
            refused.names(&[field]);
        }
        for millis in [MINUTE, 400 * DAY] {
            let plan = world.plan(&format!("plan-{millis}"), &[rolling(millis, 1)]).await.expect("it is made");
            assert_eq!(plan.limits[0].duration, Some(span(millis)));
        }
    }
}
