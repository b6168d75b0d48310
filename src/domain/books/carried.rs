//! The carry-over of counters (R4.46). The first operation that uses a counter in a new window stores what is carried
//! over from the window before, with the counter and for each limit. Nothing changes it afterwards.

use std::sync::Arc;

use super::{Books, CounterSlot};
use crate::domain::{
    alert::{Alerts, LimitAlerts},
    counter::CounterKey,
    plan::Limit,
    time::Span,
    window::Window,
};

impl CounterSlot {
    /// Returns the units that were carried over to the counter for a limit. 0 if the limit carries nothing over, also
    /// if it did when the counter was first used.
    pub(super) fn carried(&self, limit: &Limit) -> i64 {
        let known = limit.carry.and(self.alerts.as_ref());
        known.and_then(|alerts| alerts.find(&limit.id)).map_or(0, |alerts| alerts.carried)
    }
}

impl Books {
    /// Returns the units that were carried over to a counter for a limit. If the counter does not exist yet: the units
    /// that the first operation of its window would carry over now.
    pub fn carried(&self, key: &CounterKey, limit: &Arc<Limit>) -> i64 {
        if limit.carry.is_none() {
            return 0;
        }
        match self.known.counters.get(key) {
            Some(Some(slot)) => slot.carried(limit),
            Some(None) | None => self.carry_to(key, limit),
        }
    }

    /// Returns what a limit permits in the window of a counter: its quantity, and what was carried over.
    pub fn allowance(&self, key: &CounterKey, limit: &Arc<Limit>) -> i64 {
        limit.quantity.saturating_add(self.carried(key, limit))
    }

    /// Returns the counters from which limits carry over to a counter. Empty if the counter exists, since its
    /// carry-over is stored with it.
    pub fn sources_of(&self, key: &CounterKey) -> Vec<CounterKey> {
        if !self.terms.carries_over() || self.has_counter(key) {
            return Vec::new();
        }
        let limits = self.terms.limits_of(key, &self.tenant.calendars);
        let mut sources: Vec<CounterKey> =
            limits.filter_map(|limit| Some(self.source_of(key, limit)?.0)).collect();
        sources.dedup();
        sources
    }

    /// Returns those of the counters, and of the counters from which limits carry over to them, that the books do not
    /// know.
    pub fn unknown_of<'a>(&self, keys: impl Iterator<Item = &'a CounterKey>) -> Vec<CounterKey> {
        let mut unknown = Vec::new();
        for key in keys {
            if !self.knows(key) && !self.begins_rolling(key) {
                unknown.push(key.clone());
            }
            unknown.extend(self.sources_of(key).into_iter().filter(|source| !self.knows(source)));
        }
        unknown
    }

    /// Makes the alerts of a counter that does not exist yet, with the carry-over for each limit that reads it. `None`:
    /// nothing is carried over.
    pub(super) fn carried_at_first(&self, key: &CounterKey) -> Option<Box<Alerts>> {
        if !self.terms.carries_over() || self.has_counter(key) {
            return None;
        }
        let mut alerts = Alerts::default();
        for limit in self.terms.limits_of(key, &self.tenant.calendars) {
            let carried = self.carry_to(key, limit);
            if carried > 0 {
                alerts.limits.push(LimitAlerts { carried, ..LimitAlerts::new(&limit.id) });
            }
        }
        (!alerts.limits.is_empty()).then(|| Box::new(alerts))
    }

    /// Returns the units that a limit carries over from the window before, as that window is now. Every decision has
    /// the counter of that window loaded; of an unknown counter nothing is carried over.
    fn carry_to(&self, key: &CounterKey, limit: &Arc<Limit>) -> i64 {
        let (Some(carry), Some((source, window))) = (limit.carry, self.source_of(key, limit)) else {
            return 0;
        };
        if !self.knows(&source) {
            return 0;
        }
        let quantity = self.terms.in_window(limit, &source, window, self.now).quantity;
        let counter = self.find_counter(&source);
        let used = counter.map_or(0, |counter| i128::from(counter.committed) + i128::from(counter.reserved));
        carry.units(quantity, used)
    }

    /// Returns the counter of the window before, and that window, if the limit carries over from there. A limit that
    /// did not count at the end of that window, or not by the tenant's present plan, carries nothing over.
    fn source_of(&self, key: &CounterKey, limit: &Limit) -> Option<(CounterKey, Window)> {
        limit.carry?;
        let last = key.window_start().saturating_sub(Span::MILLISECOND);
        let before = limit.shape.timing.window(&self.tenant.calendars, last);
        let source = key.in_window(before);
        let end = before.window.end;
        let plan_since = match &limit.source.agent {
            Some(agent) => agent.plan_since,
            None => self.tenant.plan_since,
        };
        let counted = plan_since.at < end && self.tenant.counts_since(limit, &source).at < end;
        (counted && source != *key).then_some((source, before.window))
    }
}
