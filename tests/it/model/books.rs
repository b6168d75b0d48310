//! The model of a tenant's books. It implements the rules a second time, independently of `domain`.
//!
//! The model stores only reservations and adjustments. It computes the figures from them each time.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    limit::{Calendar, Key},
    plans::{Agent, Exception, Name, PLANS, Plan},
    steps::{Hold, NAMES, RESOURCES, Units, Who, ZONES},
};
use crate::harness::{DAY, HOUR};

/// Code of the enforcement HARD; 2 is SOFT and 3 is OBSERVE.
const HARD: usize = 1;

/// The state of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Reserved,
    Committed,
    Released,
    Expired,
}

/// Which units of a resource are charged to a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// All units, except those that were held before an Extend added the counter.
    #[default]
    Held,
    /// All units of the resource.
    Whole,
    /// No units: another subject served the call.
    Nothing,
}

/// The effect of a reservation on a counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// Units that the reservation has reserved.
    pub held: i64,
    /// Units that were added to `committed`.
    pub charged: i64,
    /// The part of `charged` that is no longer in the counter, because the counter was set to zero since (R4.27).
    pub gone: i64,
    /// Which units are charged.
    pub share: Share,
}

/// The amounts of a Commit, and the subject that it charges.
pub type Settled = (Vec<Units>, Who);

/// An Amend: its instant, and for each resource the figures before and after.
pub type Amendment = (i64, Vec<(usize, i64, i64)>);

/// A reservation, with its effect on each counter.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The subject that spends.
    pub who: Who,
    /// The subject that the Commit charged, if it is another one.
    pub served: Option<Who>,
    /// The present state of the reservation.
    pub state: State,
    /// Whether the reservation was committed after its deadline.
    pub late: bool,
    /// Whether the hold is charged at its deadline.
    pub charge: bool,
    /// Whether the reservation is a Record, which was never a hold.
    pub record: bool,
    /// The instant at which the reservation was made.
    pub made: i64,
    /// The `occurred_time` of a Record.
    pub occurred: Option<i64>,
    /// The instant at which the hold expires.
    pub deadline: i64,
    /// The instant at which the reservation was settled.
    pub settled: i64,
    /// For each resource: the reserved and the committed quantity.
    pub amounts: BTreeMap<usize, (i64, i64)>,
    /// The effect on each counter.
    pub lines: BTreeMap<Key, Line>,
    /// What the Commit charged, if the reservation was committed.
    pub commit: Option<Settled>,
    /// The entry after its Commit, before it was amended.
    pub first: Option<Box<Entry>>,
    /// The corrections, the oldest first.
    pub amendments: Vec<Amendment>,
    /// The request_id of the reservation, if it has a request_id.
    pub request_id: Option<String>,
}

/// The reason of a refusal. If there are several reasons, the server may report any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The limits that refuse. The name without an id stands for a resource that no limit covers.
    Quota(Vec<Name>),
    Suspended,
    AgentSuspended,
    Settled,
    Expired,
    TooLong,
    NotCharged,
    WrongInstant,
}

/// The books of one tenant.
#[derive(Clone, Debug)]
pub struct Books {
    /// The tenant's calendars, the oldest first.
    pub calendars: Vec<Calendar>,
    /// The plans of the tenant, and then those of its agents.
    pub plans: [Plan; PLANS],
    /// Index of the tenant's plan.
    pub plan: usize,
    /// The plan that the tenant gets later, and when.
    pub next: Option<(usize, i64)>,
    /// The agents that were declared, by their names.
    pub agents: [Option<Agent>; NAMES.len()],
    /// The overrides, in the order in which they were made.
    pub exceptions: Vec<Exception>,
    /// Whether the tenant is suspended.
    pub suspended: bool,
    /// The time that the clock shows.
    pub clock: i64,
    /// The latest instant at which something was decided.
    pub decided: i64,
    /// All reservations that were ever made.
    pub entries: Vec<Entry>,
    /// Adjustments: the counter, and the units that were added.
    pub adjustments: Vec<(Key, i64)>,
    /// The latest instant at which a counter was set to zero.
    pub zeroed: i64,
    /// The counters that were set to zero because their limits returned. The server sets such a counter to zero when it
    /// is used next. So the model does not know the figures after the window's end, and while no limit reads the
    /// counter.
    pub returned: BTreeSet<Key>,
}

