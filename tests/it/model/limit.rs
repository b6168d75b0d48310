//! The limits of the model, and the counters that they read.

use chrono::{Datelike, Timelike};
use chrono_tz::Tz;

use super::{
    steps::{DIMENSIONS, Names, Who},
    window::{Era, Span, Window, local, window_at},
};

/// A calendar of the tenant.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    /// When the tenant got the calendar. Has no effect in the oldest calendar.
    pub since: i64,
    /// The tenant's time zone.
    pub zone: Tz,
    /// When the tenant's subscription began.
    pub anchor_time: i64,
}

/// Where a limit has its anchors from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchors {
    /// From the limit itself.
    Own(Span),
    /// From the tenant's `anchor_time`. The windows are months.
    Tenant,
}

impl Anchors {
    fn span(self, calendar: &Calendar) -> Span {
        match self {
            Anchors::Own(span) => span,
            Anchors::Tenant => {
                let begun = local(calendar.zone, calendar.anchor_time);
                Span::Month(begun.day(), begun.hour() * 60 + begun.minute())
            }
        }
    }

    /// Returns other anchors for the same period. `None`: the period has no anchors.
    pub fn choose(self, choice: usize) -> Option<Anchors> {
        let months = [Anchors::Own(Span::Month(31, 0)), Anchors::Own(Span::Month(15, 120)), Anchors::Tenant];
        match self {
            Anchors::Own(Span::Meter | Span::Lifetime) => None,
            Anchors::Own(Span::Day(_)) => Some(Anchors::Own(Span::Day([0, 120, 390][choice % 3]))),
            Anchors::Own(Span::Month(..)) | Anchors::Tenant => Some(months[choice % 3]),
        }
    }
}

/// A limit in the model.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Id of the limit.
    pub id: &'static str,
    /// Index of the resource.
    pub resource: usize,
    /// The anchors of the limit now.
    pub anchors: Anchors,
    /// Earlier anchors, the oldest first, each with the instant at which it was changed.
    pub past: Vec<(i64, Anchors)>,
    /// For each dimension: the index of the name that the limit selects, if any.
    pub selectors: Names,
    /// Dimensions whose values are counted separately (`per`, `per_labels`).
    pub per: [bool; DIMENSIONS],
    /// Units per window of the limit.
    pub quantity: i64,
    /// Code of the enforcement, as in the proto.
    pub enforcement: usize,
    /// Whether the limit is in its plan at present.
    pub on: bool,
}

const NOBODY: Names = [None; DIMENSIONS];
const AGENT_A: Names = [Some(1), None, None, None, None];
const TOGETHER: [bool; DIMENSIONS] = [false; DIMENSIONS];

fn per(dimensions: &[usize]) -> [bool; DIMENSIONS] {
    std::array::from_fn(|dimension| dimensions.contains(&dimension))
}

/// Returns a limit for plans of tenants. The limits `day` and `day-again` have the same shape.
pub fn menu(index: usize, quantity: i64, enforcement: usize) -> Limit {
    let (midnight, first) = (Anchors::Own(Span::Day(0)), Anchors::Own(Span::Month(1, 0)));
    let (last, ever) = (Anchors::Own(Span::Month(31, 0)), Anchors::Own(Span::Lifetime));
    let team_a = [None, None, None, Some(1), None];
    let (id, resource, anchors, selectors, per) = match index {
        0 => ("day", 0, midnight, NOBODY, TOGETHER),
        1 => ("month", 0, last, NOBODY, TOGETHER),
        2 => ("lifetime", 0, ever, NOBODY, TOGETHER),
        3 => ("day-each-user", 0, midnight, NOBODY, per(&[1])),
        4 => ("day-of-a", 0, midnight, AGENT_A, TOGETHER),
        5 => ("month-each-model-of-a", 0, first, AGENT_A, per(&[2])),
        6 => ("calls", 1, midnight, NOBODY, TOGETHER),
        7 => ("calls-each-agent-and-model", 1, ever, NOBODY, per(&[0, 2])),
        8 => ("day-of-team-a", 0, midnight, team_a, TOGETHER),
        9 => ("calls-each-run", 1, ever, NOBODY, per(&[4])),
        10 => ("calls-each-user-and-run-of-team-a", 1, first, team_a, per(&[1, 4])),
        11 => ("subscription", 0, Anchors::Tenant, NOBODY, TOGETHER),
        _ => ("day-again", 0, midnight, NOBODY, TOGETHER),
    };
    Limit { id, resource, anchors, past: vec![], selectors, per, quantity, enforcement, on: true }
}

