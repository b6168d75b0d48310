//! Overrides: exceptions from a limit for one tenant, or for one subject that the limit counts separately, for a time
//! (R4.34).

use std::{collections::HashMap, sync::Arc};

use super::{
    codes::codes,
    counter::CounterKey,
    plan::{Enforcement, Limit, OverrideSource, Source},
    shape::{Dimension, Labels, PerDimension},
    time::Time,
};

/// Maximum number of instants at which overrides of one counter begin or end that a retry hint foresees.
const LATER_MAX: usize = 64;

/// An exception from the limit of one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The id that an operator chose, unique within the tenant.
    pub id: Arc<str>,
    /// The id of the limit.
    pub limit_id: String,
    /// The agent, user and model to which the override applies. `None`: to all values of the dimension.
    pub selectors: PerDimension<Option<String>>,
    /// The labels to which the override applies.
    pub labels: Labels,
    /// Replaces the quantity of the limit.
    pub quantity: Option<i64>,
    /// Replaces the enforcement of the limit.
    pub enforcement: Option<Enforcement>,
    /// Replaces the thresholds of the limit.
    pub thresholds: Option<Vec<i32>>,
    /// When the override begins to apply. `None`: when it was created.
    pub start: Option<Time>,
    /// When the override no longer applies. [`Time::NEVER`]: it has no end.
    pub end: Time,
    /// Why the operator made the override.
    pub reason: String,
    /// When the override was created.
    pub created_at: Time,
    /// When the override was last changed.
    pub updated_at: Time,
}

/// What an override does at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideState {
    /// The override will begin to apply.
    Scheduled,
    /// The override applies at this instant.
    Active,
    /// The override no longer applies.
    Ended,
    /// The override has no effect: no plan has a limit that it fits.
    Inert,
}

codes!(OverrideState as i32: Scheduled = 1, Active = 2, Ended = 3, Inert = 4);

impl Override {
    /// Returns what the override does at `now`, if there is a limit that it fits.
    pub fn state(&self, now: Time) -> OverrideState {
        if self.end <= now {
            OverrideState::Ended
        } else if self.start.unwrap_or(self.created_at) > now {
            OverrideState::Scheduled
        } else {
            OverrideState::Active
        }
    }

    /// Returns whether the override applies to counters of the limit: the limit has its id, and counts separately
    /// whatever the override selects. A limit of an agent's plan also needs an override that selects the agent.
    pub fn fits(&self, limit: &Limit) -> bool {
        self.limit_id == limit.id && self.misfits(limit).is_none()
    }

    /// Returns the first thing that the override selects and the limit does not count separately, such as "user" or
    /// "labels[run]". `None`: there is no such thing.
    pub fn misfits(&self, limit: &Limit) -> Option<String> {
        if limit.source.agent.is_some() && self.selectors.agent.is_none() {
            return Some(Dimension::Agent.name().to_owned());
        }
        let is_counted = |dimension: Dimension, value: &str| {
            let selector = limit.shape.selectors[dimension].as_deref();
            limit.shape.counts_separately(dimension) && selector.is_none_or(|selected| selected == value)
        };
        for (dimension, value) in self.selectors.iter() {
            if value.as_deref().is_some_and(|value| !is_counted(dimension, value)) {
                return Some(dimension.name().to_owned());
            }
        }
        let is_label_counted = |key: &str, value: &str| {
            limit.shape.labels.iter().any(|rule| rule.key == key && rule.accepts(value))
        };
        let wrong = self.labels.iter().find(|(key, value)| !is_label_counted(key, value));
        wrong.map(|(key, _)| format!("labels[{key}]"))
    }

    /// Returns the number of things that the override selects.
    fn selectors_given(&self) -> usize {
        self.selectors.iter().filter(|(_, value)| value.is_some()).count() + self.labels.len()
    }

    /// Returns the limit with the values of the override.
    fn replace(&self, limit: &Limit) -> Arc<Limit> {
        let source = OverrideSource { id: Arc::clone(&self.id), end: self.end };
        Arc::new(Limit {
            quantity: self.quantity.unwrap_or(limit.quantity),
            enforcement: self.enforcement.unwrap_or(limit.enforcement),
            thresholds: self.thresholds.clone().unwrap_or_else(|| limit.thresholds.clone()),
            source: Source { replaced_by: Some(source), ..limit.source.clone() },
            ..limit.clone()
        })
    }
}

/// A limit, and the overrides that fit it. Finds the override for a counter without a look at the others.
#[derive(Clone, Debug)]
pub struct Overridden {
    limit: Arc<Limit>,
    selections: Vec<Selection>,
}

