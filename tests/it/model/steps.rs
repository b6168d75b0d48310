//! The steps of a tenant's life, and how often each step occurs.

use proptest::prelude::*;

use super::{
    changes::{Change, change},
    plans::PLANS,
    policy::Filter,
};
use crate::harness::{DAY, HOUR, MINUTE, SECOND};

/// Names of the resources, by index. The last resource has no limits, so it is metered.
pub const RESOURCES: [&str; 3] = ["tokens", "requests", "storage"];
/// Values of a dimension, by index. The first value means that the dimension is absent.
pub const NAMES: [&str; 3] = ["", "a", "b"];
/// Time zones by index.
pub const ZONES: [&str; 3] = ["UTC", "America/New_York", "Europe/Lisbon"];

/// Number of dimensions: agent, user and model, and two labels, which count like these (R4.31).
pub const DIMENSIONS: usize = 5;
/// Keys of the labels. They are the last dimensions.
pub const LABELS: [&str; 2] = ["team", "run"];

/// A subject: indexes of its agent, user, model and labels in [`NAMES`].
pub type Who = [usize; DIMENSIONS];

/// For each dimension: the index of a name, or none.
pub type Names = [Option<usize>; DIMENSIONS];

/// Agent, user and model that a Commit gives.
pub type Served = [Option<usize>; 3];

/// Index of a resource in [`RESOURCES`], and units.
pub type Units = (usize, i64);

/// A hold that a Reserve or Check asks for.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The subject that spends.
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
    /// The rpc Commit: target, amounts, and the subject that served the call.
    Commit(usize, Vec<Units>, Served),
    /// The rpc Release: target.
    Release(usize),
    /// The rpc Extend: target, amounts, ttl, and whether it has a request_id.
    Extend(usize, Vec<Units>, Option<i64>, bool),
    /// The rpc Record: subject, amounts, when it occurred, and whether it has a request_id. The time is in milliseconds
    /// before the present.
    Record(Who, Vec<Units>, Option<i64>, bool),
    /// The rpc Amend: target and figures.
    Amend(usize, Vec<Units>),
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
    /// A change of the policy, or of the tenant.
    Change(Change),
    /// The rpc ResetUsage, with its filter.
    Reset(Filter),
}

impl Step {
    /// Returns the name of an operation in the tally.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Reserve(_) => "Reserve",
            Step::Check(_) => "Check",
            Step::Commit(..) => "Commit",
            Step::Release(_) => "Release",
            Step::Extend(..) => "Extend",
            Step::Record(..) => "Record",
            Step::Amend(..) => "Amend",
            Step::Replay(_) => "Replay",
            Step::Reuse(_) => "Reuse",
            Step::Batch(_) => "Batch",
            Step::Advance(_) => "Advance",
            Step::TurnBack(_) => "TurnBack",
            Step::Change(change) => change.name(),
            Step::Reset(_) => "Reset",
        }
    }
}

/// A tenant, and the steps of its life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Index of the time zone in [`ZONES`].
    pub zone: usize,
    /// Limits of the plans of the tenant.
    pub limits: Vec<Chosen>,
    /// Limits of the plans of agents.
    pub own: Vec<Chosen>,
    /// The plans of the agents `a` and `b` at first.
    pub agents: [Option<usize>; 2],
    /// The steps, in the order in which they are played.
    pub steps: Vec<Step>,
}

/// A limit: its index in the menu, quantity and enforcement, and which of the two plans have it at first.
pub type Chosen = (usize, i64, usize, [bool; 2]);

/// Number of limits in the menu for tenants.
pub const MENU: usize = 13;
/// Number of limits in the menu for agents.
pub const MENU_OF_AGENTS: usize = 5;

/// Generates lives of at most `steps_max` steps.
pub fn life(steps_max: usize) -> impl Strategy<Value = Life> {
    let steps = prop::collection::vec(step(), 1..=steps_max);
    let agent = || prop::option::weighted(0.6, 2..PLANS);
    (0..ZONES.len(), limits(MENU, 3..10), limits(MENU_OF_AGENTS, 1..5), [agent(), agent()], steps)
        .prop_map(|(zone, limits, own, agents, steps)| Life { zone, limits, own, agents, steps })
}

