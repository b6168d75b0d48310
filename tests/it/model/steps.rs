//! The steps of a tenant's life, and how often each step occurs.

use proptest::prelude::*;

use crate::harness::{HOUR, MINUTE, SECOND};

/// Names of the resources, by index. The last resource has no limits, so it is metered.
pub const RESOURCES: [&str; 3] = ["tokens", "requests", "storage"];
/// Values of a dimension, by index. The first value means that the dimension is absent.
pub const NAMES: [&str; 3] = ["", "a", "b"];
/// Time zones by index.
pub const ZONES: [&str; 3] = ["UTC", "America/New_York", "Europe/Lisbon"];

/// Index of agent, user and model in [`NAMES`].
pub type Who = [usize; 3];

/// Index of a resource in [`RESOURCES`], and units.
pub type Units = (usize, i64);

/// A hold that a Reserve or Check asks for.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The agent, user and model that spend.
    pub who: Who,
    /// Resource, quantity, and minimum. The minimum counts only if `partial` is true.
    pub amounts: Vec<(usize, i64, i64)>,
    /// Time until the deadline, in milliseconds.
    pub ttl: i64,
    /// Whether less may be granted (`allow_partial`).
    pub partial: bool,
    /// Whether it is charged at its deadline.
    pub charge: bool,
    /// Whether it has a request_id.
    pub keyed: bool,
}

/// One step of a life. A target is an index of the reservations so far, modulo their number.
#[derive(Clone, Debug)]
pub enum Step {
    /// The rpc Reserve, with its hold.
    Reserve(Hold),
    /// The rpc Check, with its hold.
    Check(Hold),
    /// The rpc Commit: target and amounts.
    Commit(usize, Vec<Units>),
    /// The rpc Release: target.
    Release(usize),
    /// The rpc Extend: target, amounts, ttl, and whether it has a request_id.
    Extend(usize, Vec<Units>, Option<i64>, bool),
    /// The rpc Record: subject, amounts, and whether it has a request_id.
    Record(Who, Vec<Units>, bool),
    /// Repeats a request that has a request_id. The field is an index of the requests sent so far.
    Replay(usize),
    /// Sends a known request_id with another payload. The field is an index of the requests sent so far.
    Reuse(usize),
    /// Several of the steps above in one call.
    Batch(Vec<Step>),
    /// Moves the clock forward, in milliseconds.
    Advance(i64),
    /// Moves the clock back, in milliseconds.
    TurnBack(i64),
    /// Suspends the tenant, or makes it active again.
    Suspend(bool),
    /// Gives each limit another quantity and enforcement.
    ChangeLimits(Vec<(i64, usize)>),
    /// Sets which limits are in the plan, and whether the tenant gets another plan with them.
    Reshape(Vec<bool>, bool),
    /// ResetUsage of one resource, or of all resources, and of one limit, or without limits. The second field is an index
    /// of the limits in the plan, modulo their number.
    Reset(Option<usize>, Option<usize>),
}

/// A tenant, and the steps of its life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Index of the time zone in [`ZONES`].
    pub zone: usize,
    /// Limits of the tenant's plan: index in the menu of limits, quantity and enforcement.
    pub limits: Vec<(usize, i64, usize)>,
    /// The steps, in the order in which they are played.
    pub steps: Vec<Step>,
}

/// Number of limits in the menu.
pub const MENU: usize = 9;

/// Generates lives of at most `steps_max` steps.
pub fn life(steps_max: usize) -> impl Strategy<Value = Life> {
    let limit = (0..MENU, quantity(), enforcement());
    let limits = prop::collection::vec(limit, 0..6).prop_map(|mut limits| {
        limits.sort_unstable();
        limits.dedup_by_key(|limit| limit.0);
        limits
    });
    (0..ZONES.len(), limits, prop::collection::vec(step(), 1..=steps_max))
        .prop_map(|(zone, limits, steps)| Life { zone, limits, steps })
}

