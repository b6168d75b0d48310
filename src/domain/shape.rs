//! The dimensions of a subject, and the shapes of limits, which decide for what counters count separately.

use super::{id::ResourceKey, window::Period};

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
    /// Returns agent, user and model, in the order of [`Dimension`].
    pub fn values(&self) -> [&str; 3] {
        [&self.agent, &self.user, &self.model]
    }
}

/// A part of the subject that a limit can select, or for whose values it can count separately. The order is that of
/// [`Subject::values`].
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

    /// Returns the name of the dimension in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Agent => "agent",
            Dimension::User => "user",
            Dimension::Model => "model",
        }
    }
}

/// The part of a limit that decides which counters the limit reads. Limits of the same shape share their counters
/// (R4.15).
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
    /// Returns whether a limit of this shape applies to the subject.
    pub fn applies_to(&self, subject: &Subject) -> bool {
        self.selectors
            .iter()
            .zip(subject.values())
            .all(|(selector, value)| selector.as_deref().is_none_or(|selected| selected == value))
    }

    /// Returns the subject that the selectors name. A shape without `per` has counters for this subject only.
    pub fn selected(&self) -> Subject {
        let [agent, user, model] = self.selectors.clone().map(Option::unwrap_or_default);
        Subject { agent, user, model }
    }

    /// Returns the shape of exactly the counters that both shapes count. `None`: they share no counter.
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

    /// Returns whether this shape counts every counter that the other shape counts.
    pub fn covers(&self, other: &Shape) -> bool {
        let dimension = |place: usize| {
            self.counts_apart(place) == other.counts_apart(place)
                && (self.selectors[place].is_none() || self.selectors[place] == other.selectors[place])
        };
        (self.resource, self.period, self.anchor_day) == (other.resource, other.period, other.anchor_day)
            && (0..3).all(dimension)
    }

    /// Returns whether the value of the dimension is part of the counter's key.
    pub fn counts_apart(&self, dimension: usize) -> bool {
        self.per[dimension] || self.selectors[dimension].is_some()
    }
}
