//! The model of charges: Commit, Release, Record and Amend.

use std::collections::BTreeMap;

use super::{
    books::{Books, Entry, Line, Refusal, Share, State},
    limit::Key,
    steps::{Served, Units, Who},
};
use crate::harness::DAY;

/// A Record may have occurred this long ago.
const OCCURRED_MAX: i64 = 35 * DAY;
/// Number of amendments that a reservation keeps.
const AMENDMENTS_MAX: usize = 20;

/// Returns the subject that a Commit charges. Labels are those of the Reserve.
pub fn served_by(who: Who, served: Served) -> Who {
    std::array::from_fn(|dimension| served.get(dimension).copied().flatten().unwrap_or(who[dimension]))
}

impl Line {
    /// Returns the units that are charged if `committed` units of the resource were used.
    fn charge(&self, reserved: i64, committed: i64) -> i64 {
        match self.share {
            Share::Held => (committed - (reserved - self.held)).max(0),
            Share::Whole => committed,
            Share::Nothing => 0,
        }
    }
}

impl Books {
    /// Commits a reservation that is RESERVED or EXPIRED, or repeats an equal Commit. Returns whether it is a repeat.
    pub fn commit(&mut self, index: usize, used: &[Units], served: Served) -> Result<bool, Vec<Refusal>> {
        let now = self.now();
        let before = self.entries[index].clone();
        let settled = (used.to_vec(), served_by(before.who, served));
        match before.state {
            State::Committed if before.commit.as_ref() == Some(&settled) => return Ok(true),
            State::Committed | State::Released => return Err(vec![Refusal::Settled]),
            State::Reserved | State::Expired => {}
        }
        let mut entry = before.clone();
        entry.late = entry.state == State::Expired;
        (entry.state, entry.settled) = (State::Committed, now);
        entry.served = Some(settled.1).filter(|served| *served != entry.who);
        let given: BTreeMap<usize, i64> = used.iter().copied().collect();
        let reserved = entry.amounts.iter().map(|(&resource, &(reserved, _))| (resource, reserved));
        let mut charges: BTreeMap<usize, i64> = reserved.collect();
        charges.extend(given);
        for (resource, units) in charges {
            if entry.served.is_some() {
                self.move_charge(&mut entry, resource);
            } else {
                self.join(&mut entry, resource);
            }
            self.charge(&mut entry, resource, units);
        }
        entry.commit = Some(settled);
        entry.first = Some(Box::new(entry.clone()));
        self.decided = now;
        self.entries[index] = entry;
        Ok(false)
    }

    /// Adds the counters of a resource that was not reserved.
    fn join(&self, entry: &mut Entry, resource: usize) {
        if entry.lines.keys().all(|key| key.resource != resource) {
            for key in self.counters(resource, entry.charged(), entry.counts_at()) {
                entry.lines.insert(key, Line::default());
            }
        }
    }

    /// Moves the charge of a resource to the counters of the subject that served the call (R4.45).
    fn move_charge(&self, entry: &mut Entry, resource: usize) {
        let served = self.counters(resource, entry.charged(), entry.counts_at());
        for (_, line) in
            entry.lines.iter_mut().filter(|(key, _)| key.resource == resource && !served.contains(key))
        {
            line.share = Share::Nothing;
        }
        for key in served {
            entry.lines.entry(key).or_insert(Line { share: Share::Whole, ..Line::default() });
        }
    }

    /// Sets what a resource has committed, and the charges of its counters.
    fn charge(&self, entry: &mut Entry, resource: usize, units: i64) {
        let (reserved, committed) = entry.amounts.entry(resource).or_default();
        *committed = units;
        for (key, line) in entry.lines.iter_mut().filter(|(key, _)| key.resource == resource) {
            line.charged = self.recharged(key, *line, line.charge(*reserved, units));
        }
    }

    /// Returns the new charge of a counter. The counter does not go below zero, even if a correction has already removed
    /// the old charge. What is gone is not subtracted again.
    fn recharged(&self, key: &Key, line: Line, units: i64) -> i64 {
        let (committed, _) = self.figures(key);
        line.charged + (units.max(line.gone) - line.charged).max(-committed)
    }

