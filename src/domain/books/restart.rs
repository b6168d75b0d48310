//! Sets counters to zero: when limits that were removed return (R4.26), and when ResetUsage demands it (R4.18). An
//! adjustment subtracts the counter's `committed`.

use super::{Adjustment, Basis, Books, CounterSlot};
use crate::domain::{
    counter::{Counter, CounterKey},
    event::{Fact, Figures},
    id::ReservationId,
    tenant::Tenant,
    terms::Terms,
    time::{Span, Time},
};

/// The `reason` of an adjustment that is made because the limits of a counter return.
pub const RETURNED_REASON: &str = "the limit returned";

/// The `reason` of an adjustment for a charge that an earlier adjustment already subtracted (R4.27).
pub const FORGIVEN_REASON: &str = "the charge was made before its counter was set to zero";

/// The `operator` of adjustments that the server makes by itself.
pub const OPERATOR: &str = "tope";

/// An adjustment that gets its id in [`Books::into_changes`]. A repeated batch makes the adjustment again, with
/// another id, only if no earlier attempt was committed.
#[derive(Debug)]
pub(super) struct Correction {
    key: CounterKey,
    delta: i64,
    reason: &'static str,
}

impl CounterSlot {
    /// Notes whether the limits of the counter started to count from zero after the counter was last used.
    pub(super) fn compare(&mut self, key: &CounterKey, tenant: &Tenant, terms: &Terms) {
        if key.is_head() {
            return;
        }
        let since = terms.counted_since(tenant, key);
        let counter = &self.counter;
        self.restart = since.filter(|since| {
            // If the window ended before the limit returned, its counter keeps its figures.
            counter.counted_since.is_before(*since) && since.at < counter.window.end
        });
    }

    /// Returns the counter with the figures for decisions and replies: at zero, if its limits count from zero.
    pub(super) fn shown(&self) -> Counter {
        self.restart.map_or(self.counter, |since| self.counter.restarted(since))
    }
}

impl Books {
    /// Compares all counters with the present terms. Before, they were compared with other terms.
    pub(super) fn compare_all(&mut self) {
        for (key, slot) in &mut self.known.counters {
            if let Some(slot) = slot {
                slot.compare(key, &self.tenant, &self.terms);
            }
        }
        // The terms decide whether a charge that is due counts, so the sums of due holds must be computed again.
        self.due = super::DueHolds::default();
    }

    /// Sets the counter to zero by an adjustment, if its limits started to count from zero.
    pub(super) fn restart(&mut self, key: &CounterKey) {
        let Some(Some(slot)) = self.known.counters.get_mut(key) else { return };
        let Some(since) = slot.restart.take() else { return };
        let delta = slot.counter.committed.saturating_neg();
        slot.counter = slot.counter.restarted(since);
        slot.full = true;
        let basis = Basis { tenant: &self.tenant, terms: &self.terms, now: self.now };
        slot.change(key, basis, &mut self.changed_counters, &mut self.facts);
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
            caller: String::new(),
            figures: figures.into_iter().map(Figures::from).collect(),
        });
    }

    /// Sets the counter's `committed` to zero. Charges at deadlines up to `until` no longer count. Returns the quantity
    /// that was added to the counter's row, 0 or less. The row does not contain the charges of due holds that are not
    /// yet swept, and the sweep will not count these charges.
    pub fn forgive(&mut self, key: &CounterKey, until: Time, fresh: Counter) -> i64 {
        self.restart(key);
        let delta = slot_counter(self, key).map_or(0, |counter| counter.committed.saturating_neg());
        self.due.forgive(key);
        self.add(key, delta, 0, fresh);
        if let Some(Some(slot)) = self.known.counters.get_mut(key) {
            // At one instant there may be several resets, and charges between them. Each charge remembers this instant
            // as the charge found it, so each reset must set a later one.
            let next = slot.counter.forgiven_until.saturating_add(Span::MILLISECOND);
            slot.counter.forgiven_until = next.max(until);
            slot.full = true;
        }
        delta
    }

    /// Returns whether the counter was set to zero at or after this deadline. If so, the charge of a hold with this
    /// deadline no longer counts.
    pub fn is_forgiven(&self, key: &CounterKey, deadline: Time) -> bool {
        let slot = self.known.counters.get(key).and_then(Option::as_ref);
        slot.is_some_and(|slot| deadline <= slot.shown().forgiven_until)
    }

    /// Notes an adjustment of `delta`, unless `delta` is 0. The counter is the sum of its reservations and its
    /// adjustments (I2).
    pub fn correct(&mut self, key: &CounterKey, delta: i64, reason: &'static str) {
        if delta != 0 {
            self.corrections.push(Correction { key: key.clone(), delta, reason });
        }
    }

    /// Takes the noted adjustments, and gives them ids that contain the instant of the decision and the new version.
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

/// Makes a UUID of version 7 with random bits from the new version of the books, so that no other batch makes the same
/// id.
fn id_of_version(at: Time, version: i64) -> ReservationId {
    let (time, chance) = (at.0.to_be_bytes(), version.to_be_bytes());
    let mut id = [0; 16];
    id[..6].copy_from_slice(&time[2..]);
    id[6] = 0x70 | (chance[0] & 0x0f);
    id[7] = chance[1];
    id[8] = 0x80 | (chance[2] & 0x3f);
    id[9..12].copy_from_slice(&chance[3..6]);
    ReservationId(id)
}
