//! Finds the counters that continue when the limits of a plan, or the plan of a tenant, change (R4.25, R4.26).
//!
//! A limit that is removed stops counting. If it returns, it starts at zero, because its counters miss the usage in
//! between. So a change carries on exactly the counters that are counted both before and after the change. Two shapes
//! may share counters: a limit for each user and a limit for one user share that user's counter. Shared counters are
//! carried on.

use std::sync::Arc;

use super::{
    agent::Agent,
    counter::CounterKey,
    lineage::{Lineage, Since},
    plan::{Limit, Plan},
    shape::Shape,
    tenant::Tenant,
    terms::limits_of_agent,
    time::Time,
    timing::{FullHistory, TenantCalendar, Timing},
    window::Period,
};

/// Maximum number of shapes that a limit or a tenant carries on, in addition to the shapes of the limits themselves.
/// If there are more, nothing is carried on, and all counters start from zero.
pub const CARRIED_MAX: usize = 64;

impl Limit {
    /// Returns since when this limit's plan has counted the counter `key` without a gap.
    fn since_of(&self, key: &CounterKey, calendars: &[TenantCalendar]) -> Since {
        earliest(&self.kept, key, calendars).map_or(self.since, |kept| kept.min(self.since))
    }

    /// Returns the lineage of this limit's own shape, and the lineages that the limit carries on.
    fn lineages(&self) -> impl Iterator<Item = Lineage> {
        let own = Lineage { shape: self.shape.clone(), since: self.since };
        std::iter::once(own).chain(self.kept.iter().cloned())
    }
}

impl Tenant {
    /// Returns since when the plan of the tenant, or of its agent, has counted the counter `key` without a gap. `limit`
    /// is a limit of that plan that counts the counter.
    pub fn counts_since(&self, limit: &Limit, key: &CounterKey) -> Since {
        let by_plan = limit.since_of(key, &self.calendars);
        let (plan_since, carried) = match &limit.source.agent {
            Some(agent) => (agent.plan_since, &agent.carried),
            None => (self.plan_since, &self.carried),
        };
        if by_plan > plan_since {
            return by_plan;
        }
        earliest(carried, key, &self.calendars).unwrap_or(plan_since)
    }

    /// Returns since when a new counter of `key` counts, if its limits count since `since`. The counter may have been
    /// pruned, so it is certain to contain only what was spent since the tenant's counters were last pruned (R4.48).
    pub fn new_counter_since(&self, key: &CounterKey, since: Since) -> Since {
        let may_be_pruned =
            since.at < self.forgotten_at && key.period() == Period::Lifetime && key.is_of_one_subject();
        if may_be_pruned { Since { at: self.forgotten_at, order: 0 } } else { since }
    }

    /// Returns the lineage with this timing, if both have the same window at `now`. Later windows of the two may
    /// differ: no counter counts since before the start of its window.
    fn timed_as(&self, lineage: &Lineage, timing: &Timing, now: Time) -> Lineage {
        let own = &lineage.shape.timing;
        let is_same =
            own != timing && own.window(&self.calendars, now) == timing.window(&self.calendars, now);
        if is_same { lineage.clone().timed(timing) } else { lineage.clone() }
    }

    /// Returns the lineages that both plans count, for a tenant that changes from one plan to the other at `now`.
    /// Returns none if there are more than [`CARRIED_MAX`].
    pub fn carry_to(&self, from: &Plan, to: &Plan, now: Time) -> Vec<Lineage> {
        self.carry((self.plan_since, &self.carried), &from.limits, &to.limits, now)
    }

    /// Returns the lineages that both plans count for an agent that changes from one plan to the other at `now`.
    /// Returns none if there are more than [`CARRIED_MAX`].
    pub fn carry_agent_to(&self, agent: &Arc<Agent>, from: &Plan, to: &Plan, now: Time) -> Vec<Lineage> {
        let (from, to) = (limits_of_agent(from, agent), limits_of_agent(to, agent));
        self.carry((agent.plan_since, &agent.carried), &from, &to, now)
    }

    /// Returns the lineages that the limits `from` and the limits `to` both count. The limits `from` were got by the
    /// change `since`, which carried on the lineages `kept`.
    fn carry(
        &self,
        (since, kept): (Since, &[Lineage]),
        from: &[Arc<Limit>],
        to: &[Arc<Limit>],
        now: Time,
    ) -> Vec<Lineage> {
        let mut before = Vec::new();
        for lineage in from.iter().flat_map(|limit| limit.lineages()) {
            if lineage.since > since {
                before.push(lineage);
                continue;
            }
            let timed = kept.iter().map(|carried| self.timed_as(carried, &lineage.shape.timing, now));
            before.extend(timed.filter_map(|carried| carried.within(&lineage.shape)));
            before.push(Lineage { since, ..lineage });
        }
        let mut carried = Vec::new();
        for limit in to {
            let timed = before.iter().map(|lineage| self.timed_as(lineage, &limit.shape.timing, now));
            carried.extend(timed.filter_map(|lineage| lineage.within(&limit.shape)));
        }
        let carried = without_repeats(carried);
        if carried.len() > CARRIED_MAX { Vec::new() } else { carried }
    }
}