/// Returns a limit for plans of agents. The first one has the id of a limit of tenants, and the second one its shape.
pub fn menu_of_agents(index: usize, quantity: i64, enforcement: usize) -> Limit {
    let midnight = Anchors::Own(Span::Day(0));
    let agent_b = [Some(2), None, None, None, None];
    let (id, resource, anchors, selectors, per) = match index {
        0 => ("day", 0, midnight, NOBODY, TOGETHER),
        1 => ("own-day-of-a", 0, midnight, AGENT_A, TOGETHER),
        2 => ("own-month-each-model", 0, Anchors::Own(Span::Month(1, 0)), NOBODY, per(&[2])),
        3 => ("own-calls-of-b", 1, Anchors::Own(Span::Lifetime), agent_b, TOGETHER),
        _ => ("own-calls-each-run", 1, midnight, NOBODY, per(&[0, 4])),
    };
    Limit { id, resource, anchors, past: vec![], selectors, per, quantity, enforcement, on: true }
}

impl Limit {
    /// Returns whether the limit applies to a subject.
    pub fn applies(&self, who: Who) -> bool {
        self.selectors.iter().zip(who).all(|(selector, name)| selector.is_none_or(|wanted| wanted == name))
    }

    /// Returns whether the limit counts the values of a dimension separately. Limits of agents' plans always count the
    /// agent separately (R4.32).
    fn is_apart(&self, dimension: usize, own: bool) -> bool {
        self.per[dimension] || self.selectors[dimension].is_some() || (own && dimension == 0)
    }

    /// Returns whether an override may select these names for this limit (R4.34).
    pub fn admits(&self, names: &Names, own: bool) -> bool {
        names.iter().enumerate().all(|(dimension, name)| match name {
            Some(name) => {
                self.is_apart(dimension, own) && self.selectors[dimension].is_none_or(|only| only == *name)
            }
            None => true,
        })
    }

    /// Returns whether the limit is in its plan and reads this counter.
    pub fn counts(&self, key: &Key, calendars: &[Calendar]) -> bool {
        let mut names = key.names.iter().enumerate();
        self.on
            && self.resource == key.resource
            && names.all(|(dimension, name)| {
                name.is_some() == self.is_apart(dimension, key.own)
                    && self.selectors[dimension].is_none_or(|selected| *name == Some(selected))
            })
            && self.window(calendars, key.window.start) == key.window
    }

    /// Returns the counter of a subject at an instant. `own`: the limit is of an agent's plan.
    pub fn key(&self, calendars: &[Calendar], who: Who, own: bool, at: i64) -> Key {
        let name = |dimension: usize| self.is_apart(dimension, own).then_some(who[dimension]);
        Key {
            resource: self.resource,
            own,
            window: self.window(calendars, at),
            names: std::array::from_fn(name),
        }
    }

    /// Returns the window at an instant, for a tenant with these calendars.
    pub fn window(&self, calendars: &[Calendar], at: i64) -> Window {
        let changes = calendars.iter().skip(1).map(|calendar| calendar.since);
        let mut instants: Vec<i64> = changes.chain(self.past.iter().map(|(until, _)| *until)).collect();
        instants.push(i64::MIN);
        instants.sort_unstable();
        instants.dedup();
        let era = |since: i64| {
            let begun = calendars.iter().skip(1).take_while(|calendar| calendar.since <= since).count();
            let calendar = &calendars[begun];
            let past = self.past.iter().find(|(until, _)| *until > since);
            let anchors = past.map_or(self.anchors, |(_, anchors)| *anchors);
            Era { since, zone: calendar.zone, span: anchors.span(calendar) }
        };
        window_at(&instants.into_iter().map(era).collect::<Vec<_>>(), at)
    }

    /// Returns whether two limits differ only in their ids, quantities and enforcements.
    pub fn is_like(&self, other: &Limit) -> bool {
        let parts = |limit: &Limit| (limit.resource, limit.selectors, limit.per);
        parts(self) == parts(other) && self.anchors == other.anchors
    }
}

/// Identifies a counter of the tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Index of the resource.
    pub resource: usize,
    /// Whether limits of agents' plans read the counter, and no others.
    pub own: bool,
    /// The window in which it counts.
    pub window: Window,
    /// For each dimension that is counted separately: the index of its name.
    pub names: Names,
}

impl Key {
    /// Returns the counter of a resource that no limit covers.
    pub fn of_meter(resource: usize) -> Self {
        let window = Window { span: Span::Meter, start: 0, end: super::window::FOR_EVER };
        Self { resource, own: false, window, names: NOBODY }
    }

    /// Returns whether the window is running at an instant.
    pub fn runs(&self, at: i64) -> bool {
        self.window.start <= at && at < self.window.end
    }
}
