//! Windows of ROLLING (R4.47). Such a window begins with the first hold or Record after the window before has ended, so
//! each subject has windows of its own. The head of a counter remembers when its newest window ends.

use std::sync::Arc;

use super::{Books, CounterSlot};
use crate::domain::{
    counter::{Balance, Counter, CounterKey, HEAD_START, NOT_LOADED},
    plan::Limit,
    shape::{Shape, Subject},
    time::Time,
    timing::Recurrence,
    window::{Window, WindowOfCycle},
};

impl CounterKey {
    /// Returns the window of a counter of ROLLING that is no head. `None`: the key is another key.
    pub fn rolling_window(&self) -> Option<Window> {
        let length = self.cycle().rolling_length()?;
        let start = self.window_start();
        (start != HEAD_START).then(|| Window { start, end: start.saturating_add(length) })
    }

    /// Returns the key of the counter of the newest window, if this is the key of a head whose window ends at `end`.
    pub fn newest_of_head(&self, end: Time) -> Option<CounterKey> {
        let length = self.cycle().rolling_length()?;
        self.is_head().then(|| self.starting_at(end.saturating_sub(length)))
    }
}

impl Books {
    /// Returns the window of ROLLING in which usage at the instant `at` counts: the newest window or, if that window
    /// has ended by then, a new window. Usage before the newest window counts in the newest window, too. `None`: the
    /// shape has another period. If the head is not loaded, returns a window with the start of a head.
    pub(in crate::domain) fn rolling_window(
        &self,
        shape: &Shape,
        subject: &Subject,
        at: Time,
    ) -> Option<WindowOfCycle> {
        let Recurrence::OfLimit(cycle) = shape.timing.present else { return None };
        let length = cycle.rolling_length()?;
        let head = CounterKey::of_shape(shape, WindowOfCycle { window: NOT_LOADED, cycle }, subject);
        let window = match self.known.counters.get(&head) {
            None => NOT_LOADED,
            Some(Some(head)) if at < head.counter.window.end => {
                let end = head.counter.window.end;
                Window { start: end.saturating_sub(length), end }
            }
            Some(_) => Window { start: at, end: at.saturating_add(length) },
        };
        Some(WindowOfCycle { window, cycle })
    }

    /// Returns whether this counter of ROLLING counts in no window yet: a head, or a counter that does not exist.
    pub(super) fn has_not_begun(&self, key: &CounterKey) -> bool {
        key.is_rolling() && (key.is_head() || !self.has_counter(key))
    }

    /// Returns whether this is the counter of a window of ROLLING that begins after the newest window has ended. No row
    /// can have such a counter.
    pub(super) fn begins_rolling(&self, key: &CounterKey) -> bool {
        let head = || self.known.counters.get(&key.head())?.as_ref();
        key.is_rolling()
            && !key.is_head()
            && head().is_some_and(|head| head.counter.window.end <= key.window_start())
    }

    /// Makes the balance of a subject that has no running window. The head counts the refusals.
    pub(super) fn balance_not_begun(&self, key: &CounterKey, limit: Option<&Arc<Limit>>) -> Balance {
        let key = key.head();
        let refused = limit.map_or(0, |limit| self.refused_by(&key, limit));
        Balance { key, limit: limit.cloned(), counter: Counter::not_begun(self.now), refused, carried: 0 }
    }

    /// Notes in the head that a new window has begun, unless a later window has begun. Does nothing if the head is not
    /// loaded: then the counter belongs to an old window.
    pub(super) fn begin_rolling(&mut self, key: &CounterKey, end: Time) {
        let key = key.head();
        let Some(place) = self.known.counters.get_mut(&key) else { return };
        // The window of a head has no start, so a head counts towards the bound.
        self.tenant.counters += i64::from(place.is_none());
        let slot = place.get_or_insert_with(|| CounterSlot::new(Counter::not_begun(self.now), None, false));
        if end <= slot.counter.window.end {
            return;
        }
        slot.counter.window.end = end;
        // Refusals are counted for each window, and those of the head were made before this window.
        slot.alerts = None;
        slot.full = true;
        if !slot.changed {
            slot.changed = true;
            self.changed_counters.push(key);
        }
    }

    /// Returns the balance to which a refusal belongs if its operation has begun a window of ROLLING after the violation
    /// was found: OBSERVE limits let operations pass. `None`: the refusal belongs to its own balance.
    pub(super) fn balance_in_new_window(&self, balance: &Balance) -> Option<Balance> {
        if !balance.key.is_rolling() {
            return None;
        }
        let head = self.known.counters.get(&balance.key)?.as_ref()?;
        let key = balance.key.newest_of_head(head.counter.window.end)?;
        let window = self.known.counters.get(&key)?.as_ref()?.counter.window;
        let counter = Counter { window, ..balance.counter };
        window.contains(self.now).then(|| Balance { key, counter, ..balance.clone() })
    }
}