/// Makes the new limits of a plan. They count since `now`, except for the counters that the previous limits already
/// counted. A limit that keeps its id, resource, period, dimensions and labels keeps its history, too.
///
/// # Errors
///
/// Returns the place of each limit whose anchors cannot change now.
pub fn replace_limits(
    before: &[impl AsRef<Limit>],
    limits: &[Limit],
    now: Since,
) -> Result<Vec<Arc<Limit>>, Vec<(usize, FullHistory)>> {
    let old: Vec<Lineage> = before.iter().flat_map(|limit| limit.as_ref().lineages()).collect();
    let mut replaced: Vec<Limit> = limits.to_vec();
    let mut full = Vec::new();
    for (place, limit) in replaced.iter_mut().enumerate() {
        let present = limit.shape.timing.present;
        let mut lineages = old.clone();
        if let Some(ancestor) = ancestor(before, limits, limit) {
            match ancestor.shape.timing.clone().changed(present, now.at) {
                Ok(timing) => limit.shape.timing = timing,
                Err(error) => full.push((place, error)),
            }
            // Its running windows continue, and so does all that was counted in them.
            lineages.extend(ancestor.lineages().map(|lineage| lineage.timed(&limit.shape.timing)));
        }
        let carried = without_repeats(shared(&lineages, &limit.shape).collect());
        let whole = carried.iter().filter(|lineage| lineage.shape.covers(&limit.shape));
        limit.since = whole.map(|lineage| lineage.since).min().unwrap_or(now);
        limit.kept = carried.into_iter().filter(|lineage| lineage.since < limit.since).collect();
    }
    if replaced.iter().any(|limit| limit.kept.len() > CARRIED_MAX) {
        replaced.iter_mut().for_each(|limit| (limit.since, limit.kept) = (now, Vec::new()));
    }
    if full.is_empty() { Ok(replaced.into_iter().map(Arc::new).collect()) } else { Err(full) }
}

/// Finds the previous limit that goes on as this limit, perhaps with other anchors: the limit with the same id, or else
/// a limit with the same anchors, rather one whose id is gone.
fn ancestor<'a>(before: &'a [impl AsRef<Limit>], limits: &[Limit], limit: &Limit) -> Option<&'a Limit> {
    let alike =
        before.iter().map(AsRef::as_ref).filter(|old| old.shape.differs_only_in_anchors(&limit.shape));
    let same_anchors = alike.clone().filter(|old| old.shape.timing.present == limit.shape.timing.present);
    let is_gone = |old: &&Limit| limits.iter().all(|limit| limit.id != old.id);
    let same_id = alike.clone().find(|old| old.id == limit.id);
    same_id.or_else(|| same_anchors.clone().find(is_gone)).or_else(|| same_anchors.clone().next())
}

impl Lineage {
    /// Returns this lineage with another timing.
    fn timed(mut self, timing: &Timing) -> Lineage {
        self.shape.timing = timing.clone();
        self
    }

    /// Returns the part of the lineage that `shape` counts as well. `None`: they share no counter.
    fn within(&self, shape: &Shape) -> Option<Lineage> {
        Some(Lineage { shape: self.shape.shared_with(shape)?, since: self.since })
    }
}

/// Returns the parts of the lineages that `shape` counts as well.
fn shared<'a>(lineages: &'a [Lineage], shape: &'a Shape) -> impl Iterator<Item = Lineage> + 'a {
    lineages.iter().filter_map(|lineage| lineage.within(shape))
}

fn earliest(lineages: &[Lineage], key: &CounterKey, calendars: &[TenantCalendar]) -> Option<Since> {
    lineages.iter().filter(|lineage| lineage.shape.counts(key, calendars)).map(|lineage| lineage.since).min()
}

/// Drops each lineage whose shape is covered by a lineage that is older or equally old.
fn without_repeats(mut lineages: Vec<Lineage>) -> Vec<Lineage> {
    // Earlier lineages come first, and of equally early lineages the wider. The other fields of the sort key make the
    // result independent of the order of the argument.
    lineages.sort_by_cached_key(|Lineage { shape, since }| {
        let Shape { resource, timing, selectors, per, labels } = shape;
        let selected = selectors.iter().filter(|(_, selector)| selector.is_some()).count()
            + labels.iter().filter(|rule| rule.selected.is_some()).count();
        (*since, selected, *resource, timing.clone(), selectors.clone(), *per, labels.clone())
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
