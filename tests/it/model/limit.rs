//! The limits of the model, and the counters that they read.

use chrono_tz::Tz;

use super::{
    steps::Who,
    window::{Span, window_start},
};

/// A limit in the model.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Id of the limit.
    pub id: &'static str,
    /// Index of the resource.
    pub resource: usize,
    /// The kind of its windows.
    pub span: Span,
    /// For each dimension: the index of the name that the limit selects, if any.
    pub selectors: [Option<usize>; 3],
    /// Dimensions whose values are counted separately (`per`).
    pub per: [bool; 3],
    /// Units per window of the limit.
    pub quantity: i64,
    /// Code of the enforcement, as in the proto.
    pub enforcement: usize,
    /// Whether the limit is in the current plan.
    pub on: bool,
}

/// Returns a limit of the menu. The first and the last limit have the same shape.
pub fn menu(index: usize, quantity: i64, enforcement: usize) -> Limit {
    let none = ([None; 3], [false; 3]);
    let (id, resource, span, (selectors, per)) = match index {
        0 => ("day", 0, Span::Day, none),
        1 => ("month", 0, Span::Month(31), none),
        2 => ("lifetime", 0, Span::Lifetime, none),
        3 => ("day-each-user", 0, Span::Day, ([None; 3], [false, true, false])),
        4 => ("day-of-a", 0, Span::Day, ([Some(1), None, None], [false; 3])),
        5 => ("month-each-model-of-a", 0, Span::Month(1), ([Some(1), None, None], [false, false, true])),
        6 => ("calls", 1, Span::Day, none),
        7 => ("calls-each-agent-and-model", 1, Span::Lifetime, ([None; 3], [true, false, true])),
        _ => ("day-again", 0, Span::Day, none),
    };
    Limit { id, resource, span, selectors, per, quantity, enforcement, on: true }
}

impl Limit {
    pub fn applies(&self, who: Who) -> bool {
        self.selectors.iter().zip(who).all(|(selector, name)| selector.is_none_or(|wanted| wanted == name))
    }

    /// Returns whether the limit is in the current plan and reads this counter.
    pub fn counts(&self, key: &Key) -> bool {
        let names = key.names.iter().enumerate();
        self.on
            && self.resource == key.resource
            && self.span == key.span
            && names.into_iter().all(|(dimension, name)| match self.selectors[dimension] {
                Some(selected) => *name == Some(selected),
                None => name.is_some() == self.per[dimension],
            })
    }

    pub fn key(&self, zone: Tz, who: Who, at: i64) -> Key {
        let apart = |dimension: usize| self.per[dimension] || self.selectors[dimension].is_some();
        Key {
            resource: self.resource,
            span: self.span,
            start: window_start(zone, self.span, at),
            names: [0, 1, 2].map(|dimension| apart(dimension).then_some(who[dimension])),
        }
    }
}

/// Identifies a counter of the tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Index of the resource.
    pub resource: usize,
    /// The kind of its windows.
    pub span: Span,
    /// First instant of the window.
    pub start: i64,
    /// For each dimension that is counted separately: the index of its name.
    pub names: [Option<usize>; 3],
}