/// The overrides of a limit that select the same dimensions and labels, by the values that they select.
#[derive(Clone, Debug)]
struct Selection {
    dimensions: PerDimension<bool>,
    labels: Vec<String>,
    by_values: HashMap<String, Vec<Replacement>>,
}

/// An override, with the limit that applies instead.
#[derive(Clone, Debug)]
struct Replacement {
    made: Arc<Override>,
    limit: Arc<Limit>,
}

impl Overridden {
    /// Joins a limit with overrides. Overrides that do not fit the limit are left out. `None`: none of them fits.
    pub fn of(limit: &Arc<Limit>, overrides: &[Arc<Override>]) -> Option<Self> {
        let mut selections: Vec<Selection> = Vec::new();
        for made in overrides.iter().filter(|made| made.fits(limit)) {
            let dimensions = made.selectors.clone().map(|value| value.is_some());
            let labels: Vec<String> = made.labels.iter().map(|(key, _)| key.clone()).collect();
            let place = selections
                .iter()
                .position(|selection| selection.dimensions == dimensions && selection.labels == labels);
            let place = place.unwrap_or_else(|| {
                selections.push(Selection { dimensions, labels, by_values: HashMap::new() });
                selections.len() - 1
            });
            let dimensions = made.selectors.iter().filter_map(|(_, value)| value.as_deref());
            let values = joined(dimensions.chain(made.labels.iter().map(|(_, value)| value.as_str())));
            let replacement = Replacement { made: Arc::clone(made), limit: made.replace(limit) };
            selections[place].by_values.entry(values).or_default().push(replacement);
        }
        (!selections.is_empty()).then(|| Self { limit: Arc::clone(limit), selections })
    }

    /// Returns the limit that applies to a counter at `now`: with the values of the override that selects most, and of
    /// several such overrides the youngest.
    pub fn at(&self, key: &CounterKey, now: Time) -> &Arc<Limit> {
        let active = self.of_counter(key).filter(|found| found.made.state(now) == OverrideState::Active);
        let strongest = active
            .max_by_key(|found| (found.made.selectors_given(), found.made.created_at, found.made.id.clone()));
        strongest.map_or(&self.limit, |found| &found.limit)
    }

    /// Returns the instants after `now` at which another limit begins to apply to a counter, each with that limit.
    pub fn later(&self, key: &CounterKey, now: Time) -> Vec<(Time, Arc<Limit>)> {
        let mut instants: Vec<Time> = self
            .of_counter(key)
            .flat_map(|found| [found.made.start, Some(found.made.end)])
            .flatten()
            .filter(|instant| *instant > now && *instant != Time::NEVER)
            .collect();
        instants.sort_unstable();
        instants.dedup();
        let unread = instants.get(LATER_MAX).copied();
        instants.truncate(LATER_MAX);
        let mut before = self.at(key, now);
        let mut later = Vec::new();
        for instant in instants {
            let limit = self.at(key, instant);
            if !Arc::ptr_eq(limit, before) {
                later.push((instant, Arc::clone(limit)));
                before = limit;
            }
        }
        // What applies from here on is not looked up. A limit that refuses nothing makes the hint too early, and never
        // too late.
        later.extend(unread.map(|instant| {
            (instant, Arc::new(Limit { enforcement: Enforcement::Soft, ..Limit::clone(&self.limit) }))
        }));
        later
    }

    /// Returns the replacements whose overrides select the counter.
    fn of_counter<'s, 'k>(
        &'s self,
        key: &'k CounterKey,
    ) -> impl Iterator<Item = &'s Replacement> + use<'s, 'k> {
        self.selections.iter().filter_map(|selection| selection.find(key)).flatten()
    }
}

impl Selection {
    fn find(&self, key: &CounterKey) -> Option<&Vec<Replacement>> {
        let values = key.dimensions();
        let dimensions = self.dimensions.iter().filter(|(_, selected)| **selected);
        let dimensions = dimensions.map(|(dimension, _)| values[dimension].unwrap_or_default());
        let label =
            |wanted: &String| key.labels().find(|(own, _)| own == wanted).map_or("", |(_, value)| value);
        self.by_values.get(&joined(dimensions.chain(self.labels.iter().map(label))))
    }
}

/// Joins values to one text. Different lists of values make different texts.
fn joined<'a>(values: impl Iterator<Item = &'a str>) -> String {
    values.fold(String::new(), |text, value| text + &value.len().to_string() + ":" + value)
}
