//! What can happen to a tenant, and how often.

use proptest::prelude::*;

use crate::harness::{HOUR, MINUTE, SECOND};

/// Resources by index. The last has no limits: it is metered.
pub const RESOURCES: [&str; 3] = ["tokens", "requests", "storage"];
/// Values of the dimensions by index; the first is absent.
pub const NAMES: [&str; 3] = ["", "a", "b"];
/// Time zones by index.
pub const ZONES: [&str; 3] = ["UTC", "America/New_York", "Europe/Lisbon"];

/// Index of agent, user and model in [`NAMES`].
pub type Who = [usize; 3];

/// Index of a resource in [`RESOURCES`], and units.
pub type Units = (usize, i64);

/// A hold that is asked for.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Who spends.
    pub who: Who,
    /// Resource, quantity, and minimum, which counts only when `partial`.
    pub amounts: Vec<(usize, i64, i64)>,
    /// Time to the deadline.
    pub ttl: i64,
    /// Less is of use.
    pub partial: bool,
    /// Charged at the deadline.
    pub charge: bool,
    /// It brings a request_id.
    pub keyed: bool,
}

/// One thing that happens. Targets are indices into what was made so far, taken modulo its length.
#[derive(Clone, Debug)]
pub enum Step {
    /// The rpc.
    Reserve(Hold),
    /// The rpc.
    Check(Hold),
    /// The rpc: target and amounts.
    Commit(usize, Vec<Units>),
    /// The rpc: target.
    Release(usize),
    /// The rpc: target, amounts, time, and whether it brings a request_id.
    Extend(usize, Vec<Units>, Option<i64>, bool),
    /// The rpc: who, amounts, and whether it brings a request_id.
    Record(Who, Vec<Units>, bool),
    /// A request that brought a request_id comes again.
    Replay(usize),
    /// A request_id comes again with another payload.
    Reuse(usize),
    /// Several of the above in one call.
    Batch(Vec<Step>),
    /// Time passes.
    Advance(i64),
    /// The clock goes back.
    TurnBack(i64),
    /// The tenant is suspended, or active again.
    Suspend(bool),
    /// Every limit gets another quantity and enforcement.
    ChangeLimits(Vec<(i64, usize)>),
    /// Which limits are in the plan; whether the tenant gets another plan with them.
    Reshape(Vec<bool>, bool),
    /// ResetUsage of one resource, or all.
    Reset(Option<usize>),
}

/// A tenant and its life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Index in [`ZONES`].
    pub zone: usize,
    /// Which entries of the menu of limits its plan has, with quantity and enforcement.
    pub limits: Vec<(usize, i64, usize)>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// How many kinds of limits the model knows.
pub const MENU: usize = 9;

/// Lives of at most so many steps.
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

/// HARD more often than not.
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
        1 => prop::option::of(0..RESOURCES.len()).prop_map(Step::Reset),
    ]
}

fn operation() -> impl Strategy<Value = Step> {
    let target = 0_usize..64;
    let used = prop::collection::vec((0..RESOURCES.len(), 0_i64..150), 0..3).prop_map(once_each);
    let added = prop::collection::vec((0..RESOURCES.len(), 1_i64..80), 0..3).prop_map(once_each);
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
    let amount = (0..RESOURCES.len(), 1_i64..120, 0_i64..120);
    let amounts = prop::collection::vec(amount, 1..4).prop_map(|mut amounts| {
        amounts.sort_unstable();
        amounts.dedup_by_key(|amount| amount.0);
        amounts
    });
    (who(), amounts, ttl(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(who, amounts, ttl, partial, charge, keyed)| Hold { who, amounts, ttl, partial, charge, keyed },
    )
}

fn who() -> impl Strategy<Value = Who> {
    prop::array::uniform3(0..NAMES.len())
}

fn ttl() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1_i64), Just(SECOND), Just(5 * MINUTE), Just(HOUR), Just(24 * HOUR)]
}

fn change() -> impl Strategy<Value = i64> {
    prop_oneof![3 => 1_i64..150, 1 => -150_i64..0]
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
