//! Which counters are old enough to be pruned (R4.48).

use super::prune::Retention;
use crate::{
    domain::{
        bounds::{LIFETIME_MAX, OCCURRED_AGE_MAX},
        counter::CounterKey,
        id::TenantKey,
        time::{Span, Time},
        window::{Period, Window},
    },
    store::{StoreError, row::Row},
};

/// The instants that decide which counters are old.
#[derive(Clone, Copy)]
pub(super) struct Age {
    pub(super) now: Time,
    /// A counter is old if its window ended at this instant or before it.
    pub(super) over_until: Time,
    /// The same for short windows, for which WINDOW_CLOSED is not emitted. A limit per minute makes half a million
    /// counters a year, and nobody needs them when no reservation names them any more.
    pub(super) short_until: Time,
    /// A LIFETIME counter is idle if it was not used since this instant or an earlier one. So is a head of which no
    /// window has begun.
    pub(super) idle_until: Time,
}

impl Age {
    /// Makes the instants for a walk at `now`.
    pub(super) fn of(now: Time, retention: Retention) -> Self {
        // Reservations are pruned at their own age. Until then no step finds that their counters can go, so the walk
        // does not try it.
        let kept = retention.reservations.saturating_add(OCCURRED_AGE_MAX).saturating_add(LIFETIME_MAX);
        Self {
            now,
            over_until: now.saturating_sub(retention.counters.max(kept)),
            short_until: now.saturating_sub(kept),
            idle_until: now.saturating_sub(retention.counters),
        }
    }

    /// Returns whether a window is over for so long that no window after it needs its counter. Limits may need the
    /// counter of the window before the running window. After a change of the calendar, a window can be one and a half
    /// times as long as its nominal length.
    pub(super) fn is_over(&self, key: &CounterKey, end: Time) -> bool {
        let length = key.cycle().nominal_length().0.saturating_mul(2);
        let until = if key.closes() { self.over_until } else { self.short_until };
        end <= until.min(self.now.saturating_sub(Span(length)))
    }
}

/// A counter that was old when its page was read.
pub(super) struct OldCounter {
    pub(super) tenant: TenantKey,
    pub(super) key: CounterKey,
    committed: i64,
    reserved: i64,
    pub(super) window: Window,
    closed: bool,
    alerts: Option<Vec<u8>>,
    idle_since: Time,
    idle_figures: Option<Vec<u8>>,
    /// `counted_since` and `forgiven_until`, which resets change.
    reset: [i64; 2],
}

impl OldCounter {
    /// Reads a row of the statement that finds old counters.
    pub(super) fn from_row(row: &Row) -> Result<Self, StoreError> {
        let key = CounterKey::from_bytes(&row.get::<Vec<u8>>(1)?);
        Ok(Self {
            tenant: TenantKey(row.get(0)?),
            key: key.ok_or_else(|| StoreError::Corrupt("a counter's key".to_owned()))?,
            committed: row.get(2)?,
            reserved: row.get(3)?,
            window: Window { start: row.get(4)?, end: row.get(5)? },
            closed: row.get::<i16>(6)? != 0,
            alerts: row.get(7)?,
            idle_since: row.get(8)?,
            idle_figures: row.get(9)?,
            reset: [row.get(10)?, row.get(11)?],
        })
    }

    /// Returns whether the counter is pruned when it was idle for long: it counts one subject, and either for ever, or
    /// it is a head of which no window has begun, so that only refusals made it.
    fn goes_when_idle(&self) -> bool {
        let is_endless = self.key.period() == Period::Lifetime || (self.key.is_head() && !self.has_begun());
        is_endless && self.key.is_of_one_subject()
    }

    /// Returns whether a window of this head has begun.
    fn has_begun(&self) -> bool {
        self.window.end > Time::EPOCH
    }

    /// Returns the figures of the counter. A batch that uses the counter removes the note of them, even if it leaves
    /// them as they are. A server of an earlier release does not remove the note, but it changes these figures:
    /// committed and reserved, the alerts, which contain the number of refusals, and the instants that change if the
    /// counter is reset.
    pub(super) fn figures(&self) -> Vec<u8> {
        let [since, forgiven] = self.reset;
        let numbers = [self.committed, self.reserved, since, forgiven].map(i64::to_be_bytes).concat();
        [numbers, self.alerts.clone().unwrap_or_default()].concat()
    }

    /// Returns the instant before which every reservation was made that can name the counter, if the counter is old.
    /// `None`: the counter is not old.
    pub(super) fn named_until(&self, age: &Age) -> Option<Time> {
        if self.goes_when_idle() {
            let is_idle = self.idle_since > Time::EPOCH && self.idle_figures == Some(self.figures());
            return (is_idle && self.idle_since <= age.idle_until && self.reserved == 0)
                .then(|| self.idle_since.saturating_add(Span::MILLISECOND));
        }
        // A head goes with the counter of its newest window.
        let may_be_old = self.closed && self.reserved == 0 && !self.key.is_head();
        let is_old = may_be_old && age.is_over(&self.key, self.window.end);
        // A Record may say that its usage occurred in an earlier window.
        is_old.then(|| self.window.end.saturating_add(OCCURRED_AGE_MAX).saturating_add(Span::MILLISECOND))
    }

    /// Returns whether the figures must be noted, because the counter was used since the last note.
    pub(super) fn is_noted(&self, age: &Age) -> bool {
        self.goes_when_idle()
            && self.idle_since <= age.idle_until
            && (self.idle_since <= Time::EPOCH || self.idle_figures != Some(self.figures()))
    }
}