/// Generates an enforcement; HARD is the most frequent.
fn enforcement() -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(1_usize), 1 => Just(2_usize), 1 => Just(3_usize)]
}

fn quantity() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0_i64..400, 1 => Just(1_000_000_i64)]
}

fn step() -> impl Strategy<Value = Step> {
    let limits = prop::collection::vec((quantity(), enforcement()), MENU);
    prop_oneof![
        30 => operation(),
        3 => prop::collection::vec(operation(), 1..8).prop_map(Step::Batch),
        8 => advance().prop_map(Step::Advance),
        1 => advance().prop_map(Step::TurnBack),
        1 => any::<bool>().prop_map(Step::Suspend),
        2 => limits.prop_map(Step::ChangeLimits),
        2 => (prop::collection::vec(prop::bool::weighted(0.7), MENU), any::<bool>())
            .prop_map(|(on, moves)| Step::Reshape(on, moves)),
        2 => (prop::option::of(0..RESOURCES.len()), prop::option::of(0..MENU))
            .prop_map(|(resource, limit)| Step::Reset(resource, limit)),
    ]
}

fn operation() -> impl Strategy<Value = Step> {
    let target = 0_usize..64;
    let used = prop::collection::vec((0..RESOURCES.len(), 0_i64..150), 0..3).prop_map(once_each);
    let added = prop::collection::vec((0..RESOURCES.len(), asked(80)), 0..3).prop_map(once_each);
    let recorded = prop::collection::vec((0..RESOURCES.len(), change()), 1..3).prop_map(once_each);
    prop_oneof![
        10 => hold().prop_map(Step::Reserve),
        2 => hold().prop_map(Step::Check),
        8 => (target.clone(), used).prop_map(|(target, used)| Step::Commit(target, used)),
        3 => target.clone().prop_map(Step::Release),
        4 => (target.clone(), added, prop::option::of(ttl()), any::<bool>())
            .prop_map(|(target, added, ttl, keyed)| Step::Extend(target, added, ttl, keyed)),
        4 => (who(), recorded, any::<bool>()).prop_map(|(who, amounts, keyed)| Step::Record(who, amounts, keyed)),
        3 => target.clone().prop_map(Step::Replay),
        1 => target.prop_map(Step::Reuse),
    ]
}

fn hold() -> impl Strategy<Value = Hold> {
    let amount = (0..RESOURCES.len(), asked(120), 0_i64..120);
    let amounts = prop::collection::vec(amount, 1..4).prop_map(|mut amounts| {
        amounts.sort_unstable();
        amounts.dedup_by_key(|amount| amount.0);
        amounts
    });
    (who(), amounts, ttl(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(who, amounts, ttl, partial, charge, keyed)| Hold { who, amounts, ttl, partial, charge, keyed },
    )
}

/// Generates the units of one resource that a request asks for; some requests ask for 0.
fn asked(end: i64) -> impl Strategy<Value = i64> {
    prop_oneof![9 => 1_i64..end, 1 => Just(0_i64)]
}

fn who() -> impl Strategy<Value = Who> {
    prop::array::uniform3(0..NAMES.len())
}

fn ttl() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1_i64), Just(SECOND), Just(5 * MINUTE), Just(HOUR), Just(24 * HOUR)]
}

fn change() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 1_i64..150, 2 => -150_i64..0, 1 => Just(0_i64)]
}

fn advance() -> impl Strategy<Value = i64> {
    prop_oneof![
        2 => Just(1_i64),
        3 => Just(SECOND),
        3 => Just(5 * MINUTE),
        2 => Just(HOUR),
        2 => Just(7 * HOUR),
        2 => Just(24 * HOUR),
        1 => Just(20 * 24 * HOUR),
        1 => Just(33 * 24 * HOUR),
    ]
}

fn once_each(mut amounts: Vec<Units>) -> Vec<Units> {
    amounts.sort_unstable();
    amounts.dedup_by_key(|amount| amount.0);
    amounts
}