    /// Releases a reservation that is not COMMITTED.
    pub fn release(&mut self, index: usize) -> Result<(), Vec<Refusal>> {
        let now = self.now();
        let mut entry = self.entries[index].clone();
        match entry.state {
            State::Released => return Ok(()),
            State::Committed => return Err(vec![Refusal::Settled]),
            State::Reserved | State::Expired => {}
        }
        (entry.state, entry.settled) = (State::Released, now);
        entry.amounts.values_mut().for_each(|(_, committed)| *committed = 0);
        entry.lines.iter_mut().for_each(|(key, line)| line.charged = self.recharged(key, *line, 0));
        self.decided = now;
        self.entries[index] = entry;
        Ok(())
    }

    /// Records usage, and returns the index of the entry. `ago`: when the usage occurred, in milliseconds before now.
    pub fn record(
        &mut self,
        who: Who,
        changes: &[Units],
        ago: Option<i64>,
        request_id: Option<String>,
    ) -> Result<usize, Refusal> {
        if ago.is_some_and(|ago| !(0..=OCCURRED_MAX).contains(&ago)) {
            return Err(Refusal::WrongInstant);
        }
        let mut entry = self.entry(who, request_id);
        (entry.state, entry.record, entry.settled) = (State::Committed, true, entry.made);
        entry.occurred = ago.map(|ago| entry.made - ago);
        for &(resource, change) in changes {
            entry.amounts.insert(resource, (0, change));
            for key in self.counters(resource, who, entry.counts_at()) {
                let (committed, _) = self.figures(&key);
                let charged = change.max(-committed);
                entry.lines.insert(key, Line { charged, ..Line::default() });
            }
        }
        self.decided = entry.made;
        self.entries.push(entry);
        Ok(self.entries.len() - 1)
    }

    /// Replaces what was charged. Returns whether that changes anything.
    pub fn amend(&mut self, index: usize, figures: &[Units]) -> Result<bool, Vec<Refusal>> {
        let now = self.now();
        let mut entry = self.entries[index].clone();
        let is_charged = match entry.state {
            State::Committed => true,
            State::Expired => entry.charge,
            State::Reserved | State::Released => false,
        };
        if !is_charged {
            return Err(vec![Refusal::NotCharged]);
        }
        let before = |resource: usize| entry.amounts.get(&resource).map_or(0, |(_, committed)| *committed);
        let changes = figures.iter().map(|&(resource, after)| (resource, before(resource), after));
        let changes: Vec<_> = changes.filter(|(_, before, after)| before != after).collect();
        if changes.is_empty() {
            return Ok(false);
        }
        for &(resource, _, after) in &changes {
            self.join(&mut entry, resource);
            self.charge(&mut entry, resource, after);
        }
        entry.amendments.push((now, changes));
        let surplus = entry.amendments.len().saturating_sub(AMENDMENTS_MAX);
        entry.amendments.drain(..surplus);
        self.decided = now;
        self.entries[index] = entry;
        Ok(true)
    }

    /// Returns whether a Commit has other amounts than the entry's Commit, but would charge the same. The rules do not
    /// say whether such a Commit is a repeat.
    pub fn is_same_otherwise(&self, index: usize, used: &[Units]) -> bool {
        let entry = &self.entries[index];
        let (Some(first), Some((committed, _))) = (&entry.first, &entry.commit) else { return false };
        if entry.state != State::Committed || committed == used {
            return false;
        }
        let mut charged: BTreeMap<usize, i64> =
            first.amounts.iter().map(|(&resource, &(reserved, _))| (resource, reserved)).collect();
        charged.extend(used.iter().copied());
        charged.retain(|_, units| *units != 0);
        let committed = first.amounts.iter().map(|(&resource, &(_, committed))| (resource, committed));
        charged == committed.filter(|(_, units)| *units != 0).collect()
    }
}