impl Books {
    /// Makes the books of a new tenant.
    pub fn new(zone: usize, plans: [Plan; PLANS], clock: i64) -> Self {
        let zone = ZONES[zone].parse().expect("a zone");
        Self {
            calendars: vec![Calendar { since: clock, zone, anchor_time: clock }],
            plans,
            plan: 0,
            next: None,
            agents: [None; NAMES.len()],
            exceptions: Vec::new(),
            suspended: false,
            clock,
            decided: clock,
            entries: Vec::new(),
            adjustments: Vec::new(),
            zeroed: i64::MIN,
            returned: BTreeSet::new(),
        }
    }

    /// Returns the tenant's time, which never goes back (I9).
    pub fn now(&self) -> i64 {
        self.clock.max(self.decided)
    }

    /// Lets everything happen that is due: holds expire, and the tenant gets its next plan (R4.39).
    pub fn pass(&mut self) {
        if let Some((plan, at)) = self.next.filter(|(_, at)| *at <= self.now()) {
            self.expire(at);
            self.next = None;
            self.change(at, |books| books.plan = plan);
        }
        self.expire(self.now());
    }

    /// Expires all holds that are due at an instant.
    pub fn expire(&mut self, at: i64) {
        let due = |entry: &&mut Entry| entry.state == State::Reserved && entry.deadline <= at;
        for entry in self.entries.iter_mut().filter(due) {
            (entry.state, entry.settled) = (State::Expired, entry.deadline);
            if entry.charge {
                entry.amounts.values_mut().for_each(|(reserved, committed)| *committed = *reserved);
                entry.lines.values_mut().for_each(|line| line.charged = line.held);
            }
        }
    }

    /// Returns committed and reserved of a counter.
    pub fn figures(&self, key: &Key) -> (i64, i64) {
        let adjusted: i64 = self.adjustments.iter().filter(|(of, _)| of == key).map(|(_, by)| by).sum();
        let lines =
            self.entries.iter().filter_map(|entry| entry.lines.get(key).map(|line| (entry.state, line)));
        lines.fold((adjusted, 0), |(committed, reserved), (state, line)| {
            (committed + line.charged, reserved + if state == State::Reserved { line.held } else { 0 })
        })
    }

