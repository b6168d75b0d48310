//! The limits of the model, and the counters that they read.

use chrono_tz::Tz;

use super::{
    steps::Who,
    window::{Span, window_start},
};

/// What a limit counts.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Its id.
    pub id: &'static str,
    /// Index of the resource.
    pub resource: usize,
    /// Its windows.
    pub span: Span,
    /// Index of the name that each dimension must have.
    pub selectors: [Option<usize>; 3],
    /// Dimensions that count apart.
    pub per: [bool; 3],
    /// Units.
    pub quantity: i64,
    /// As in the contract.
    pub enforcement: usize,
    /// It is in the plan of the day.
    pub on: bool,
}

/// The menu of limits. The first and the last have one shape.
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

    /// Whether it is in the plan, and reads this counter.
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

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Index of the resource.
    pub resource: usize,
    /// Its windows.
    pub span: Span,
    /// First instant of its window.
    pub start: i64,
    /// Index of the name of each dimension that counts apart.
    pub names: [Option<usize>; 3],
}
