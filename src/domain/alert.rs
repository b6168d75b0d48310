//! The alerts of a counter: which percentages of an allowance were reached, and which events are due now (R5.3 to
//! R5.6).
//!
//! A limit's percentages are its thresholds, and 100. A percentage is reached when `committed` is at or above that
//! part of the allowance, and cleared when `committed` is below it again. The counter's row records which events were
//! emitted, so each event is emitted once, even with several replicas and retries. It also records what was carried over
//! to the counter for each limit.

use super::plan::{Enforcement, Limit};

/// The percentage at which LIMIT_REACHED is emitted.
pub const LIMIT_PERCENT: i32 = 100;

/// Maximum number of limits whose alerts a counter keeps. A counter with this many limits forgets the limits that no
/// longer read it.
const LIMITS_KEPT_MAX: usize = 64;

/// The alerts of one counter. Most counters have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// One entry per limit with alerts.
    pub limits: Vec<LimitAlerts>,
}

/// The alerts of one counter for one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitAlerts {
    /// Id of the limit.
    pub limit: String,
    /// Percentages that are reached and not cleared, ascending.
    pub reached: Vec<i32>,
    /// 1, and one more after each operation that cleared a percentage.
    pub generation: i32,
    /// How many Reserves and Extends the limit refused while it was HARD.
    pub refused: i64,
    /// How many Reserves and Extends the limit would have refused while it was OBSERVE.
    pub observed: i64,
    /// Units that were carried over from the window before (R4.46).
    pub carried: i64,
}

impl LimitAlerts {
    /// Makes the alerts for a limit of this id, of which nothing is known yet.
    pub fn new(limit: &str) -> Self {
        let (limit, reached) = (limit.to_owned(), Vec::new());
        Self { limit, reached, generation: 1, refused: 0, observed: 0, carried: 0 }
    }

    /// Returns the count of refusals for an enforcement. SOFT has none.
    pub fn refused_as(&self, enforcement: Enforcement) -> i64 {
        match enforcement {
            Enforcement::Hard => self.refused,
            Enforcement::Soft => 0,
            Enforcement::Observe => self.observed,
        }
    }

    /// Counts a refusal, and returns the new count.
    pub(super) fn count_refusal(&mut self, enforcement: Enforcement) -> i64 {
        let count = match enforcement {
            Enforcement::Hard => &mut self.refused,
            Enforcement::Soft => return 0,
            Enforcement::Observe => &mut self.observed,
        };
        *count = count.saturating_add(1);
        *count
    }
}

impl Alerts {
    /// Finds the alerts for a limit, if there are any.
    pub fn find(&self, limit: &str) -> Option<&LimitAlerts> {
        self.limits.iter().find(|alerts| alerts.limit == limit)
    }

    /// Returns the alerts for a limit. Makes them if there are none. `reads` returns whether the limit of an id still
    /// reads the counter.
    pub(super) fn of_limit(&mut self, limit: &str, reads: impl Fn(&str) -> bool) -> &mut LimitAlerts {
        let place = self.limits.iter().position(|alerts| alerts.limit == limit);
        let place = place.unwrap_or_else(|| {
            if self.limits.len() >= LIMITS_KEPT_MAX {
                // This happens only if the plan changed many times within one window.
                self.limits.retain(|alerts| reads(&alerts.limit));
            }
            self.limits.push(LimitAlerts::new(limit));
            self.limits.len() - 1
        });
        &mut self.limits[place]
    }
}

/// The range of `committed` in which no threshold event is due: from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    first: i64,
    last: i64,
}

impl Quiet {
    /// The range of all values of `committed`.
    pub const EVERYWHERE: Quiet = Quiet { first: i64::MIN, last: i64::MAX };

    /// Returns whether no threshold event is due at this `committed`.
    pub fn contains(self, committed: i64) -> bool {
        self.first <= committed && committed <= self.last
    }
}

/// A percentage that `committed` has crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// `committed` rose to the percentage or above it.
    Reached(i32),
    /// `committed` fell below the percentage.
    Cleared(i32),
}

/// Returns the percentages of the allowance that `committed` has crossed. `before` contains the percentages that were reached before.
/// Cleared percentages come first, from the highest on. Then come reached percentages, from the lowest on. Narrows
/// `quiet` to the range in which `committed` crosses no other percentage.
pub fn edges(limit: &Limit, allowance: i64, committed: i64, before: &[i32], quiet: &mut Quiet) -> Vec<Edge> {
    let mut edges = Vec::new();
    let of_limit = (!limit.thresholds.contains(&LIMIT_PERCENT)).then_some(LIMIT_PERCENT);
    for percent in limit.thresholds.iter().copied().chain(of_limit) {
        let units = units(percent, allowance);
        let reached = units.is_some_and(|units| committed >= units);
        match units {
            Some(units) if reached => quiet.first = quiet.first.max(units),
            Some(units) => quiet.last = quiet.last.min(units - 1),
            None => {}
        }
        match (before.contains(&percent), reached) {
            (false, true) => edges.push(Edge::Reached(percent)),
            (true, false) => edges.push(Edge::Cleared(percent)),
            (true, true) | (false, false) => {}
        }
    }
    edges.sort_unstable_by_key(|edge| match edge {
        Edge::Cleared(percent) => -percent,
        Edge::Reached(percent) => *percent,
    });
    edges
}

