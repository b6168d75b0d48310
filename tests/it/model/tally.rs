//! Counts which steps and outcomes occurred, so that the test cannot silently cease to cover one of them.

use std::collections::BTreeMap;

/// The steps that must occur.
pub const STEPS: &[&str] = &[
    "Reserve",
    "Check",
    "Commit",
    "Release",
    "Extend",
    "Record",
    "Amend",
    "Replay",
    "Reuse",
    "Batch",
    "Advance",
    "TurnBack",
    "Reset",
    "Suspend",
    "Limits",
    "Shape",
    "Uncovered",
    "Move",
    "Schedule",
    "Stay",
    "Anchors",
    "Zone",
    "Begin",
    "Agent",
    "SuspendAgent",
    "DeleteAgent",
    "Except",
    "Alter",
    "Withdraw",
];

/// The outcomes that must occur.
pub const OUTCOMES: &[&str] = &[
    "granted",
    "granted in part",
    "granted zero",
    "first answer again",
    "request_id reused",
    "allowed by Check",
    "refused by Check",
    "refused by a limit of the tenant",
    "refused by a limit of an agent",
    "refused with a label",
    "refused under an override",
    "refused because uncovered",
    "refused because the tenant is suspended",
    "refused because an agent is suspended",
    "refused because settled",
    "refused because expired",
    "refused because not charged",
    "refused because of the instant",
    "a hint of a number of seconds",
    "a hint of never",
    "a Commit again",
    "a late Commit",
    "a Commit of another subject",
    "a Record of before",
    "a Record of another window",
    "an Amend of a Commit",
    "an Amend of a Record",
    "an Amend of a charge at a deadline",
    "an Amend after a reset",
    "an Amend again",
    "a reset of usage",
    "a reset of a limit",
    "a reset of nothing",
    "a limit returned",
    "a plan changed at its instant",
    "an override applied",
    "an override was refused",
    "an override was inert",
    "an override ended",
    "a window between two calendars",
];

/// The outcomes that may be absent, because they need a rare sequence of steps.
const RARE: &[&str] = &["refused because too long"];

/// How often each step and each outcome occurred.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    /// Counts a step or an outcome.
    pub fn note(&mut self, name: &'static str) {
        assert!([STEPS, OUTCOMES, RARE].concat().contains(&name), "{name} is in no list");
        *self.0.entry(name).or_default() += 1;
    }

    /// Counts an outcome if it occurred.
    pub fn note_if(&mut self, occurred: bool, name: &'static str) {
        if occurred {
            self.note(name);
        }
    }

    /// Adds the counts of another life.
    pub fn add(&mut self, other: Tally) {
        other.0.into_iter().for_each(|(name, count)| *self.0.entry(name).or_default() += count);
    }

    /// Fails unless all of these occurred.
    pub fn covers(&self, names: &[&'static str]) {
        let missing: Vec<_> = names.iter().filter(|name| !self.0.contains_key(*name)).collect();
        assert!(missing.is_empty(), "did not occur: {missing:?}; what did: {self:?}");
    }
}
