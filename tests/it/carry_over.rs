//! R4.46: what a limit does not use in a window is carried over to the next window, once and within caps.

use tonic::Code;

use crate::harness::{
    v1::{EventKind::*, *},
    *,
};

/// What happens to the tenant of a row. Days are counted from the day on which the tenant is created, at noon.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Sets the clock to the first instant of a day.
    Day(i64),
    /// Advances the clock by this number of hours.
    Hours(i64),
    /// Records this number of tokens.
    Spend(i64),
    /// Holds tokens for this number of hours.
    Hold(i64, i64),
    /// Holds tokens, which are charged after this number of hours.
    Charge(i64, i64),
    /// Commits this number of tokens of the latest hold.
    Commit(i64),
    /// Releases the latest hold.
    Release,
    /// Resets the usage of the tenant.
    Reset,
    /// Checks what was carried over, and the committed units.
    Carried(i64, i64),
}
use Step::*;

/// A limit of 100 tokens a day that carries over within these caps.
fn of(percent: i32, quantity: i64) -> Limit {
    day("tokens", 100).carrying(percent, quantity)
}

/// What the row shows, its limit, and its steps.
type Row = (&'static str, Limit, Vec<Step>);

/// Returns the rows about the caps.
fn of_caps() -> Vec<Row> {
    vec![
        ("a percentage of the quantity", of(50, 0), vec![Spend(30), Day(1), Carried(50, 0)]),
        ("no more than is unused", of(50, 0), vec![Spend(60), Day(1), Carried(40, 0)]),
        ("all of it", of(100, 0), vec![Spend(30), Day(1), Carried(70, 0)]),
        ("a quantity", of(0, 25), vec![Spend(30), Day(1), Carried(25, 0)]),
        ("less than that quantity", of(0, 25), vec![Spend(90), Day(1), Carried(10, 0)]),
        ("the quantity is the smaller cap", of(50, 40), vec![Spend(1), Day(1), Carried(40, 0)]),
        ("the percentage is the smaller cap", of(30, 40), vec![Spend(1), Day(1), Carried(30, 0)]),
        (
            "rounded down",
            day("tokens", 10).carrying(33, 0),
            vec![Spend(1), Day(1), Carried(3, 0), Spend(1), Carried(3, 1)],
        ),
        ("rounded down to nothing", day("tokens", 99).carrying(1, 0), vec![Spend(1), Day(1), Carried(0, 0)]),
        ("nothing is unused", of(50, 0), vec![Spend(100), Day(1), Carried(0, 0), Spend(1), Carried(0, 1)]),
        ("more was used", of(50, 0), vec![Spend(130), Day(1), Carried(0, 0)]),
        ("a limit of zero", day("tokens", 0).carrying(100, 7), vec![Day(1), Carried(0, 0)]),
    ]
}

/// Returns the rows about holds of the window before.
fn of_holds() -> Vec<Row> {
    vec![
        (
            "an open hold counts as used, for ever",
            of(100, 0),
            vec![Hold(30, 20), Day(1), Spend(1), Carried(70, 1), Release, Carried(70, 1)],
        ),
        (
            "a hold that has ended is free",
            of(100, 0),
            vec![Hold(30, 13), Day(1), Carried(70, 0), Hours(1), Carried(100, 0), Spend(1), Carried(100, 1)],
        ),
        (
            "a hold that was charged is used",
            of(100, 0),
            vec![Charge(30, 13), Day(1), Carried(70, 0), Hours(1), Carried(70, 0), Spend(1), Carried(70, 1)],
        ),
        (
            "a Commit after the first use changes only the old window",
            of(100, 0),
            vec![Hold(30, 20), Day(1), Spend(1), Commit(5), Carried(70, 1), Day(2), Carried(99, 0)],
        ),
        (
            "a Commit before the first use counts",
            of(100, 0),
            vec![Hold(30, 20), Day(1), Commit(5), Carried(95, 0), Spend(1), Carried(95, 1)],
        ),
        (
            "a late Commit after the first use",
            of(100, 0),
            vec![Hold(30, 1), Day(1), Spend(1), Carried(100, 1), Commit(80), Carried(100, 1)],
        ),
    ]
}

/// Returns the rows about windows that follow each other.
fn of_windows() -> Vec<Row> {
    vec![
        (
            "it is not carried over again",
            of(50, 0),
            vec![
                Spend(10),
                Day(1),
                Spend(20),
                Carried(50, 20),
                Day(2),
                Carried(50, 0),
                Spend(1),
                Carried(50, 1),
            ],
        ),
        (
            "it is used after the quantity",
            of(50, 0),
            vec![Spend(10), Day(1), Spend(90), Carried(50, 90), Day(2), Carried(10, 0)],
        ),
        (
            "usage above the quantity leaves nothing",
            of(50, 0),
            vec![Spend(10), Day(1), Hold(150, 2), Commit(120), Carried(50, 120), Day(2), Carried(0, 0)],
        ),
        (
            "windows without usage",
            of(50, 0),
            vec![Spend(100), Day(3), Carried(50, 0), Day(4), Carried(50, 0)],
        ),
        ("a new tenant", of(50, 0), vec![Carried(0, 0), Spend(1), Carried(0, 1), Hours(1), Carried(0, 1)]),
        (
            "a reset leaves it",
            of(50, 0),
            vec![Spend(80), Day(1), Spend(70), Reset, Carried(20, 0), Spend(120), Carried(20, 120)],
        ),
        ("a reset leaves more of the old window", of(0, 90), vec![Spend(80), Reset, Day(1), Carried(90, 0)]),
        (
            "a window of several days",
            of(50, 0).interval(2),
            vec![Spend(70), Day(2), Carried(30, 0), Spend(1), Day(3), Carried(30, 1), Day(4), Carried(50, 0)],
        ),
        (
            "SOFT",
            of(50, 0).soft(),
            vec![Spend(70), Day(1), Hold(140, 1), Commit(140), Carried(30, 140), Day(2), Carried(0, 0)],
        ),
        ("OBSERVE", of(50, 0).observe(), vec![Spend(70), Day(1), Spend(1), Carried(30, 1)]),
    ]
}

/// Checks the balance of the limit, by GetUsage and by Check.
async fn check(world: &Clients, tenant: &str, carried: i64, committed: i64, case: &str) {
    let check = world.check(tenant).tokens(0).await.expect("an answer");
    let checked = check.verdicts[0].balance.clone().expect("every verdict has one");
    let usage = world.usage(tenant).await;
    for balance in [&checked, usage.balance("day")] {
        assert_eq!((balance.carried, balance.committed), (carried, committed), "{case}: {balance:?}");
        let allowance = balance.quantity.expect("of a limit") + carried;
        let remaining = (allowance - committed - balance.reserved).max(0);
        assert_eq!((balance.allowance, balance.remaining), (Some(allowance), Some(remaining)), "{case}");
    }
    assert_eq!(&checked, usage.balance("day"), "{case}");
}

/// Plays the rows of the table one after the other, each with a tenant and some days of its own.
async fn play(world: &mut World, restarts: bool) {
    let rows = [of_caps(), of_holds(), of_windows()].concat();
    let mut noon = NOON;
    for (number, (case, limit, steps)) in rows.into_iter().enumerate() {
        let tenant = format!("t{number}");
        world.clock.set(noon);
        world.tenant_with(&tenant, &[limit]).await;
        let mut held = String::new();
        for (place, step) in steps.into_iter().enumerate() {
            let case = format!("{case}, step {place} {step:?}");
            match step {
                Day(number) => world.clock.set(noon - 12 * HOUR + number * DAY),
                Hours(hours) => world.clock.advance(hours * HOUR),
                Spend(tokens) => drop(world.record(&tenant).tokens(tokens).await.expect(&case)),
                Hold(tokens, hours) => {
                    let call = world.reserve(&tenant).tokens(tokens).ttl(hours * HOUR);
                    held = call.await.expect(&case).name().to_owned();
                }
                Charge(tokens, hours) => {
                    let call = world.reserve(&tenant).tokens(tokens).ttl(hours * HOUR).charged_on_expiry();
                    held = call.await.expect(&case).name().to_owned();
                }
                Commit(tokens) => drop(world.commit(&held).tokens(tokens).await.expect(&case)),
                Release => drop(world.release(&held).await.expect(&case)),
                Reset => drop(world.reset(&tenant, &[]).await.expect(&case)),
                Carried(carried, committed) => check(world, &tenant, carried, committed, &case).await,
            }
            if restarts && matches!(step, Day(_)) {
                world.restart().await;
            }
        }
        noon += 6 * DAY;
    }
}

both! {
    async fn the_table_of_carry_overs_holds(world: World) {
        play(world, false).await;
    }

    /// The server has to load the counter of the window before.
    async fn the_table_of_carry_overs_holds_on_a_server_that_remembers_nothing(world: World) {
        play(world, true).await;
    }

    /// I1, with the allowance of the window: quantity and carry-over.
    async fn a_reserve_is_granted_up_to_the_allowance_with_the_carry_over(world: World) {
        world.tenant_with("acme", &[of(50, 0)]).await;
        world.record("acme").tokens(80).await.expect("it is recorded");
        world.clock.advance(12 * HOUR);
        let no = world.reserve("acme").tokens(121).await.expect_err("20 are carried over");
        no.is_quota(&["day"]);
        assert_eq!(no.violations[0].quota_dimensions["allowance"], "120");
        assert!(no.message.contains("120 of 120 left"), "{}", no.message);
        let hold = world.reserve("acme").at_least("tokens", 200, 100).partial().id("r").await.expect("120 are left");
        assert_eq!(amount(hold.held(), "tokens"), (120, 0));
        let balance = hold.balance("day");
        assert_eq!((balance.quantity, balance.allowance, balance.carried), (Some(100), Some(120), 20));
        assert_eq!((balance.remaining, balance.exceeded), (Some(0), false));
        let again = world.reserve("acme").at_least("tokens", 200, 100).partial().id("r").await.expect("a retry");
        assert_eq!(again.balances, hold.balances, "with the carry-over");
        world.extend(hold.name()).tokens(1).await.expect_err("it is used up").is_quota(&["day"]);
        let done = world.commit(hold.name()).tokens(130).await.expect("an overrun");
        assert_eq!((done.balance("day").carried, done.balance("day").exceeded), (20, true));
        world.verify().await;
    }

    /// The first operation of a window may be a refusal, a Record, an Extend, or a Commit of what was not reserved.
    async fn any_first_operation_of_a_window_stores_the_carry_over(world: World) {
        let limits = [of(50, 0), day("requests", 10).named("calls").carrying(100, 0)];
        world.tenant_with("acme", &limits).await;
        world.record("acme").tokens(40).amount("requests", 4).await.expect("it is recorded");
        world.clock.advance(12 * HOUR);
        let hold = world.reserve("acme").tokens(150).ttl(23 * HOUR).await.expect("50 are carried over");
        world.restart().await;
        let done = world.commit(hold.name()).tokens(1).amount("requests", 2).await.expect("it is held");
        assert_eq!((done.balance("calls").carried, done.figures("calls")), (6, (2, 0)));
        world.clock.advance(DAY);
        let hold = world.reserve("acme").tokens(1).ttl(23 * HOUR).await.expect("there is quota");
        world.restart().await;
        let extended = world.extend(hold.name()).amount("requests", 18).await.expect("8 are carried over");
        assert_eq!((extended.balance("calls").carried, extended.balance("day").carried), (8, 50));
        world.clock.advance(DAY);
        world.reserve("acme").amount("requests", 21).await.expect_err("10 are carried over").is_quota(&["calls"]);
        let release = world.release(hold.name()).await.expect("it is kept");
        assert_eq!(release.balance("calls").carried, 8, "of the old window");
        assert_eq!(world.usage("acme").await.balance("calls").carried, 10, "the hold had ended by then");
        let record = world.record("acme").amount("requests", 1).await.expect("it is recorded");
        assert_eq!(record.balance("calls").carried, 10);
        world.verify().await;
    }

    /// A batch decides in order: a Commit that comes before the first use of the window counts.
    async fn operations_of_one_batch_see_each_other(world: World) {
        world.tenant_with("acme", &[of(100, 0)]).await;
        let hold = world.reserve("acme").tokens(60).ttl(20 * HOUR).await.expect("there is quota");
        let other = world.reserve("acme").tokens(40).ttl(20 * HOUR).await.expect("there is quota");
        world.clock.advance(12 * HOUR);
        let operations = vec![
            world.release(hold.name()).operation(),
            world.reserve("acme").tokens(161).operation(),
            world.release(other.name()).operation(),
            world.reserve("acme").tokens(160).operation(),
        ];
        let results = world.batch(operations).await.expect("each stands for itself");
        let passed: Vec<bool> = results
            .iter()
            .map(|result| !matches!(result.result, Some(operation_result::Result::Error(_))))
            .collect();
        assert_eq!(passed, [true, false, true, true], "{results:?}");
        assert_eq!(world.usage("acme").await.balance("day").carried, 60, "as the refused Reserve found it");
    }

    /// Percentages are of the allowance, which includes the carry-over, and events show it.
    async fn thresholds_compare_with_the_allowance_that_includes_the_carry_over(world: World) {
        world.tenant_with("acme", &[of(50, 0).thresholds(&[80])]).await;
        world.record("acme").tokens(75).await.expect("it is recorded");
        world.clock.advance(12 * HOUR);
        for tokens in [99, 1, 24, 1] {
            world.record("acme").tokens(tokens).await.expect("it is recorded");
        }
        world.reserve("acme").tokens(1).await.expect_err("it is used up");
        world.clock.advance(DAY);
        world.close_windows().await;
        let events = world.events_of("acme").await;
        let wanted = [(WindowClosed, 0), (ThresholdReached, 80), (LimitReached, 100), (ReserveRefused, 0), (WindowClosed, 0)];
        let mut found = kinds_of(&events);
        // The first window may have been closed by the job of the server before.
        found.sort_by_key(|(kind, percent)| (*kind as i32, *percent));
        let mut wanted = wanted.to_vec();
        wanted.sort_by_key(|(kind, percent)| (*kind as i32, *percent));
        assert_eq!(found, wanted);
        for event in events.iter().filter(|event| event.balances[0].committed > 75) {
            let balance = &event.balances[0];
            assert_eq!((balance.quantity, balance.allowance, balance.carried), (Some(100), Some(125), 25), "{event:?}");
        }
        let committed: Vec<i64> = events
            .iter()
            .filter(|event| matches!(event.kind(), ThresholdReached | LimitReached))
            .map(|event| event.balances[0].committed)
            .collect();
        assert_eq!(committed, [100, 125]);
    }

    async fn a_wrong_carry_over_is_refused_with_its_path(world: World) {
        world.declare("tokens").await;
        let carry = |percent, quantity| Some(Carry { percent, quantity });
        let cases: [(Limit, &[&str]); 9] = [
            (Limit { carry: carry(0, 0), ..day("tokens", 1) }, &["carry"]),
            (Limit { carry: carry(101, 0), ..day("tokens", 1) }, &["carry.percent"]),
            (Limit { carry: carry(-1, 5), ..day("tokens", 1) }, &["carry.percent"]),
            (Limit { carry: carry(50, -5), ..day("tokens", 1) }, &["carry.quantity"]),
            (Limit { carry: carry(i32::MIN, i64::MIN), ..day("tokens", 1) }, &["carry.percent", "carry.quantity"]),
            (Limit { carry: carry(50, 0), ..lifetime("tokens", 1) }, &["carry"]),
            (Limit { carry: carry(0, 0), ..lifetime("tokens", 1) }, &["carry"]),
            (Limit { carry: carry(0, -1), ..lifetime("tokens", 1) }, &["carry", "carry.quantity"]),
            (Limit { carry: carry(50, 0), ..rolling(HOUR, 1) }, &["carry"]),
        ];
        for (limit, fields) in cases {
            let no = world.plan("wrong", &[day("tokens", 1).named("first"), limit]).await.expect_err("it is wrong");
            let fields: Vec<String> = fields.iter().map(|field| format!("plan.limits[1].{field}")).collect();
            no.names(&fields.iter().map(String::as_str).collect::<Vec<_>>());
            no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
        }
    }

    /// The rows of plans without a carry-over are those of the release before.
    async fn a_plan_returns_the_carry_over_that_it_was_given(world: World) {
        world.declare("tokens").await;
        let limits = [of(50, 0), of(0, 7).named("units"), of(100, i64::MAX).named("both"), day("tokens", 5).named("none")];
        let created = world.plan("free", &limits).await.expect("it is new");
        world.plan("other", &limits[3..]).await.expect("it is new");
        world.restart().await;
        let get = async |id: &str| {
            let request = GetPlanRequest { id: id.into() };
            clients::done(world.admin.clone().get_plan(request).await).expect("it is there")
        };
        let carries = |plan: &Plan| plan.limits.iter().map(|limit| limit.carry).collect::<Vec<_>>();
        let free = get("free").await;
        assert_eq!(carries(&free), limits.iter().map(|limit| limit.carry).collect::<Vec<_>>());
        assert_eq!((carries(&get("other").await), &free.etag), (vec![None], &created.etag));
        let with = "SELECT COUNT(*) FROM plans WHERE limits LIKE '%carry%'";
        assert_eq!(world.database.number(with).await, 1);
        let changed = world.change_plan("free", &[of(51, 0)]).await.expect("it is there");
        assert_ne!(changed.etag, free.etag);
        let same = world.change_plan("free", &[of(51, 0)]).await.expect("it is there");
        assert_eq!((same.etag, same.update_time), (changed.etag, changed.update_time), "nothing changes");
    }
}
