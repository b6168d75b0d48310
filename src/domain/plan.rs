//! What may be spent, and how much of it: resources, limits, plans, and the policy that holds them all.

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

/// Who spends, beside the tenant. Free names; absent is the empty value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The agent.
    pub agent: String,
    /// The user.
    pub user: String,
    /// The model.
    pub model: String,
}

impl Subject {
    /// The values in the order of [`Dimension`].
    pub fn values(&self) -> [&str; 3] {
        [&self.agent, &self.user, &self.model]
    }
}

/// A part of the subject that a limit can select or count apart. The order is that of [`Subject::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// The agent.
    Agent,
    /// The user.
    User,
    /// The model.
    Model,
}

impl Dimension {
    /// All of them, in order.
    pub const ALL: [Dimension; 3] = [Dimension::Agent, Dimension::User, Dimension::Model];

    /// Its name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Agent => "agent",
            Dimension::User => "user",
            Dimension::Model => "model",
        }
    }
}

/// What happens at a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// Reserve and Extend are refused.
    Hard,
    /// They pass; the balance says that it is exceeded.
    Soft,
    /// They pass; the balance says what would have been refused.
    Observe,
}

/// What a limit counts: limits of one shape share their counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The resource.
    pub resource: ResourceKey,
    /// Length of a window.
    pub period: Period,
    /// Day of the month on which a window of MONTH starts, 1-31; 0 for other periods.
    pub anchor_day: u8,
    /// The value that each dimension must have for the limit to apply, in the order of [`Dimension`].
    pub selectors: [Option<String>; 3],
    /// The dimensions that count apart, in the order of [`Dimension`].
    pub per: [bool; 3],
}

impl Shape {
    /// Whether the limit concerns this subject.
    pub fn applies_to(&self, subject: &Subject) -> bool {
        self.selectors
            .iter()
            .zip(subject.values())
            .all(|(selector, value)| selector.as_deref().is_none_or(|selected| selected == value))
    }

    /// The subject of the selectors: the only one of a shape without `per`.
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

    /// The shape of the counters that both shapes count; `None` when there is no such counter.
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

    /// Whether it counts every counter that another shape counts.
    pub fn covers(&self, other: &Shape) -> bool {
        let dimension = |place: usize| {
            self.counts_apart(place) == other.counts_apart(place)
                && (self.selectors[place].is_none() || self.selectors[place] == other.selectors[place])
        };
        (self.resource, self.period, self.anchor_day) == (other.resource, other.period, other.anchor_day)
            && (0..3).all(dimension)
    }

    /// Whether the dimension is part of the counter's key.
    pub fn counts_apart(&self, dimension: usize) -> bool {
        self.per[dimension] || self.selectors[dimension].is_some()
    }
}

/// How much of one resource may be spent in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Unique within its plan.
    pub id: String,
    /// What it counts.
    pub shape: Shape,
    /// Units per window.
    pub quantity: i64,
    /// What happens at the limit.
    pub enforcement: Enforcement,
    /// Whole percentages, ascending.
    pub thresholds: Vec<i32>,
    /// Since when the plan has counted all counters of this shape without a gap.
    pub since: Since,
    /// Narrower shapes that the plan has counted for longer.
    pub kept: Vec<Lineage>,
}

/// A named set of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Key of its rows.
    pub key: PlanKey,
    /// Its plain id.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// In the order in which they were given.
    pub limits: Vec<Arc<Limit>>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was changed last.
    pub updated_at: Millis,
}

impl Plan {
    /// The limits on a resource that concern a subject.
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

/// Something that is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Key of its rows.
    pub key: ResourceKey,
    /// Its plain id.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// What one unit is, for people.
    pub unit: String,
    /// It was deleted: what was spent of it can still be read, and held amounts settled.
    pub deleted: bool,
    /// When it was declared.
    pub created_at: Millis,
    /// When it was changed last.
    pub updated_at: Millis,
}

/// All resources and plans at one revision. Immutable; shared by all who decide.
#[derive(Debug, Default)]
pub struct Policy {
    /// Grows by one with each administrative change to resources or plans.
    pub revision: i64,
    /// Every resource, deleted ones included.
    pub resources: BTreeMap<ResourceKey, Resource>,
    /// Every plan.
    pub plans: BTreeMap<PlanKey, Arc<Plan>>,
    resource_keys: HashMap<String, ResourceKey>,
    plan_keys: HashMap<String, PlanKey>,
}

impl Policy {
    /// Puts rows together.
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

    /// The declared resource of this name.
    pub fn find_resource(&self, id: &str) -> Option<ResourceKey> {
        self.resource_keys.get(id).copied()
    }

    /// The plan of this name.
    pub fn find_plan(&self, id: &str) -> Option<&Arc<Plan>> {
        self.plan_keys.get(id).and_then(|key| self.plans.get(key))
    }

    /// The name of a resource, deleted ones included.
    pub fn resource_id(&self, key: ResourceKey) -> &str {
        self.resources.get(&key).map_or("", |resource| &resource.id)
    }
}