    /// Returns the counters of a resource for a subject at an instant: those of the limits, or the meter.
    pub fn counters(&self, resource: usize, who: Who, at: i64) -> Vec<Key> {
        let mut keys: Vec<Key> = self.applying(resource, who, at).into_iter().map(|(_, key)| key).collect();
        if keys.is_empty() {
            keys.push(Key::of_meter(resource));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Returns the remaining units of each HARD limit of a resource, by the overrides of the present instant.
    fn remainders(&self, resource: usize, who: Who, at: i64) -> Vec<(Name, i64)> {
        let applying = self.applying(resource, who, at).into_iter();
        let with_terms = applying.map(|(found, key)| (found, self.terms(found, &key, self.now()), key));
        let hard = with_terms.filter(|(_, terms, _)| terms.enforcement == HARD);
        hard.map(|(found, terms, key)| {
            let (committed, reserved) = self.figures(&key);
            (found.name(), terms.quantity - committed - reserved)
        })
        .collect()
    }

    /// Returns who refuses to reserve `least` units of a resource.
    fn refusing(&self, resource: usize, who: Who, at: i64, least: i64) -> Vec<Name> {
        if self.refuses(who[0]) && self.applying(resource, who, at).is_empty() {
            return vec![("", false)];
        }
        let remainders = self.remainders(resource, who, at).into_iter();
        remainders.filter(|(_, left)| *left < least).map(|(name, _)| name).collect()
    }

    fn is_suspended(&self, agent: usize) -> bool {
        self.agents[agent].is_some_and(|agent| agent.suspended)
    }

    /// Returns the units that a Reserve would be granted now.
    pub fn grant(&self, hold: &Hold) -> Result<Vec<Units>, Refusal> {
        if self.suspended {
            return Err(Refusal::Suspended);
        }
        if self.is_suspended(hold.who[0]) {
            return Err(Refusal::AgentSuspended);
        }
        let (mut granted, mut refusing) = (Vec::new(), Vec::new());
        for &(resource, quantity, minimum) in &hold.amounts {
            if quantity == 0 {
                granted.push((resource, 0));
                continue;
            }
            let least = if hold.partial { minimum.clamp(1, quantity) } else { quantity };
            refusing.extend(self.refusing(resource, hold.who, self.now(), least));
            let remainders = self.remainders(resource, hold.who, self.now()).into_iter();
            let left = remainders.map(|(_, left)| left).min().unwrap_or(i64::MAX);
            granted.push((resource, quantity.min(left)));
        }
        refusing.sort_unstable();
        if refusing.is_empty() { Ok(granted) } else { Err(Refusal::Quota(refusing)) }
    }

    /// Makes an entry that concerns nothing yet.
    pub fn entry(&self, who: Who, request_id: Option<String>) -> Entry {
        Entry {
            who,
            served: None,
            state: State::Reserved,
            late: false,
            charge: false,
            record: false,
            made: self.now(),
            occurred: None,
            deadline: 0,
            settled: 0,
            amounts: BTreeMap::new(),
            lines: BTreeMap::new(),
            commit: None,
            first: None,
            amendments: Vec::new(),
            request_id,
        }
    }

    /// Reserves, and returns the index of the entry.
    pub fn reserve(&mut self, hold: &Hold, request_id: Option<String>) -> Result<usize, Refusal> {
        let granted = self.grant(hold)?;
        let mut entry = self.entry(hold.who, request_id);
        (entry.charge, entry.deadline) = (hold.charge, entry.made + hold.ttl);
        for (resource, held) in granted {
            entry.amounts.insert(resource, (held, 0));
            for key in self.counters(resource, hold.who, entry.made) {
                entry.lines.insert(key, Line { held, ..Line::default() });
            }
        }
        self.decided = entry.made;
        self.entries.push(entry);
        Ok(self.entries.len() - 1)
    }

    /// Extends a reservation that is RESERVED.
    pub fn extend(&mut self, index: usize, added: &[Units], ttl: Option<i64>) -> Result<(), Vec<Refusal>> {
        let now = self.now();
        let mut entry = self.entries[index].clone();
        let mut refusals = Vec::new();
        match entry.state {
            State::Reserved => {}
            State::Expired => refusals.push(Refusal::Expired),
            State::Committed | State::Released => refusals.push(Refusal::Settled),
        }
        if self.suspended {
            refusals.push(Refusal::Suspended);
        }
        if self.is_suspended(entry.who[0]) {
            refusals.push(Refusal::AgentSuspended);
        }
        if ttl.is_some_and(|ttl| now + ttl > entry.made + 48 * HOUR) {
            refusals.push(Refusal::TooLong);
        }
        let asked = added.iter().filter(|(_, units)| *units > 0);
        let mut refusing: Vec<Name> = asked
            .flat_map(|&(resource, units)| self.refusing(resource, entry.who, entry.made, units))
            .collect();
        if !refusing.is_empty() {
            refusing.sort_unstable();
            refusals.push(Refusal::Quota(refusing));
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        for &(resource, units) in added {
            entry.amounts.entry(resource).or_default().0 += units;
            let mut keys = self.counters(resource, entry.who, entry.made);
            keys.extend(entry.lines.keys().filter(|key| key.resource == resource).cloned());
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                entry.lines.entry(key).or_default().held += units;
            }
        }
        entry.deadline = entry.deadline.max(ttl.map_or(0, |ttl| now + ttl));
        self.decided = now;
        self.entries[index] = entry;
        Ok(())
    }

    /// Returns whether the remaining units for an entry are unknown, because a window of the entry is over.
    pub fn is_vague(&self, index: usize, resource: usize) -> bool {
        let entry = &self.entries[index];
        let mut read = self.applying(resource, entry.who, entry.made).into_iter();
        read.any(|(_, key)| self.is_unknown(&key))
    }

    /// Returns whether the model does not know the figures of a counter: its limits returned, and since then its window
    /// has ended, or its limits were removed again.
    pub fn is_unknown(&self, key: &Key) -> bool {
        self.returned.contains(key) && (!key.runs(self.now()) || self.reading(key).is_empty())
    }

    /// Returns whether an entry counts in a running window whose figures are unknown. The model does not touch it,
    /// because it does not know what the server subtracts if the limits return once more.
    pub fn is_unclear(&self, index: usize) -> bool {
        let mut keys = self.entries[index].lines.keys();
        keys.any(|key| key.runs(self.now()) && self.is_unknown(key))
    }

    /// Returns whether the server certainly keeps the entry. The server keeps settled entries for 30 days, and the
    /// model leaves a margin of one day.
    pub fn is_kept(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        entry.state == State::Reserved || self.now() < entry.settled + 29 * DAY
    }

    /// Returns the name of a resource.
    pub fn resource(index: usize) -> &'static str {
        RESOURCES[index]
    }
}

impl Entry {
    /// Returns the instant whose windows the entry counts in.
    pub fn counts_at(&self) -> i64 {
        self.occurred.unwrap_or(self.made)
    }

    /// Returns the subject that is charged.
    pub fn charged(&self) -> Who {
        self.served.unwrap_or(self.who)
    }
}
