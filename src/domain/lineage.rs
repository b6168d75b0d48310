//! Since when limits count, without a gap.
//!
//! A limit that goes away stops counting, and one that returns starts at zero: what was spent in between is in no counter.
//! A change of limits, or of a tenant's plan, therefore carries on what was counted before it and is counted after it, and
//! nothing else. Shapes may overlap (each user apart, and one user): what is carried on is the part that two shapes share.

use std::sync::Arc;

use super::{
    counter::CounterKey,
    plan::{Limit, Plan, Shape},
    tenant::Tenant,
    window::{Millis, Window},
};

/// Most shapes that are remembered beside those of the limits themselves. When there were more, all begin anew.
pub const CARRIED_MAX: usize = 64;

/// A policy revision has room for so many changes of one tenant's plan within one millisecond.
const ORDERS_PER_REVISION: i64 = 1 << 20;

/// An instant, and which change of that instant is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Since {
    /// The instant.
    pub at: Millis,
    /// The later of two changes at one instant has the larger number. 0: not known.
    pub order: i64,
}

impl Since {
    /// A change that made this revision of the policy.
    pub fn of_revision(at: Millis, revision: i64) -> Self {
        Self { at, order: revision.saturating_mul(ORDERS_PER_REVISION) }
    }

    /// A change of a tenant's plan at this revision of the policy, after the change before.
    pub fn of_tenant(at: Millis, revision: i64, before: Since) -> Self {
        let last = if before.at == at { before.order } else { 0 };
        Self { at, order: last.max(revision.saturating_mul(ORDERS_PER_REVISION)).saturating_add(1) }
    }

    /// Since when a counter of a window counts that began after this change: from the window's start at the earliest.
    pub fn in_window(self, window: Window) -> Since {
        let begun = if self.at < window.start { Since { at: window.start, order: 1 } } else { self };
        // A hold counts in the windows in which it was made, by limits that may be younger than these.
        Since { at: begun.at.min(window.end), ..begun }
    }

    /// Whether a counter that has counted since this change began before another one.
    pub fn is_before(self, other: Since) -> bool {
        let known = self.order != 0;
        self.at < other.at || (self.at == other.at && known && self.order < other.order)
    }
}

/// All counters of a shape have counted without a gap since an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The shape.
    pub shape: Shape,
    /// Since when.
    pub since: Since,
}

impl Limit {
    /// Since when this limit's plan has counted a counter without a gap.
    fn since_of(&self, key: &CounterKey) -> Since {
        earliest(&self.kept, key).map_or(self.since, |kept| kept.min(self.since))
    }

    /// What its plan has counted without a gap.
    fn lineages(&self) -> impl Iterator<Item = Lineage> {
        let own = Lineage { shape: self.shape.clone(), since: self.since };
        std::iter::once(own).chain(self.kept.iter().cloned())
    }
}

impl Tenant {
    /// Since when a limit of the tenant's plan has counted a counter of the tenant without a gap.
    pub fn counts_since(&self, limit: &Limit, key: &CounterKey) -> Since {
        let by_plan = limit.since_of(key);
        if by_plan > self.plan_since {
            return by_plan;
        }
        earliest(&self.carried, key).unwrap_or(self.plan_since)
    }

    /// Since when the tenant's plan has counted a counter without a gap; `None` when no limit counts it.
    pub fn counted_since(&self, plan: &Plan, key: &CounterKey) -> Option<Since> {
        // Each limit that counts a counter says the same of it.
        let limit = plan.limits.iter().find(|limit| limit.shape.counts(key));
        limit.map(|limit| self.counts_since(limit, key))
    }

    /// What is counted for the tenant on and on when it goes from a plan to another one.
    pub fn carry_to(&self, from: &Plan, to: &Plan) -> Vec<Lineage> {
        let mut before = Vec::new();
        for lineage in from.limits.iter().flat_map(|limit| limit.lineages()) {
            if lineage.since > self.plan_since {
                before.push(lineage);
                continue;
            }
            let carried = self.carried.iter();
            before.extend(carried.filter_map(|carried| carried.within(&lineage.shape)));
            before.push(Lineage { since: self.plan_since, ..lineage });
        }
        let shared = to.limits.iter().flat_map(|limit| shared(&before, &limit.shape));
        let carried = without_repeats(shared.collect());
        if carried.len() > CARRIED_MAX { Vec::new() } else { carried }
    }
}

/// The limits of a plan that replace others: each counts since `now`, but for what was counted before.
pub fn replace_limits(before: &[impl AsRef<Limit>], limits: &[Limit], now: Since) -> Vec<Arc<Limit>> {
    let old: Vec<Lineage> = before.iter().flat_map(|limit| limit.as_ref().lineages()).collect();
    let mut replaced: Vec<Limit> = limits.to_vec();
    for limit in &mut replaced {
        let carried = without_repeats(shared(&old, &limit.shape).collect());
        let whole = carried.iter().filter(|lineage| lineage.shape.covers(&limit.shape));
        limit.since = whole.map(|lineage| lineage.since).min().unwrap_or(now);
        limit.kept = carried.into_iter().filter(|lineage| lineage.since < limit.since).collect();
    }
    if replaced.iter().any(|limit| limit.kept.len() > CARRIED_MAX) {
        replaced.iter_mut().for_each(|limit| (limit.since, limit.kept) = (now, Vec::new()));
    }
    replaced.into_iter().map(Arc::new).collect()
}

impl Lineage {
    /// The part of it that a shape counts, too.
    fn within(&self, shape: &Shape) -> Option<Lineage> {
        Some(Lineage { shape: self.shape.shared_with(shape)?, since: self.since })
    }
}

/// The parts of lineages that a shape counts, too.
fn shared<'a>(lineages: &'a [Lineage], shape: &'a Shape) -> impl Iterator<Item = Lineage> + 'a {
    lineages.iter().filter_map(|lineage| lineage.within(shape))
}

fn earliest(lineages: &[Lineage], key: &CounterKey) -> Option<Since> {
    lineages.iter().filter(|lineage| lineage.shape.counts(key)).map(|lineage| lineage.since).min()
}

/// Those that say something which no other one says.
fn without_repeats(mut lineages: Vec<Lineage>) -> Vec<Lineage> {
    // The earliest first, and of these those that cover most. The order says nothing of the one in which they came.
    lineages.sort_by_cached_key(|Lineage { shape, since }| {
        let Shape { resource, period, anchor_day, selectors, per } = shape;
        (*since, selectors.iter().flatten().count(), *resource, *period, *anchor_day, selectors.clone(), *per)
    });
    let mut kept: Vec<Lineage> = Vec::new();
    for lineage in lineages {
        if !kept.iter().any(|earlier| earlier.shape.covers(&lineage.shape)) {
            kept.push(lineage);
        }
    }
    kept
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
mod tests;