/// Returns the smallest `committed` that reaches the percentage. The result is rounded up, and at least 1, because a
/// counter without usage reaches no percentage. `None`: the result is larger than every `committed`.
fn units(percent: i32, allowance: i64) -> Option<i64> {
    let units = (i128::from(allowance) * i128::from(percent) + 99).div_euclid(100);
    i64::try_from(units.max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::{Edge::*, *};
    use crate::domain::{
        id::ResourceKey,
        lineage::Since,
        plan::Source,
        shape::Shape,
        window::{Cycle, Period},
    };

    fn limit(quantity: i64, thresholds: &[i32]) -> Limit {
        let (selectors, per) = Default::default();
        let timing = Cycle::plain(Period::Day).into();
        let shape = Shape { resource: ResourceKey(1), timing, selectors, per, labels: Vec::new() };
        let (id, thresholds) = ("daily".to_owned(), thresholds.to_vec());
        Limit {
            id,
            shape,
            quantity,
            enforcement: Enforcement::Hard,
            thresholds,
            carry: None,
            origin_date: String::new(),
            since: Since::default(),
            kept: Vec::new(),
            source: Source::default(),
        }
    }

    #[test]
    fn a_percentage_is_reached_or_cleared_when_committed_crosses_it() {
        type Row = (i64, &'static [i32], i64, &'static [i32], &'static [Edge]);
        let rows: &[Row] = &[
            (1_000, &[80], 799, &[], &[]),
            (1_000, &[80], 800, &[], &[Reached(80)]),
            (1_000, &[80], 800, &[80], &[]),
            (1_000, &[80], 1_000, &[80], &[Reached(100)]),
            (1_000, &[50, 80, 120], 1_300, &[], &[Reached(50), Reached(80), Reached(100), Reached(120)]),
            (1_000, &[80, 100], 1_000, &[], &[Reached(80), Reached(100)]),
            (1_000, &[80], 799, &[80, 100], &[Cleared(100), Cleared(80)]),
            // A new threshold below a threshold that was reached and is cleared now.
            (1_000, &[50, 80], 600, &[80], &[Cleared(80), Reached(50)]),
            // Rounded up: 80 % of 3 are 2.4.
            (3, &[80], 2, &[], &[]),
            (3, &[80], 3, &[], &[Reached(80), Reached(100)]),
            (0, &[80], 0, &[], &[]),
            (0, &[80], 1, &[], &[Reached(80), Reached(100)]),
            (i64::MAX, &[1_000], i64::MAX - 1, &[], &[]),
            (i64::MAX, &[], i64::MAX, &[100], &[]),
            // The largest figure is 199 % of 2^62, and 100 % of itself.
            (1 << 62, &[150, 200, 1_000], i64::MAX, &[], &[Reached(100), Reached(150)]),
            (1 << 62, &[199], i64::MAX, &[100], &[Reached(199)]),
            (i64::MAX, &[101, 1_000], i64::MAX, &[], &[Reached(100)]),
        ];
        for &(quantity, thresholds, committed, before, expected) in rows {
            let limit = limit(7, thresholds);
            let found = edges(&limit, quantity, committed, before, &mut Quiet { ..Quiet::EVERYWHERE });
            assert_eq!(found, expected, "{committed} of {quantity}, {thresholds:?}, {before:?}");
        }
    }

    #[test]
    fn within_the_quiet_range_no_percentage_is_crossed() {
        let limit = limit(1_000, &[50, 80, 120]);
        for committed in [0, 499, 500, 799, 800, 999, 1_000, 1_199, 1_200, 5_000] {
            let mut quiet = Quiet::EVERYWHERE;
            let reached = edges(&limit, limit.quantity, committed, &[], &mut quiet);
            let before: Vec<i32> = reached
                .iter()
                .map(|edge| match edge {
                    Reached(percent) | Cleared(percent) => *percent,
                })
                .collect();
            assert!(quiet.contains(committed));
            for other in 0..5_001 {
                let mut any = Quiet { ..Quiet::EVERYWHERE };
                let found = edges(&limit, limit.quantity, other, &before, &mut any);
                assert_eq!(found.is_empty(), quiet.contains(other), "{other} after {committed}");
            }
        }
    }
}