fn limits(menu: usize, count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Chosen>> {
    let limit = (0..menu, quantity(), enforcement(), [prop::bool::weighted(0.8), prop::bool::weighted(0.4)]);
    prop::collection::vec(limit, count).prop_map(|mut limits| {
        limits.sort_unstable();
        limits.dedup_by_key(|limit| limit.0);
        limits
    })
}

/// Generates an enforcement; HARD is the most frequent.
pub fn enforcement() -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(1_usize), 1 => Just(2_usize), 1 => Just(3_usize)]
}

/// Generates the quantity of a limit.
pub fn quantity() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0_i64..400, 1 => Just(1_000_000_i64)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => operation(),
        3 => prop::collection::vec(operation(), 1..8).prop_map(Step::Batch),
        8 => advance().prop_map(Step::Advance),
        1 => advance().prop_map(Step::TurnBack),
        12 => change().prop_map(Step::Change),
        3 => filter().prop_map(Step::Reset),
    ]
}

/// Generates a filter of ResetUsage. Most filters name no subject.
fn filter() -> impl Strategy<Value = Filter> {
    let names = prop_oneof![7 => Just([None; DIMENSIONS]), 1 => names()];
    let limit = prop_oneof![1 => Just(None), 2 => (0..64_usize).prop_map(Some)];
    (prop::option::weighted(0.3, 0..RESOURCES.len()), limit, names)
        .prop_map(|(resource, limit, names)| Filter { resource, limit, names })
}

/// Generates names in at most two dimensions.
pub fn names() -> impl Strategy<Value = Names> {
    prop::collection::vec((0..DIMENSIONS, 0..NAMES.len()), 1..3).prop_map(|chosen| {
        let mut names = [None; DIMENSIONS];
        chosen.into_iter().for_each(|(dimension, name)| names[dimension] = Some(name));
        names
    })
}

fn operation() -> impl Strategy<Value = Step> {
    let target = 0_usize..64;
    let used = prop::collection::vec((0..RESOURCES.len(), 0_i64..150), 0..3).prop_map(once_each);
    let added = prop::collection::vec((0..RESOURCES.len(), asked(80)), 0..3).prop_map(once_each);
    let recorded = prop::collection::vec((0..RESOURCES.len(), recorded()), 1..3).prop_map(once_each);
    let figures = prop::collection::vec((0..RESOURCES.len(), figure()), 1..3).prop_map(once_each);
    prop_oneof![
        10 => hold().prop_map(Step::Reserve),
        2 => hold().prop_map(Step::Check),
        8 => (target.clone(), used, served())
            .prop_map(|(target, used, served)| Step::Commit(target, used, served)),
        3 => target.clone().prop_map(Step::Release),
        4 => (target.clone(), added, prop::option::of(ttl()), any::<bool>())
            .prop_map(|(target, added, ttl, keyed)| Step::Extend(target, added, ttl, keyed)),
        5 => (who(), recorded, ago(), any::<bool>())
            .prop_map(|(who, amounts, ago, keyed)| Step::Record(who, amounts, ago, keyed)),
        5 => (target.clone(), figures).prop_map(|(target, figures)| Step::Amend(target, figures)),
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
    prop::array::uniform5(prop_oneof![3 => Just(1_usize), 1 => Just(0_usize), 1 => Just(2_usize)])
}

/// Generates who served a call. Most calls are served as they were reserved.
fn served() -> impl Strategy<Value = Served> {
    let value = prop_oneof![2 => Just(None), 1 => (0..NAMES.len()).prop_map(Some)];
    prop_oneof![2 => Just([None; 3]), 1 => prop::array::uniform3(value)]
}

/// Generates how long ago usage occurred: within 35 days, more rarely before, or in the future.
fn ago() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        6 => Just(None),
        4 => prop_oneof![Just(0_i64), Just(HOUR), Just(DAY), Just(9 * DAY), Just(34 * DAY), Just(35 * DAY)]
            .prop_map(Some),
        1 => prop_oneof![Just(-1_i64), Just(35 * DAY + 1)].prop_map(Some),
    ]
}

/// Generates a figure of Amend. There are few of them, so that some Amends repeat others.
fn figure() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0_i64), Just(7), Just(60), Just(160)]
}

fn ttl() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1_i64), Just(SECOND), Just(5 * MINUTE), Just(HOUR), Just(24 * HOUR)]
}

fn recorded() -> impl Strategy<Value = i64> {
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
