//! Counters that start at zero again: because their limits were removed and returned (R4.26), or by ResetUsage
//! (R4.18). What such a counter held is taken off by an adjustment, once.

use super::{Adjustment, Books, CounterSlot};
use crate::domain::{
    counter::{Counter, CounterKey},
    event::{Fact, Figures},
    id::ReservationId,
    plan::Plan,
    tenant::Tenant,
    window::Millis,
};

/// Reason of the adjustment when the limits of a counter return.
pub const RETURNED_REASON: &str = "the limit returned";

/// Reason of the adjustment for a charge that was taken off its counter before (R4.27).
pub const FORGIVEN_REASON: &str = "the charge was made before its counter was set to zero";

/// The operator of adjustments that no operator asked for.
pub const OPERATOR: &str = "tope";

/// An adjustment that gets its id when the changes are made. If a batch is repeated, it makes the adjustment again
/// only if it was not written.
#[derive(Debug)]
pub(super) struct Correction {
    key: CounterKey,
    delta: i64,
    reason: &'static str,
}

impl CounterSlot {
    /// Notes whether the limits of the plan began to count anew after the counter was last used.
    pub(super) fn compare(&mut self, key: &CounterKey, tenant: &Tenant, plan: &Plan) {
        let since = tenant.counted_since(plan, key);
        let counter = &self.counter;
        self.anew = since.filter(|since| {
            // A window that was over before the return keeps what it held.
            counter.counted_since.is_before(*since) && since.at < counter.window.end
        });
    }

    /// The counter as decisions and replies see it.
    pub(super) fn shown(&self) -> Counter {
        self.anew.map_or(self.counter, |since| self.counter.restarted(since))
    }
}

impl Books {
    /// Compares all counters with a plan other than the one by which they were loaded.
    pub(super) fn compare_all(&mut self) {
        for (key, slot) in &mut self.known.counters {
            if let Some(slot) = slot {
                slot.compare(key, &self.tenant, &self.plan);
            }
        }
        // The plan decides whether a charge that is due counts, so the sums have to be made again.
        self.due = super::DueHolds::default();
    }

    /// Starts the counter at zero, by an adjustment, if its limits began to count anew.
    pub(super) fn begin_anew(&mut self, key: &CounterKey) {
        let Some(Some(slot)) = self.known.counters.get_mut(key) else { return };
        let Some(since) = slot.anew.take() else { return };
        let delta = slot.counter.committed.saturating_neg();
        slot.counter = slot.counter.restarted(since);
        slot.told = true;
        slot.change(key, &self.plan, (&mut self.changed_counters, &mut self.facts));
        if delta == 0 {
            return;
        }
        self.correct(key, delta, RETURNED_REASON);
        let counter = slot_counter(self, key);
        let figures = counter.map(|counter| self.balances_of(key, counter)).unwrap_or_default();
        self.note(Fact::Reset {
            delta,
            reason: RETURNED_REASON.to_owned(),
            operator: OPERATOR.to_owned(),
            figures: figures.into_iter().map(Figures::from).collect(),
        });
    }

    /// Takes off all that the counter has committed up to `until`. Returns the quantity that was added to the
    /// counter's row. The row does not contain charges that are due and not yet swept; sweeping takes these off.
    pub fn forgive(&mut self, key: &CounterKey, until: Millis, fresh: Counter) -> i64 {
        self.begin_anew(key);
        let delta = slot_counter(self, key).map_or(0, |counter| counter.committed.saturating_neg());
        self.due.forgive(key);
        self.add(key, delta, 0, fresh);
        if let Some(Some(slot)) = self.known.counters.get_mut(key) {
            slot.counter.forgiven_until = slot.counter.forgiven_until.max(until);
            slot.told = true;
        }
        delta
    }

    /// Whether the charge of a hold with this deadline was taken off the counter.
    pub fn is_forgiven(&self, key: &CounterKey, deadline: Millis) -> bool {
        let slot = self.known.counters.get(key).and_then(Option::as_ref);
        slot.is_some_and(|slot| deadline <= slot.shown().forgiven_until)
    }

    /// Notes an adjustment of `delta`, by which the counter and the sum of its reservations differ.
    pub fn correct(&mut self, key: &CounterKey, delta: i64, reason: &'static str) {
        if delta != 0 {
            self.corrections.push(Correction { key: key.clone(), delta, reason });
        }
    }

    /// The noted adjustments, with ids that contain the instant of the decision and the new version.
    pub(super) fn take_corrections(&mut self, version: i64) -> impl Iterator<Item = Adjustment> {
        let corrections = std::mem::take(&mut self.corrections);
        let first = id_of_version(self.tenant.decided_at, version);
        (0..).zip(corrections).map(move |(number, Correction { key, delta, reason })| Adjustment {
            id: first.part(number),
            key,
            delta,
            reason: reason.to_owned(),
            operator: OPERATOR.to_owned(),
        })
    }
}

fn slot_counter(books: &Books, key: &CounterKey) -> Option<Counter> {
    Some(books.known.counters.get(key)?.as_ref()?.counter)
}

/// A UUID of version 7 that takes its random bits from the new version of the books, so no other batch makes it.
fn id_of_version(at: Millis, version: i64) -> ReservationId {
    let (time, chance) = (at.to_be_bytes(), version.to_be_bytes());
    let mut id = [0; 16];
    id[..6].copy_from_slice(&time[2..]);
    id[6] = 0x70 | (chance[0] & 0x0f);
    id[7] = chance[1];
    id[8] = 0x80 | (chance[2] & 0x3f);
    id[9..12].copy_from_slice(&chance[3..6]);
    ReservationId(id)
}
