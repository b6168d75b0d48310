//! The model of a tenant's books. It implements the rules a second time, independently of `domain`.
//!
//! The model stores only reservations and adjustments. It computes the figures from them each time.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::{
    limit::{Key, Limit},
    steps::{Hold, NAMES, RESOURCES, Units, Who, ZONES},
    window::{Span, window_start},
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

/// A reservation, with its effect on each counter.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The agent, user and model that spend.
    pub who: Who,
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
    /// The instant at which the hold expires.
    pub deadline: i64,
    /// The instant at which the reservation was settled.
    pub settled: i64,
    /// For each resource: the reserved and the committed quantity.
    pub amounts: BTreeMap<usize, (i64, i64)>,
    /// For each counter: the held and the charged quantity.
    pub lines: BTreeMap<Key, (i64, i64)>,
    /// The amounts of the Commit, if the reservation was committed.
    pub commit: Option<Vec<Units>>,
    /// The request_id of the reservation, if it has a request_id.
    pub request_id: Option<String>,
}

/// The reason of a refusal. If there are several reasons, the server may report any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Quota(Vec<&'static str>),
    Suspended,
    Settled,
    Expired,
    TooLong,
}

/// The books of one tenant.
#[derive(Clone, Debug)]
pub struct Books {
    /// The tenant's time zone.
    pub zone: Tz,
    /// The limits of the tenant's plans. `on` marks the limits of the current plan.
    pub limits: Vec<Limit>,
    /// Whether the tenant is suspended.
    pub suspended: bool,
    /// The time that the clock shows.
    pub clock: i64,
    /// The latest instant at which something was decided.
    pub decided: i64,
    /// All reservations that were ever made.
    pub entries: Vec<Entry>,
    /// Adjustments: the instant, the counter, and the units that were added.
    pub adjustments: Vec<(i64, Key, i64)>,
    /// For each counter: the instant up to which charges at deadlines are forgiven.
    pub forgiven: BTreeMap<Key, i64>,
    /// Whether limits were added or removed. If so, the model does not know the figures of windows that are over,
    /// because they depend on when the counters were used.
    pub reshaped: bool,
}

impl Books {
    /// Makes the books of a new tenant.
    pub fn new(zone: usize, limits: Vec<Limit>, clock: i64) -> Self {
        Self {
            zone: ZONES[zone].parse().expect("a zone"),
            limits,
            suspended: false,
            clock,
            decided: clock,
            entries: Vec::new(),
            adjustments: Vec::new(),
            forgiven: BTreeMap::new(),
            reshaped: false,
        }
    }

    /// Returns the tenant's time, which never goes back (I9).
    pub fn now(&self) -> i64 {
        self.clock.max(self.decided)
    }

    /// Expires all holds that are due.
    pub fn expire(&mut self) {
        let now = self.now();
        let due = |entry: &&mut Entry| entry.state == State::Reserved && entry.deadline <= now;
        for entry in self.entries.iter_mut().filter(due) {
            (entry.state, entry.settled) = (State::Expired, entry.deadline);
            if entry.charge {
                entry.amounts.values_mut().for_each(|(reserved, committed)| *committed = *reserved);
                entry.lines.values_mut().for_each(|(held, charged)| *charged = *held);
            }
        }
    }

    /// Returns committed and reserved of a counter.
    pub fn figures(&self, key: &Key) -> (i64, i64) {
        let adjusted: i64 = self.adjustments.iter().filter(|(_, of, _)| of == key).map(|(.., by)| by).sum();
        let lines =
            self.entries.iter().filter_map(|entry| entry.lines.get(key).map(|line| (entry.state, line)));
        lines.fold((adjusted, 0), |(committed, reserved), (state, (held, charged))| {
            (committed + charged, reserved + if state == State::Reserved { *held } else { 0 })
        })
    }

    /// Returns the limits of a resource that apply to a subject, each with its counter at an instant.
    pub fn applying(&self, resource: usize, who: Who, at: i64) -> Vec<(&Limit, Key)> {
        let concerned =
            self.limits.iter().filter(|limit| limit.on && limit.resource == resource && limit.applies(who));
        concerned.map(|limit| (limit, limit.key(self.zone, who, at))).collect()
    }

