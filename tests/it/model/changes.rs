//! The changes that operators make in a life, and how often each of them occurs.

use proptest::prelude::*;

use super::{
    plans::PLANS,
    steps::{MENU, NAMES, Names, ZONES, enforcement, names, quantity},
};
use crate::harness::{DAY, HOUR};

/// The instants at which a subscription may have begun, by index: 31 January 2026 08:30 and 5 November 2025, in UTC.
pub const BEGINNINGS: [&str; 2] = ["2026-01-31T08:30:00Z", "2025-11-05T00:00:00Z"];

/// A change of the policy, or of the tenant.
#[derive(Clone, Debug)]
pub enum Change {
    /// Suspends the tenant, or makes it active again.
    Suspend(bool),
    /// Gives each limit of each plan another quantity and enforcement.
    Limits(Vec<(i64, usize)>),
    /// Sets which limits are in a plan.
    Shape(usize, Vec<bool>),
    /// Sets whether a plan refuses resources that no limit covers.
    Uncovered(usize, bool),
    /// Gives the tenant its other plan at once.
    Move,
    /// Schedules the change to the tenant's other plan, after this time or at the end of the month.
    Schedule(Option<i64>),
    /// Withdraws a scheduled change of plan.
    Stay,
    /// Gives a limit of a plan other anchors.
    Anchors(usize, usize, usize),
    /// Gives the tenant another zone.
    Zone(usize),
    /// Says that the subscription of the tenant began at another instant of [`BEGINNINGS`].
    Begin(usize),
    /// Declares an agent, or gives it another plan.
    Agent(usize, Option<usize>),
    /// Suspends an agent that was declared, or makes it active again.
    SuspendAgent(usize, bool),
    /// Deletes an agent that was declared.
    DeleteAgent(usize),
    /// Creates an override of a limit.
    Except(Except),
    /// Changes the quantity of an override.
    Alter(usize, i64),
    /// Deletes an override that was made.
    Withdraw(usize),
}

impl Change {
    /// Returns the name of the change in the tally.
    pub fn name(&self) -> &'static str {
        match self {
            Change::Suspend(_) => "Suspend",
            Change::Limits(_) => "Limits",
            Change::Shape(..) => "Shape",
            Change::Uncovered(..) => "Uncovered",
            Change::Move => "Move",
            Change::Schedule(_) => "Schedule",
            Change::Stay => "Stay",
            Change::Anchors(..) => "Anchors",
            Change::Zone(_) => "Zone",
            Change::Begin(_) => "Begin",
            Change::Agent(..) => "Agent",
            Change::SuspendAgent(..) => "SuspendAgent",
            Change::DeleteAgent(_) => "DeleteAgent",
            Change::Except(_) => "Except",
            Change::Alter(..) => "Alter",
            Change::Withdraw(_) => "Withdraw",
        }
    }
}

/// An override that is to be made.
#[derive(Clone, Debug)]
pub struct Except {
    /// Whether it is for a limit of an agent's plan.
    pub own: bool,
    /// Whether any limit of the menu is meant. Otherwise it is a limit of the plans, which may be out of them now.
    pub any: bool,
    /// Index of the limit, modulo the number of limits.
    pub limit: usize,
    /// Names that it may select.
    pub names: Names,
    /// Whether it selects only what the limit counts separately.
    pub fits: bool,
    /// Replaces the quantity of the limit.
    pub quantity: Option<i64>,
    /// Replaces the enforcement of the limit.
    pub enforcement: Option<usize>,
    /// When it starts, and when it ends after that, in milliseconds from now.
    pub times: [Option<i64>; 2],
}

/// Generates a change of any kind.
pub fn change() -> impl Strategy<Value = Change> {
    let limits = prop::collection::vec((quantity(), enforcement()), MENU);
    let shape = (0..PLANS, prop::collection::vec(prop::bool::weighted(0.7), MENU));
    let agent = 1..NAMES.len();
    prop_oneof![
        2 => prop::bool::weighted(0.3).prop_map(Change::Suspend),
        2 => limits.prop_map(Change::Limits),
        5 => shape.prop_map(|(plan, on)| Change::Shape(plan, on)),
        2 => (0..PLANS, prop::bool::weighted(0.4)).prop_map(|(plan, on)| Change::Uncovered(plan, on)),
        2 => Just(Change::Move),
        3 => prop::option::weighted(0.8, later()).prop_map(Change::Schedule),
        1 => Just(Change::Stay),
        4 => (0..PLANS, 0..MENU, 0..3_usize).prop_map(|(plan, limit, choice)| Change::Anchors(plan, limit, choice)),
        2 => (0..ZONES.len()).prop_map(Change::Zone),
        2 => (0..BEGINNINGS.len()).prop_map(Change::Begin),
        5 => (agent.clone(), prop::option::weighted(0.9, 2..PLANS)).prop_map(|(agent, plan)| Change::Agent(agent, plan)),
        3 => (agent.clone(), prop::bool::weighted(0.6)).prop_map(|(agent, is)| Change::SuspendAgent(agent, is)),
        1 => agent.prop_map(Change::DeleteAgent),
        6 => except().prop_map(Change::Except),
        2 => (0..16_usize, quantity()).prop_map(|(which, quantity)| Change::Alter(which, quantity)),
        1 => (0..16_usize).prop_map(Change::Withdraw),
    ]
}

fn except() -> impl Strategy<Value = Except> {
    let limit = (prop::bool::weighted(0.3), prop::bool::weighted(0.1), 0..64_usize);
    let names = prop_oneof![1 => Just([None; 5]), 2 => names()];
    let replaced = prop_oneof![
        3 => quantity().prop_map(|quantity| (Some(quantity), None)),
        1 => enforcement().prop_map(|how| (None, Some(how))),
        1 => (quantity(), enforcement()).prop_map(|(quantity, how)| (Some(quantity), Some(how))),
    ];
    let times = [prop::option::weighted(0.4, later()), prop::option::weighted(0.6, later())];
    (limit, names, prop::bool::weighted(0.9), replaced, times).prop_map(
        |((own, any, limit), names, fits, (quantity, enforcement), times)| Except {
            own,
            any,
            limit,
            names,
            fits,
            quantity,
            enforcement,
            times,
        },
    )
}

/// Generates a time that a life is likely to reach.
fn later() -> impl Strategy<Value = i64> {
    prop_oneof![Just(HOUR), Just(5 * HOUR), Just(DAY), Just(3 * DAY), Just(20 * DAY)]
}
