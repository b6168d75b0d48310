//! The dimensions of a subject, and the shapes of limits. A shape decides for which dimensions its counters count
//! separately.

use std::ops::{Index, IndexMut};

use super::{id::ResourceKey, timing::Timing, window::Period};

/// Labels of a call, sorted by their keys, each key once: key and value.
pub type Labels = Vec<(String, String)>;

/// The agent, user and model that spend, with the labels of the call. The names are free; an absent name is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The agent's name, or empty.
    pub agent: String,
    /// The user's name, or empty.
    pub user: String,
    /// The model's name, or empty.
    pub model: String,
    /// The labels of the call.
    pub labels: Labels,
}

impl Subject {
    /// Returns the names of agent, user and model.
    pub fn values(&self) -> PerDimension<&str> {
        PerDimension { agent: &self.agent, user: &self.user, model: &self.model }
    }

    /// Returns the value of a label. A label that the call does not have has the empty value.
    pub fn label(&self, key: &str) -> &str {
        self.labels.iter().find(|(own, _)| own == key).map_or("", |(_, value)| value)
    }
}

/// A part of the subject. A limit can select one of its values, or have a counter of its own for each value.
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
    /// All dimensions, in the order in which counters and rows store them.
    pub const ALL: [Dimension; 3] = [Dimension::Agent, Dimension::User, Dimension::Model];

    /// Returns the name of the dimension in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Agent => "agent",
            Dimension::User => "user",
            Dimension::Model => "model",
        }
    }
}

/// A value for each dimension, indexed by [`Dimension`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PerDimension<T> {
    /// The value for [`Dimension::Agent`].
    pub agent: T,
    /// The value for [`Dimension::User`].
    pub user: T,
    /// The value for [`Dimension::Model`].
    pub model: T,
}

impl<T> PerDimension<T> {
    /// Applies a function to each value.
    pub fn map<U>(self, mut function: impl FnMut(T) -> U) -> PerDimension<U> {
        PerDimension { agent: function(self.agent), user: function(self.user), model: function(self.model) }
    }

    /// Returns the dimensions and references to their values, in the order of [`Dimension::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Dimension, &T)> {
        let Self { agent, user, model } = self;
        PerDimension { agent, user, model }.into_iter()
    }
}

impl<T> Index<Dimension> for PerDimension<T> {
    type Output = T;

    fn index(&self, dimension: Dimension) -> &T {
        match dimension {
            Dimension::Agent => &self.agent,
            Dimension::User => &self.user,
            Dimension::Model => &self.model,
        }
    }
}

impl<T> IndexMut<Dimension> for PerDimension<T> {
    fn index_mut(&mut self, dimension: Dimension) -> &mut T {
        match dimension {
            Dimension::Agent => &mut self.agent,
            Dimension::User => &mut self.user,
            Dimension::Model => &mut self.model,
        }
    }
}

impl<T> IntoIterator for PerDimension<T> {
    type Item = (Dimension, T);
    type IntoIter = std::array::IntoIter<(Dimension, T), 3>;

    fn into_iter(self) -> Self::IntoIter {
        [(Dimension::Agent, self.agent), (Dimension::User, self.user), (Dimension::Model, self.model)]
            .into_iter()
    }
}

impl<T> From<[T; 3]> for PerDimension<T> {
    fn from([agent, user, model]: [T; 3]) -> Self {
        Self { agent, user, model }
    }
}

impl<T> From<PerDimension<T>> for [T; 3] {
    fn from(values: PerDimension<T>) -> Self {
        [values.agent, values.user, values.model]
    }
}

/// The part of a limit that decides which counters the limit reads. Limits of the same shape share their counters
/// (R4.15).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The resource that is counted.
    pub resource: ResourceKey,
    /// Decides where the limit's windows begin.
    pub timing: Timing,
    /// The value that each dimension must have so that the limit applies.
    pub selectors: PerDimension<Option<String>>,
    /// Whether each value of a dimension has a counter of its own.
    pub per: PerDimension<bool>,
    /// The labels whose values count separately, sorted by their keys, each key once.
    pub labels: Vec<LabelRule>,
}

/// The key of a label that no call has. A shape with this label is of a limit of an agent's plan.
pub const OF_AGENTS_PLAN: &str = "";

/// A label whose values a shape counts separately.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelRule {
    /// The key by which calls give the label.
    pub key: String,
    /// The value that the label must have so that the limit applies. `None`: each value has a counter of its own.
    pub selected: Option<String>,
}

impl LabelRule {
    /// Returns whether a limit with this rule applies to a call whose label has this value.
    pub fn accepts(&self, value: &str) -> bool {
        self.selected.as_deref().is_none_or(|selected| selected == value)
    }
}

