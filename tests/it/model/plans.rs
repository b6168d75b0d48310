//! What decides which limits apply: the plans of the tenant and of its agents, and overrides.

use super::{
    books::Books,
    limit::{Key, Limit},
    steps::{NAMES, Names, Who},
};

/// Number of plans. The tenant has one of the first two plans, and its agents may have one of the others.
pub const PLANS: usize = 4;

/// A set of limits that a tenant or an agent has.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Id of the plan.
    pub id: String,
    /// The limits. `on` marks those that are in the plan at present.
    pub limits: Vec<Limit>,
    /// Whether the plan has UNCOVERED_REFUSE.
    pub refuses: bool,
}

/// An agent that was declared.
#[derive(Clone, Copy, Debug)]
pub struct Agent {
    /// Index of the agent's plan.
    pub plan: Option<usize>,
    /// Whether the agent is suspended.
    pub suspended: bool,
}

/// An override, which applies for a time.
#[derive(Clone, Debug)]
pub struct Exception {
    /// Id of the override. Later overrides have larger ids.
    pub id: String,
    /// Id of the limit.
    pub limit: &'static str,
    /// The names that it selects.
    pub names: Names,
    /// Replaces the quantity of the limit.
    pub quantity: Option<i64>,
    /// Replaces the enforcement of the limit.
    pub enforcement: Option<usize>,
    /// The start and the end that the request gives.
    pub given: [Option<i64>; 2],
    /// When it was made.
    pub made: i64,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// A limit that applies, with the plan from which it comes.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The limit, without its overrides.
    pub limit: &'a Limit,
    /// Index of the plan.
    pub plan: usize,
    /// Whether an agent has the plan.
    pub own: bool,
}

/// Names a limit: its id, and whether it is of an agent's plan.
pub type Name = (&'static str, bool);

/// What a limit permits for one counter at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Units that are permitted per window.
    pub quantity: i64,
    /// Code of the enforcement.
    pub enforcement: usize,
    /// The override that applies: its id and its end.
    pub exception: Option<(String, Option<i64>)>,
}

impl Found<'_> {
    /// Returns the name of the limit.
    pub fn name(&self) -> Name {
        (self.limit.id, self.own)
    }
}

impl Exception {
    /// Returns since when the override applies.
    fn start(&self) -> i64 {
        self.given[0].unwrap_or(self.made)
    }

    fn is_active(&self, at: i64) -> bool {
        !self.deleted && self.start() <= at && self.given[1].is_none_or(|end| at < end)
    }

    /// Returns whether the override selects the counter, which the limit reads.
    fn selects(&self, found: Found<'_>, key: &Key) -> bool {
        let names = self.names.iter().zip(key.names);
        self.limit == found.limit.id
            && (!found.own || self.names[0].is_some())
            && names.into_iter().all(|(wanted, name)| wanted.is_none() || *wanted == name)
    }

    /// Returns the instants at which the override begins and ends.
    pub fn edges(&self) -> impl Iterator<Item = i64> {
        self.given.into_iter().flatten()
    }
}

impl Books {
    /// Returns the plans whose limits apply to an agent: indexes, and whether the agent has the plan.
    fn plans_of(&self, agent: usize) -> impl Iterator<Item = (usize, bool)> {
        let own = self.agents[agent].and_then(|agent| agent.plan);
        std::iter::once((self.plan, false)).chain(own.map(|plan| (plan, true)))
    }

    /// Returns the limits in these plans.
    fn limits_of(&self, plans: impl Iterator<Item = (usize, bool)>) -> impl Iterator<Item = Found<'_>> {
        plans.flat_map(|(plan, own)| {
            let present = self.plans[plan].limits.iter().filter(|limit| limit.on);
            present.map(move |limit| Found { limit, plan, own })
        })
    }

    /// Returns the limits of a resource that apply to a subject, each with its counter at an instant.
    pub fn applying(&self, resource: usize, who: Who, at: i64) -> Vec<(Found<'_>, Key)> {
        let limits = self.limits_of(self.plans_of(who[0]));
        let applying = limits.filter(|found| found.limit.resource == resource && found.limit.applies(who));
        applying.map(|found| (found, found.limit.key(&self.calendars, who, found.own, at))).collect()
    }

    /// Returns the limits that read a counter.
    pub fn reading(&self, key: &Key) -> Vec<Found<'_>> {
        let agent = key.names[0].filter(|_| key.own);
        let plans = self.plans_of(agent.unwrap_or(0)).filter(|(_, own)| *own == key.own);
        self.limits_of(plans).filter(|found| found.limit.counts(key, &self.calendars)).collect()
    }

    /// Returns what a limit permits for a counter at an instant: the override that selects most applies, and of several
    /// such overrides the youngest (R4.34).
    pub fn terms(&self, found: Found<'_>, key: &Key, at: i64) -> Terms {
        let active = self.exceptions.iter().filter(|made| made.is_active(at) && made.selects(found, key));
        let strongest =
            active.max_by_key(|made| (made.names.iter().flatten().count(), made.made, made.id.clone()));
        let limit = found.limit;
        Terms {
            quantity: strongest.and_then(|made| made.quantity).unwrap_or(limit.quantity),
            enforcement: strongest.and_then(|made| made.enforcement).unwrap_or(limit.enforcement),
            exception: strongest.map(|made| (made.id.clone(), made.given[1])),
        }
    }

    /// Returns what a limit permits as replies show it: for a window that is over, at its end (R4.35).
    pub fn shown(&self, found: Found<'_>, key: &Key) -> Terms {
        self.terms(found, key, self.now().min(key.window.end - 1))
    }

    /// Returns whether an agent's calls are refused if no limit covers the resource (R4.42).
    pub fn refuses(&self, agent: usize) -> bool {
        self.plans_of(agent).any(|(plan, _)| self.plans[plan].refuses)
    }

    /// Returns whether the override fits one of the limits that it names. `None`: it names none of them.
    pub fn fits(&self, made: &Exception) -> Option<bool> {
        let plans = self.plans_of(made.names[0].unwrap_or(0));
        let named = self.limits_of(plans).filter(|found| found.limit.id == made.limit);
        named.map(|found| found.limit.admits(&made.names, found.own)).reduce(|one, other| one || other)
    }

    /// Returns the ids of the limits in the tenant's plan and in the plans of its agents.
    pub fn limit_ids(&self) -> Vec<&'static str> {
        let own = (1..NAMES.len()).filter_map(|agent| Some((self.agents[agent]?.plan?, true)));
        let mut ids: Vec<&str> = self
            .limits_of(std::iter::once((self.plan, false)).chain(own))
            .map(|found| found.limit.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
