//! The policy: resources, and plans with their limits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    counter::CounterKey,
    id::{PlanKey, ResourceKey},
    lineage::{Lineage, Since},
    window::{Millis, Period},
};

/// Who spends, apart from the tenant. The names are free; an absent name is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The agent's name, or empty.
    pub agent: String,
    /// The user's name, or empty.
    pub user: String,
    /// The model's name, or empty.
    pub model: String,
}

impl Subject {
    /// Agent, user and model, in the order of [`Dimension`].
    pub fn values(&self) -> [&str; 3] {
        [&self.agent, &self.user, &self.model]
    }
}

/// A part of the subject that a limit can select or count apart. The order is that of [`Subject::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// The agent of a subject.
    Agent,
    /// The user of a subject.
    User,
    /// The model of a subject.
    Model,
}

impl Dimension {
    /// All dimensions, in the order of [`Subject::values`].
    pub const ALL: [Dimension; 3] = [Dimension::Agent, Dimension::User, Dimension::Model];

    /// The name of the dimension in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Agent => "agent",
            Dimension::User => "user",
            Dimension::Model => "model",
        }
    }
}

/// What a limit does when its allowance is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// It refuses Reserve and Extend.
    Hard,
    /// It lets them pass, and the balance shows the excess.
    Soft,
    /// It lets them pass, and counts what a HARD limit would have refused.
    Observe,
}

/// What decides which counters a limit reads. Limits of one shape share their counters (R4.15).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The resource that is counted.
    pub resource: ResourceKey,
    /// The length of a window.
    pub period: Period,
    /// Day of the month on which a MONTH begins, 1-31; 0 for other periods.
    pub anchor_day: u8,
    /// The value that each dimension must have so that the limit applies, in the order of [`Dimension`].
    pub selectors: [Option<String>; 3],
    /// Whether each value of a dimension has a counter of its own, in the order of [`Dimension`].
    pub per: [bool; 3],
}

impl Shape {
    /// Whether a limit of this shape applies to the subject.
    pub fn applies_to(&self, subject: &Subject) -> bool {
        self.selectors
            .iter()
            .zip(subject.values())
            .all(|(selector, value)| selector.as_deref().is_none_or(|selected| selected == value))
    }

    /// The subject that the selectors name. A shape without `per` has counters for this subject only.
    pub fn selected(&self) -> Subject {
        let [agent, user, model] = self.selectors.clone().map(Option::unwrap_or_default);
        Subject { agent, user, model }
    }

    /// Whether a limit of this shape reads the counter.
    pub fn counts(&self, key: &CounterKey) -> bool {
        let values = key.dimensions();
        let dimension = |place: usize| {
            self.counts_apart(place) == values[place].is_some()
                && self.selectors[place].as_deref().is_none_or(|selected| values[place] == Some(selected))
        };
        self.resource == key.resource()
            && self.period == key.period()
            && self.anchor_day == key.anchor_day()
            && (0..3).all(dimension)
    }

    /// The shape of exactly the counters that both shapes count. `None`: they share no counter.
    pub fn shared_with(&self, other: &Shape) -> Option<Shape> {
        let mut shared = self.clone();
        for place in 0..3 {
            if self.counts_apart(place) != other.counts_apart(place) {
                return None;
            }
            let selector = match (&self.selectors[place], &other.selectors[place]) {
                (Some(own), Some(others)) if own != others => return None,
                (own, others) => own.as_ref().or(others.as_ref()).cloned(),
            };
            shared.per[place] = selector.is_none() && self.per[place];
            shared.selectors[place] = selector;
        }
        let same =
            (self.resource, self.period, self.anchor_day) == (other.resource, other.period, other.anchor_day);
        same.then_some(shared)
    }

    /// Whether this shape counts every counter that the other shape counts.
    pub fn covers(&self, other: &Shape) -> bool {
        let dimension = |place: usize| {
            self.counts_apart(place) == other.counts_apart(place)
                && (self.selectors[place].is_none() || self.selectors[place] == other.selectors[place])
        };
        (self.resource, self.period, self.anchor_day) == (other.resource, other.period, other.anchor_day)
            && (0..3).all(dimension)
    }

