//! What was told of a counter, and the edges at which something is to be told: percentages of an allowance.
//!
//! A limit's percentages are its thresholds, and 100. One is reached when committed is at or above so much of the
//! allowance, and cleared when it is below again. What was told lies with the counter, so each edge is told once,
//! whatever the replicas and retries.

use super::plan::{Enforcement, Limit, Plan};

/// The percentage at which a limit itself is reached.
pub const LIMIT_PERCENT: i32 = 100;

/// Most limits of which a counter keeps what was told, beside those of the plan of the day.
const LIMITS_KEPT_MAX: usize = 64;

/// What was told of one counter. Nothing is the state of most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Per limit of which something was told.
    pub limits: Vec<LimitAlerts>,
}

/// What was told of one counter in terms of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitAlerts {
    /// Id of the limit.
    pub limit: String,
    /// Percentages that stand reached, ascending.
    pub reached: Vec<i32>,
    /// From 1 on; another one after each clearing.
    pub generation: i32,
    /// How many Reserves and Extends it refused while it was HARD.
    pub refused: i64,
    /// How many Reserves and Extends it would have refused while it was OBSERVE.
    pub observed: i64,
}

impl LimitAlerts {
    /// The count that belongs to an enforcement; a SOFT limit has none.
    pub fn refused_as(&self, enforcement: Enforcement) -> i64 {
        match enforcement {
            Enforcement::Hard => self.refused,
            Enforcement::Soft => 0,
            Enforcement::Observe => self.observed,
        }
    }

    /// Counts one more, and returns the count.
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
    /// What was told in terms of a limit.
    pub fn find(&self, limit: &str) -> Option<&LimitAlerts> {
        self.limits.iter().find(|told| told.limit == limit)
    }

    /// What was told in terms of a limit, to be changed.
    pub(super) fn of_limit(&mut self, limit: &str, plan: &Plan) -> &mut LimitAlerts {
        let place = self.limits.iter().position(|told| told.limit == limit);
        let place = place.unwrap_or_else(|| {
            if self.limits.len() >= LIMITS_KEPT_MAX {
                // Plans came and went within one window.
                self.limits.retain(|told| plan.limits.iter().any(|limit| limit.id == told.limit));
            }
            let (limit, reached) = (limit.to_owned(), Vec::new());
            self.limits.push(LimitAlerts { limit, reached, generation: 1, refused: 0, observed: 0 });
            self.limits.len() - 1
        });
        &mut self.limits[place]
    }
}

/// The figures of committed at which no event is due: `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    first: i64,
    last: i64,
}

impl Quiet {
    /// Any figure.
    pub const EVERYWHERE: Quiet = Quiet { first: i64::MIN, last: i64::MAX };

    /// Whether nothing is to be told of this figure.
    pub fn contains(self, committed: i64) -> bool {
        self.first <= committed && committed <= self.last
    }
}

/// A percentage that was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Upwards.
    Reached(i32),
    /// Downwards.
    Cleared(i32),
}

/// What is to be told of a figure in terms of a limit of which `told` stand reached: what was cleared, from the highest
/// on, then what was reached, from the lowest on. Narrows `quiet` to the figures at which nothing more is.
pub fn edges(limit: &Limit, committed: i64, told: &[i32], quiet: &mut Quiet) -> Vec<Edge> {
    let mut edges = Vec::new();
    let of_limit = (!limit.thresholds.contains(&LIMIT_PERCENT)).then_some(LIMIT_PERCENT);
    for percent in limit.thresholds.iter().copied().chain(of_limit) {
        let units = units(percent, limit.quantity);
        let reached = units.is_some_and(|units| committed >= units);
        match units {
            Some(units) if reached => quiet.first = quiet.first.max(units),
            Some(units) => quiet.last = quiet.last.min(units - 1),
            None => {}
        }
        match (told.contains(&percent), reached) {
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

/// The least committed that is so much of the allowance: rounded up, and at least 1, since nothing spent reaches nothing.
/// `None` when it is more than a counter can hold.
fn units(percent: i32, allowance: i64) -> Option<i64> {
    let units = (i128::from(allowance) * i128::from(percent) + 99).div_euclid(100);
    i64::try_from(units.max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::{Edge::*, *};
    use crate::domain::{id::ResourceKey, lineage::Since, plan::Shape, window::Period};

    fn limit(quantity: i64, thresholds: &[i32]) -> Limit {
        let (resource, period) = (ResourceKey(1), Period::Day);
        let shape = Shape { resource, period, anchor_day: 0, selectors: [None, None, None], per: [false; 3] };
        let (id, thresholds) = ("daily".to_owned(), thresholds.to_vec());
        Limit {
            id,
            shape,
            quantity,
            enforcement: Enforcement::Hard,
            thresholds,
            since: Since::default(),
            kept: Vec::new(),
        }
    }

    #[test]
    fn an_edge_is_told_where_the_figure_comes_to_it() {
        type Row = (i64, &'static [i32], i64, &'static [i32], &'static [Edge]);
        let rows: &[Row] = &[
            (1_000, &[80], 799, &[], &[]),
            (1_000, &[80], 800, &[], &[Reached(80)]),
            (1_000, &[80], 800, &[80], &[]),
            (1_000, &[80], 1_000, &[80], &[Reached(100)]),
            (1_000, &[50, 80, 120], 1_300, &[], &[Reached(50), Reached(80), Reached(100), Reached(120)]),
            (1_000, &[80, 100], 1_000, &[], &[Reached(80), Reached(100)]),
            (1_000, &[80], 799, &[80, 100], &[Cleared(100), Cleared(80)]),
            // A threshold that is new, under one that was reached and is no more.
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
        for &(quantity, thresholds, committed, told, expected) in rows {
            let found =
                edges(&limit(quantity, thresholds), committed, told, &mut Quiet { ..Quiet::EVERYWHERE });
            assert_eq!(found, expected, "{committed} of {quantity}, {thresholds:?}, {told:?}");
        }
    }

    #[test]
    fn in_the_quiet_nothing_is_told() {
        let limit = limit(1_000, &[50, 80, 120]);
        for committed in [0, 499, 500, 799, 800, 999, 1_000, 1_199, 1_200, 5_000] {
            let mut quiet = Quiet::EVERYWHERE;
            let reached = edges(&limit, committed, &[], &mut quiet);
            let told: Vec<i32> = reached
                .iter()
                .map(|edge| match edge {
                    Reached(percent) | Cleared(percent) => *percent,
                })
                .collect();
            assert!(quiet.contains(committed));
            for other in 0..5_001 {
                let found = edges(&limit, other, &told, &mut Quiet { ..Quiet::EVERYWHERE });
                assert_eq!(found.is_empty(), quiet.contains(other), "{other} after {committed}");
            }
        }
    }
}