impl Shape {
    /// Returns whether a limit of this shape applies to the subject.
    pub fn applies_to(&self, subject: &Subject) -> bool {
        let values = subject.values();
        self.selectors.iter().all(|(dimension, selector)| {
            selector.as_deref().is_none_or(|selected| selected == values[dimension])
        }) && self.labels.iter().all(|rule| rule.accepts(subject.label(&rule.key)))
    }

    /// Returns the subject that the selectors name. A shape that does not have many counters has counters for this
    /// subject only.
    pub fn selected(&self) -> Subject {
        let PerDimension { agent, user, model } = self.selectors.clone().map(Option::unwrap_or_default);
        let value = |rule: &LabelRule| (rule.key.clone(), rule.selected.clone().unwrap_or_default());
        Subject { agent, user, model, labels: self.labels.iter().map(value).collect() }
    }

    /// Returns whether the shape has a counter of its own for each value of a dimension or a label.
    pub fn has_many_counters(&self) -> bool {
        self.per.iter().any(|(_, separately)| *separately)
            || self.labels.iter().any(|rule| rule.selected.is_none())
    }

    /// Returns whether both shapes have the same resource, period, dimensions and labels, whatever their anchors. The
    /// duration of ROLLING is no anchor.
    pub fn differs_only_in_anchors(&self, other: &Shape) -> bool {
        let is_rolling = self.timing.period() == Period::Rolling;
        (self.resource, self.timing.period()) == (other.resource, other.timing.period())
            && (!is_rolling || self.timing == other.timing)
            && (&self.selectors, self.per, &self.labels) == (&other.selectors, other.per, &other.labels)
    }

    /// Returns the shape of this limit for an agent that has its plan. It counts the agent separately, by counters that
    /// no limit of the tenant's own plan reads. `None`: the shape selects another agent.
    pub fn of_agents_plan(&self, agent: &str) -> Option<Shape> {
        if self.selectors.agent.as_deref().is_some_and(|selected| selected != agent) {
            return None;
        }
        let mut shape = self.clone();
        (shape.selectors.agent, shape.per.agent) = (Some(agent.to_owned()), false);
        let mark = LabelRule { key: OF_AGENTS_PLAN.to_owned(), selected: Some(String::new()) };
        shape.labels.insert(0, mark);
        Some(shape)
    }

    /// Returns the shape of exactly the counters that both shapes count. `None`: they share no counter.
    pub fn shared_with(&self, other: &Shape) -> Option<Shape> {
        let mut shared = self.clone();
        for dimension in Dimension::ALL {
            if self.counts_separately(dimension) != other.counts_separately(dimension) {
                return None;
            }
            let selector = match (&self.selectors[dimension], &other.selectors[dimension]) {
                (Some(own), Some(others)) if own != others => return None,
                (own, others) => own.as_ref().or(others.as_ref()).cloned(),
            };
            shared.per[dimension] = selector.is_none() && self.per[dimension];
            shared.selectors[dimension] = selector;
        }
        if !self.has_label_keys_of(other) {
            return None;
        }
        for (rule, others) in shared.labels.iter_mut().zip(&other.labels) {
            match (&rule.selected, &others.selected) {
                (Some(own), Some(others)) if own != others => return None,
                (own, others) => rule.selected = own.as_ref().or(others.as_ref()).cloned(),
            }
        }
        let same = (self.resource, &self.timing) == (other.resource, &other.timing);
        same.then_some(shared)
    }

    /// Returns whether this shape counts every counter that the other shape counts.
    pub fn covers(&self, other: &Shape) -> bool {
        let covered = |dimension: Dimension| {
            let (own, others) = (&self.selectors[dimension], &other.selectors[dimension]);
            self.counts_separately(dimension) == other.counts_separately(dimension)
                && (own.is_none() || own == others)
        };
        (self.resource, &self.timing) == (other.resource, &other.timing)
            && Dimension::ALL.into_iter().all(covered)
            && self.has_label_keys_of(other)
            && self
                .labels
                .iter()
                .zip(&other.labels)
                .all(|(own, others)| own.selected.is_none() || own.selected == others.selected)
    }

    fn has_label_keys_of(&self, other: &Shape) -> bool {
        self.labels.iter().map(|rule| &rule.key).eq(other.labels.iter().map(|rule| &rule.key))
    }

    /// Returns whether the value of the dimension is part of the counter's key.
    pub fn counts_separately(&self, dimension: Dimension) -> bool {
        self.per[dimension] || self.selectors[dimension].is_some()
    }
}
