//! Notes the facts that a change to the books causes, and makes their events.

use super::{Basis, Books, CounterSlot};
use crate::domain::{
    alert::{Edge, Quiet, edges},
    counter::{Balance, CounterKey},
    event::{ChangeAction, ChangedKind, Event, Fact, Figures},
    plan::{Limit, Policy},
    refusal::Violation,
};

impl CounterSlot {
    /// Notes a fact for each threshold that `committed` has reached or cleared. Sets `quiet` to the range in which
    /// `committed` reaches or clears no other threshold.
    pub(super) fn note_edges(
        &mut self,
        key: &CounterKey,
        Basis { tenant, terms, now }: Basis<'_>,
        facts: &mut Vec<Fact>,
    ) {
        self.quiet = Quiet::EVERYWHERE;
        let reads = |id: &str| terms.limits_of(key, &tenant.calendars).any(|limit| limit.id == id);
        for limit in terms.limits_of_at(key, self.counter.window, &tenant.calendars, now) {
            let known = self.alerts.as_ref().and_then(|alerts| alerts.find(&limit.id));
            let reached = known.map_or(&[][..], |alerts| &alerts.reached);
            let carried = self.carried(limit);
            let allowance = limit.quantity.saturating_add(carried);
            let edges = edges(limit, allowance, self.counter.committed, reached, &mut self.quiet);
            if edges.is_empty() {
                continue;
            }
            let alerts = self.alerts.get_or_insert_default().of_limit(&limit.id, reads);
            self.full = true;
            let refused = alerts.refused_as(limit.enforcement);
            let (key, limit) = (key.clone(), Some(limit.clone()));
            let figures = Figures::from(Balance { key, limit, counter: self.counter, refused, carried });
            let mut cleared = false;
            for edge in edges {
                let (figures, generation) = (figures.clone(), alerts.generation);
                facts.push(match edge {
                    Edge::Cleared(percent) => {
                        alerts.reached.retain(|reached| *reached != percent);
                        cleared = true;
                        Fact::Cleared { percent, generation, figures }
                    }
                    Edge::Reached(percent) => {
                        alerts.reached.push(percent);
                        let generation = generation.saturating_add(i32::from(cleared));
                        Fact::Reached { percent, generation, figures }
                    }
                });
            }
            alerts.reached.sort_unstable();
            alerts.generation = alerts.generation.saturating_add(i32::from(cleared));
        }
    }
}

impl Books {
    /// Returns how many operations a limit refused because of this counter, or would have refused while it was OBSERVE.
    /// Counts only refusals under the present enforcement of the limit.
    pub(in crate::domain) fn refused_by(&self, key: &CounterKey, limit: &Limit) -> i64 {
        let slot = self.known.counters.get(key).and_then(Option::as_ref);
        let alerts = slot.and_then(|slot| slot.alerts.as_ref());
        alerts
            .and_then(|alerts| alerts.find(&limit.id))
            .map_or(0, |alerts| alerts.refused_as(limit.enforcement))
    }

    /// Counts the refusals of HARD limits, and the operations that OBSERVE limits would have refused. For each limit,
    /// counter and enforcement, the first of them emits an event.
    pub fn note_refusals<'a>(&mut self, violations: impl IntoIterator<Item = &'a Violation>) {
        for violation in violations {
            let begun = self.balance_in_new_window(&violation.balance);
            let balance = begun.as_ref().unwrap_or(&violation.balance);
            let (key, fresh) = (&balance.key, balance.counter);
            let Some(limit) = &balance.limit else { continue };
            // Adding 0 marks the counter as changed, and creates the counter if it does not exist.
            self.add(key, 0, 0, fresh);
            let Some(Some(slot)) = self.known.counters.get_mut(key) else { continue };
            let (terms, calendars) = (&self.terms, &self.tenant.calendars);
            let reads = |id: &str| terms.limits_of(key, calendars).any(|limit| limit.id == id);
            let alerts = slot.alerts.get_or_insert_default().of_limit(&limit.id, reads);
            let refused = alerts.count_refusal(limit.enforcement);
            slot.full = true;
            if refused == 1 {
                let figures = Figures { refused, ..balance.clone().into() };
                self.facts.push(Fact::Refused { requested: violation.requested, figures });
            }
        }
    }

    /// Notes the fact that a scheduled change of the tenant's plan was due, if the tenant's row does not contain it
    /// yet.
    pub(super) fn note_change_of_plan(&mut self) {
        if let Some(unsaved) = self.tenant.unsaved {
            let fields = unsaved.fields().iter().map(|&field| field.to_owned()).collect();
            let (kind, action, id) = (ChangedKind::Tenant, ChangeAction::Updated, self.tenant.id.to_string());
            self.facts.push(Fact::Changed { kind, id, action, fields, caller: String::new() });
        }
    }

    /// Notes a fact for an event.
    pub fn note(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// Makes the events of the noted facts, with the tenant's next numbers.
    pub(super) fn take_events(&mut self, policy: &Policy) -> Vec<Event> {
        let facts = std::mem::take(&mut self.facts);
        self.tenant.event_number += i64::try_from(facts.len()).unwrap_or(0);
        let tenant = &self.tenant;
        let event = |fact| Event::of_tenant(tenant, policy, fact);
        facts.into_iter().map(event).collect()
    }
}