    /// Returns the counters of a resource for a subject at an instant: those of the limits, or the meter.
    pub fn counters(&self, resource: usize, who: Who, at: i64) -> Vec<Key> {
        let mut keys: Vec<Key> = self.applying(resource, who, at).into_iter().map(|(_, key)| key).collect();
        if keys.is_empty() {
            keys.push(Key { resource, span: Span::Meter, start: 0, names: [None; 3] });
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Returns the remaining units of each HARD limit of a resource.
    fn remainders(&self, resource: usize, who: Who, at: i64) -> Vec<(&'static str, i64)> {
        let applying = self.applying(resource, who, at).into_iter();
        let hard = applying.filter(|(limit, _)| limit.enforcement == HARD);
        hard.map(|(limit, key)| {
            let (committed, reserved) = self.figures(&key);
            (limit.id, limit.quantity - committed - reserved)
        })
        .collect()
    }

    /// Returns the units that a Reserve would be granted now.
    pub fn grant(&self, hold: &Hold) -> Result<Vec<Units>, Refusal> {
        if self.suspended {
            return Err(Refusal::Suspended);
        }
        let (mut granted, mut refusing) = (Vec::new(), Vec::new());
        for &(resource, quantity, minimum) in &hold.amounts {
            if quantity == 0 {
                granted.push((resource, 0));
                continue;
            }
            let least = if hold.partial { minimum.clamp(1, quantity) } else { quantity };
            let remainders = self.remainders(resource, hold.who, self.now());
            refusing.extend(remainders.iter().filter(|(_, left)| *left < least).map(|(id, _)| *id));
            let left = remainders.into_iter().map(|(_, left)| left).min().unwrap_or(i64::MAX);
            granted.push((resource, quantity.min(left)));
        }
        refusing.sort_unstable();
        if refusing.is_empty() { Ok(granted) } else { Err(Refusal::Quota(refusing)) }
    }

    /// Reserves, and returns the index of the entry.
    pub fn reserve(&mut self, hold: &Hold, request_id: Option<String>) -> Result<usize, Refusal> {
        let granted = self.grant(hold)?;
        let now = self.now();
        let mut entry = Entry {
            who: hold.who,
            state: State::Reserved,
            late: false,
            charge: hold.charge,
            record: false,
            made: now,
            deadline: now + hold.ttl,
            settled: 0,
            amounts: BTreeMap::new(),
            lines: BTreeMap::new(),
            commit: None,
            request_id,
        };
        for (resource, units) in granted {
            entry.amounts.insert(resource, (units, 0));
            for key in self.counters(resource, hold.who, now) {
                entry.lines.insert(key, (units, 0));
            }
        }
        self.decided = now;
        self.entries.push(entry);
        Ok(self.entries.len() - 1)
    }

    /// Commits a reservation that is RESERVED or EXPIRED, or repeats an equal Commit.
    pub fn commit(&mut self, index: usize, used: &[Units]) -> Result<(), Vec<Refusal>> {
        let now = self.now();
        let before = self.entries[index].clone();
        match before.state {
            State::Committed if before.commit.as_deref() == Some(used) => return Ok(()),
            State::Committed | State::Released => return Err(vec![Refusal::Settled]),
            State::Reserved | State::Expired => {}
        }
        let mut entry = before.clone();
        entry.late = entry.state == State::Expired;
        (entry.state, entry.settled, entry.commit) = (State::Committed, now, Some(used.to_vec()));
        let given: BTreeMap<usize, i64> = used.iter().copied().collect();
        for (&resource, (reserved, committed)) in &mut entry.amounts {
            *committed = given.get(&resource).copied().unwrap_or(*reserved);
            for (key, (held, charged)) in entry.lines.iter_mut().filter(|(key, _)| key.resource == resource) {
                // Units that were held before the counter was added to the reservation do not count in it.
                let units = (*committed - (*reserved - *held)).max(0);
                *charged = self.recharge(&before, key, units);
            }
        }
        for (&resource, &units) in &given {
            if entry.amounts.contains_key(&resource) {
                continue;
            }
            entry.amounts.insert(resource, (0, units));
            for key in self.counters(resource, entry.who, entry.made) {
                entry.lines.insert(key, (0, units));
            }
        }
        self.decided = now;
        self.entries[index] = entry;
        Ok(())
    }

    /// Releases a reservation that is not COMMITTED.
    pub fn release(&mut self, index: usize) -> Result<(), Vec<Refusal>> {
        let now = self.now();
        let before = self.entries[index].clone();
        match before.state {
            State::Released => return Ok(()),
            State::Committed => return Err(vec![Refusal::Settled]),
            State::Reserved | State::Expired => {}
        }
        let mut entry = before.clone();
        (entry.state, entry.settled) = (State::Released, now);
        entry.amounts.values_mut().for_each(|(_, committed)| *committed = 0);
        entry.lines.iter_mut().for_each(|(key, (_, charged))| *charged = self.recharge(&before, key, 0));
        self.decided = now;
        self.entries[index] = entry;
        Ok(())
    }

    /// Returns the new charge of a counter when its reservation is settled. The counter does not go below zero, even if
    /// a correction has already removed the old charge. A forgiven charge stays forgiven.
    fn recharge(&mut self, before: &Entry, key: &Key, units: i64) -> i64 {
        let charged = before.lines[key].1;
        let forgiven = self.forgiven.get(key).is_some_and(|until| before.deadline <= *until);
        if before.state == State::Expired && forgiven {
            self.adjustments.push((self.now(), key.clone(), (charged - units).max(0)));
            return units;
        }
        let (committed, _) = self.figures(key);
        charged + (units - charged).max(-committed)
    }

    /// Extends a reservation that is RESERVED.
    pub fn extend(&mut self, index: usize, added: &[Units], ttl: Option<i64>) -> Result<(), Vec<Refusal>> {
        let now = self.now();
        let entry = self.entries[index].clone();
        let mut refusals = Vec::new();
        match entry.state {
            State::Reserved => {}
            State::Expired => refusals.push(Refusal::Expired),
            State::Committed | State::Released => refusals.push(Refusal::Settled),
        }
        if self.suspended {
            refusals.push(Refusal::Suspended);
        }
        if ttl.is_some_and(|ttl| now + ttl > entry.made + 48 * HOUR) {
            refusals.push(Refusal::TooLong);
        }
        let mut refusing: Vec<&'static str> = added
            .iter()
            .filter(|(_, units)| *units > 0)
            .flat_map(|&(resource, units)| {
                let remainders = self.remainders(resource, entry.who, entry.made).into_iter();
                remainders.filter(move |(_, left)| *left < units).map(|(id, _)| id)
            })
            .collect();
        if !refusing.is_empty() {
            refusing.sort_unstable();
            refusals.push(Refusal::Quota(refusing));
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let mut entry = entry;
        for &(resource, units) in added {
            entry.amounts.entry(resource).or_default().0 += units;
            let mut keys = self.counters(resource, entry.who, entry.made);
            keys.extend(entry.lines.keys().filter(|key| key.resource == resource).cloned());
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                entry.lines.entry(key).or_default().0 += units;
            }
        }
        entry.deadline = entry.deadline.max(ttl.map_or(0, |ttl| now + ttl));
        self.decided = now;
        self.entries[index] = entry;
        Ok(())
    }

    /// Records usage, and returns the index of the entry.
    pub fn record(&mut self, who: Who, changes: &[Units], request_id: Option<String>) -> usize {
        let now = self.now();
        let mut lines = BTreeMap::new();
        for &(resource, change) in changes {
            for key in self.counters(resource, who, now) {
                let (committed, _) = self.figures(&key);
                lines.insert(key, (0, change.max(-committed)));
            }
        }
        let entry = Entry {
            who,
            state: State::Committed,
            late: false,
            charge: false,
            record: true,
            made: now,
            deadline: 0,
            settled: now,
            amounts: changes.iter().map(|&(resource, change)| (resource, (0, change))).collect(),
            lines,
            commit: None,
            request_id,
        };
        self.decided = now;
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// Returns the id of a limit of the present plan. The index is modulo the number of these limits.
    pub fn limit(&self, index: usize) -> Option<&'static str> {
        let ids: Vec<&str> = self.limits.iter().filter(|limit| limit.on).map(|limit| limit.id).collect();
        Some(ids[index.checked_rem(ids.len())?])
    }

    /// Resets the usage of one resource, or of all resources. With a limit, resets only the counters of that limit.
    pub fn reset(&mut self, resource: Option<usize>, limit: Option<&str>) {
        let now = self.now();
        for key in self.running(now) {
            let named = match limit {
                Some(id) => self.limits.iter().any(|limit| limit.id == id && limit.counts(&key)),
                None => match key.span {
                    Span::Lifetime => false,
                    Span::Meter => resource.is_some(),
                    Span::Day | Span::Month(_) => true,
                },
            };
            let (committed, _) = self.figures(&key);
            if named && resource.is_none_or(|only| key.resource == only) && committed != 0 {
                self.forgive(key);
            }
        }
        self.decided = now;
    }

    /// Changes which limits are in the tenant's plan. Counters that no limit counted until now start at zero.
    pub fn reshape(&mut self, on: &[bool]) {
        let counted = |books: &Self, key: &Key| books.limits.iter().any(|limit| limit.counts(key));
        let running = self.running(self.now());
        let idle: Vec<Key> = running.into_iter().filter(|key| !counted(self, key)).collect();
        for (limit, on) in self.limits.iter_mut().zip(on) {
            limit.on = *on;
        }
        idle.into_iter()
            .filter(|key| counted(self, key))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|key| self.forgive(key));
        self.decided = self.now();
        self.reshaped = true;
    }

    fn forgive(&mut self, key: Key) {
        let (now, (committed, _)) = (self.now(), self.figures(&key));
        self.adjustments.push((now, key.clone(), -committed));
        self.forgiven.insert(key, now);
    }

    /// Returns the counters whose windows are running at an instant.
    fn running(&self, at: i64) -> Vec<Key> {
        let lines = self.entries.iter().flat_map(|entry| entry.lines.keys());
        let mut keys: Vec<Key> = lines.filter(|key| self.runs(key, at)).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Returns whether the remaining units for an entry are unknown, because a window of the entry is over.
    pub fn is_vague(&self, index: usize, resource: usize) -> bool {
        let entry = &self.entries[index];
        let mut read = self.applying(resource, entry.who, entry.made).into_iter();
        self.reshaped && read.any(|(_, key)| !self.runs(&key, self.now()))
    }

    /// Returns whether the window of a counter is running at an instant.
    pub fn runs(&self, key: &Key, at: i64) -> bool {
        key.start == window_start(self.zone, key.span, at)
    }

    /// Returns whether the server certainly keeps the entry. The server keeps settled entries for 30 days, and the
    /// model leaves a margin of one day.
    pub fn is_kept(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        entry.state == State::Reserved || self.now() < entry.settled + 29 * DAY
    }

    /// Returns whether a Commit has other amounts than the entry's Commit, but would charge the same. The rules do not
    /// say whether such a Commit is a repeat.
    pub fn is_same_otherwise(&self, index: usize, used: &[Units]) -> bool {
        let entry = &self.entries[index];
        if entry.state != State::Committed || entry.record || entry.commit.as_deref() == Some(used) {
            return false;
        }
        let mut charged: BTreeMap<usize, i64> =
            entry.amounts.iter().map(|(&resource, &(reserved, _))| (resource, reserved)).collect();
        charged.extend(used.iter().copied());
        charged.retain(|_, units| *units != 0);
        let committed = entry.amounts.iter().map(|(&resource, &(_, committed))| (resource, committed));
        charged == committed.filter(|(_, units)| *units != 0).collect()
    }

    /// Returns the names of agent, user and model.
    pub fn names(who: Who) -> [&'static str; 3] {
        who.map(|index| NAMES[index])
    }

    /// Returns the name of a resource.
    pub fn resource(index: usize) -> &'static str {
        RESOURCES[index]
    }
}
