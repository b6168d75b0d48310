//! Counters that begin anew: since the limits that count them had gone away and returned, or since an operator set them to
//! zero. What they held is taken off on the record, once.

use super::{Adjustment, Books, CounterSlot};
use crate::domain::{
    counter::{Counter, CounterKey},
    event::{Fact, Figures},
    id::ReservationId,
    plan::Plan,
    tenant::Tenant,
    window::Millis,
};

/// Why a counter was set to zero whose limits had gone away.
pub const RETURNED_REASON: &str = "the limit returned";

/// Why the record of a charge is balanced that was taken off its counter before.
pub const FORGIVEN_REASON: &str = "the charge was made before its counter was set to zero";

/// Who did it, when no operator did.
pub const OPERATOR: &str = "tope";

/// A correction that gets its id when the batch is written. A batch that is repeated makes it again only if it was not
/// written.
#[derive(Debug)]
pub(super) struct Correction {
    key: CounterKey,
    delta: i64,
    reason: &'static str,
}

impl CounterSlot {
    /// Notes whether the limits of a plan have begun anew since the counter was used.
    pub(super) fn compare(&mut self, key: &CounterKey, tenant: &Tenant, plan: &Plan) {
        let since = tenant.counted_since(plan, key);
        let counter = &self.counter;
        self.anew = since.filter(|since| {
            // A window that was over by then keeps what it held.
            counter.counted_since.is_before(*since) && since.at < counter.window.end
        });
    }

    /// The figures that count.
    pub(super) fn shown(&self) -> Counter {
        self.anew.map_or(self.counter, |since| self.counter.restarted(since))
    }
}

impl Books {
    /// The plan has changed since the counters were loaded.
    pub(super) fn compare_all(&mut self) {
        for (key, slot) in &mut self.known.counters {
            if let Some(slot) = slot {
                slot.compare(key, &self.tenant, &self.plan);
            }
        }
        // Of what is due, it depends on the counters whether it is charged.
        self.due = super::DueHolds::default();
    }

    /// Enters in a counter that begins anew that it does.
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

    /// Takes off all that a counter has committed by an instant, on the record. Returns what was added to its row, which is
    /// without the charges that are due and not yet swept: these are taken off as they are swept.
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

    /// Whether a charge that was made at this deadline was taken off the counter since.
    pub fn is_forgiven(&self, key: &CounterKey, deadline: Millis) -> bool {
        let slot = self.known.counters.get(key).and_then(Option::as_ref);
        slot.is_some_and(|slot| deadline <= slot.shown().forgiven_until)
    }

    /// Notes a correction: what the reservations say of a counter, and what it says, differ by so much.
    pub fn correct(&mut self, key: &CounterKey, delta: i64, reason: &'static str) {
        if delta != 0 {
            self.corrections.push(Correction { key: key.clone(), delta, reason });
        }
    }

    /// The corrections, with ids that begin with the instant of the decision.
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

/// A UUID of version 7 whose chance is that of a version of the books, which no other batch has.
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
