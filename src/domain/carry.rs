//! Finds the counters that continue when the limits of a plan, or the plan of a tenant, change (R4.25, R4.26).
//!
//! A limit that is removed stops counting. If it returns, it starts at zero, because its counters miss the usage in
//! between. So a change carries on exactly the counters that are counted both before and after the change. Two shapes
//! may share counters: a limit for each user and a limit for one user share that user's counter. Shared counters are
//! carried on.

use std::sync::Arc;

use super::{
    counter::CounterKey,
    lineage::{Lineage, Since},
    plan::{Limit, Plan},
    shape::Shape,
    tenant::Tenant,
};

/// Maximum number of shapes that a limit or a tenant carries on, in addition to the shapes of the limits themselves.
/// If there are more, nothing is carried on, and all counters start from zero.
pub const CARRIED_MAX: usize = 64;

impl Limit {
    /// Returns since when this limit's plan has counted the counter `key` without a gap.
    fn since_of(&self, key: &CounterKey) -> Since {
        earliest(&self.kept, key).map_or(self.since, |kept| kept.min(self.since))
    }

    /// Returns the lineage of this limit's own shape, and the lineages that the limit carries on.
    fn lineages(&self) -> impl Iterator<Item = Lineage> {
        let own = Lineage { shape: self.shape.clone(), since: self.since };
        std::iter::once(own).chain(self.kept.iter().cloned())
    }
}

impl Tenant {
    /// Returns since when the tenant's plan has counted the counter `key` without a gap. `limit` is a limit of that
    /// plan that counts the counter.
    pub fn counts_since(&self, limit: &Limit, key: &CounterKey) -> Since {
        let by_plan = limit.since_of(key);
        if by_plan > self.plan_since {
            return by_plan;
        }
        earliest(&self.carried, key).unwrap_or(self.plan_since)
    }

    /// Returns since when the tenant's plan has counted the counter `key` without a gap. `None`: no limit of the plan
    /// counts the counter.
    pub fn counted_since(&self, plan: &Plan, key: &CounterKey) -> Option<Since> {
        // All limits that count the same counter give the same answer.
        let limit = plan.limits.iter().find(|limit| limit.shape.counts(key));
        limit.map(|limit| self.counts_since(limit, key))
    }

    /// Returns the lineages that both plans count, for a tenant that changes from one plan to the other. Returns none
    /// if there are more than [`CARRIED_MAX`].
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

/// Makes the new limits of a plan. They count since `now`, except for the counters that the previous limits already
/// counted.
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
    /// Returns the part of the lineage that `shape` counts as well. `None`: they share no counter.
    fn within(&self, shape: &Shape) -> Option<Lineage> {
        Some(Lineage { shape: self.shape.shared_with(shape)?, since: self.since })
    }
}

/// Returns the parts of the lineages that `shape` counts as well.
fn shared<'a>(lineages: &'a [Lineage], shape: &'a Shape) -> impl Iterator<Item = Lineage> + 'a {
    lineages.iter().filter_map(|lineage| lineage.within(shape))
}

fn earliest(lineages: &[Lineage], key: &CounterKey) -> Option<Since> {
    lineages.iter().filter(|lineage| lineage.shape.counts(key)).map(|lineage| lineage.since).min()
}

/// Drops each lineage whose shape is covered by a lineage that is older or equally old.
fn without_repeats(mut lineages: Vec<Lineage>) -> Vec<Lineage> {
    // Earlier lineages come first, and of equally early lineages the wider. The other fields of the sort key make the
    // result independent of the order of the argument.
    lineages.sort_by_cached_key(|Lineage { shape, since }| {
        let Shape { resource, period, anchor_day, selectors, per } = shape;
        let selected = selectors.iter().filter(|(_, selector)| selector.is_some()).count();
        (*since, selected, *resource, *period, *anchor_day, selectors.clone(), *per)
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
#[path = "carry_tests.rs"]
mod tests;