    /// Whether the value of the dimension is part of the counter's key.
    pub fn counts_apart(&self, dimension: usize) -> bool {
        self.per[dimension] || self.selectors[dimension].is_some()
    }
}

/// How much of one resource may be spent in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// A stable id, unique within its plan.
    pub id: String,
    /// Decides which counters the limit reads.
    pub shape: Shape,
    /// Units that may be spent per window.
    pub quantity: i64,
    /// What happens when the quantity is used up.
    pub enforcement: Enforcement,
    /// Percentages of the quantity at which events are emitted, ascending.
    pub thresholds: Vec<i32>,
    /// Since when the plan has counted every counter of this shape without a gap.
    pub since: Since,
    /// Narrower shapes that the plan has counted without a gap since an earlier instant.
    pub kept: Vec<Lineage>,
}

/// A named set of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The key of the plan's rows.
    pub key: PlanKey,
    /// The id that people chose.
    pub id: String,
    /// A name for people to read.
    pub display_name: String,
    /// The limits in the order in which they were given.
    pub limits: Vec<Arc<Limit>>,
    /// When the plan was created.
    pub created_at: Millis,
    /// When the plan was last changed.
    pub updated_at: Millis,
}

impl Plan {
    /// The limits on a resource that apply to a subject.
    pub fn limits_for<'a>(
        &'a self,
        resource: ResourceKey,
        subject: &'a Subject,
    ) -> impl Iterator<Item = &'a Arc<Limit>> {
        self.limits
            .iter()
            .filter(move |limit| limit.shape.resource == resource && limit.shape.applies_to(subject))
    }
}

/// A kind of thing that is spent, such as `tokens`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The key of the resource's rows.
    pub key: ResourceKey,
    /// The id that people chose.
    pub id: String,
    /// A name for people to read.
    pub display_name: String,
    /// What one unit is, for people to read.
    pub unit: String,
    /// Whether it was deleted. Its usage can still be read, and its holds settled.
    pub deleted: bool,
    /// When the resource was declared.
    pub created_at: Millis,
    /// When the resource was last changed.
    pub updated_at: Millis,
}

/// All resources and plans at one revision. A policy is immutable, and lanes and readers share it.
#[derive(Debug, Default)]
pub struct Policy {
    /// Grows by one with each change to a resource or a plan.
    pub revision: i64,
    /// Every resource, including the deleted resources.
    pub resources: BTreeMap<ResourceKey, Resource>,
    /// Every plan that exists, by key.
    pub plans: BTreeMap<PlanKey, Arc<Plan>>,
    resource_keys: HashMap<String, ResourceKey>,
    plan_keys: HashMap<String, PlanKey>,
}

impl Policy {
    /// Makes a policy of the rows of one revision.
    pub fn new(revision: i64, resources: Vec<Resource>, plans: Vec<Plan>) -> Self {
        let declared = resources.iter().filter(|resource| !resource.deleted);
        let resource_keys = declared.map(|resource| (resource.id.clone(), resource.key)).collect();
        let plan_keys = plans.iter().map(|plan| (plan.id.clone(), plan.key)).collect();
        Self {
            revision,
            resources: resources.into_iter().map(|resource| (resource.key, resource)).collect(),
            plans: plans.into_iter().map(|plan| (plan.key, Arc::new(plan))).collect(),
            resource_keys,
            plan_keys,
        }
    }

    /// The key of the resource with this id, unless it was deleted.
    pub fn find_resource(&self, id: &str) -> Option<ResourceKey> {
        self.resource_keys.get(id).copied()
    }

    /// The plan with this id.
    pub fn find_plan(&self, id: &str) -> Option<&Arc<Plan>> {
        self.plan_keys.get(id).and_then(|key| self.plans.get(key))
    }

    /// The id of a resource, which may be deleted. Empty: no such resource.
    pub fn resource_id(&self, key: ResourceKey) -> &str {
        self.resources.get(&key).map_or("", |resource| &resource.id)
    }
}
