//! Holds that are due and not yet swept: they count no longer, though their rows say so. Their sums are remembered from
//! batch to batch, so that a great many of them are read once, and not by each batch that sweeps a few.

use foldhash::HashMap;

use super::Books;
use crate::domain::{
    counter::{Counter, CounterKey},
    reservation::{OnExpiry, Reservation},
    window::Millis,
};

/// Most counters whose sums are remembered from batch to batch.
const REMEMBERED_MAX: usize = 100_000;

/// A remembered sum takes less than this part of what a remembered row does.
const SUMS_PER_ROW: usize = 8;

/// What is due and not yet swept, of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    held: i64,
    charged: i64,
}

/// What is due and not yet swept.
#[derive(Debug, Default)]
pub(super) struct DueHolds {
    /// Holds with deadlines up to this one are in the sums, unless they are in the books. `None`: no hold is.
    until: Option<Millis>,
    sums: HashMap<CounterKey, Due>,
}

impl DueHolds {
    /// How much it is, in rows.
    pub(super) fn rows(&self) -> usize {
        self.sums.len() / SUMS_PER_ROW
    }

    /// Forgets what would be too much to remember.
    pub(super) fn bound(&mut self) {
        if self.sums.len() > REMEMBERED_MAX {
            *self = Self::default();
        }
    }

    /// What is due of a counter is charged to it no more.
    pub(super) fn forgive(&mut self, key: &CounterKey) {
        if let Some(due) = self.sums.get_mut(key) {
            due.charged = 0;
        }
    }

    /// `charges`: which lines' charges are not taken off their counters already.
    fn add(&mut self, reservation: &Reservation, sign: i64, charges: impl Fn(&CounterKey) -> bool) {
        for line in &reservation.lines {
            let charges = reservation.on_expiry == OnExpiry::Charge && charges(&line.key);
            let due = self.sums.entry(line.key.clone()).or_default();
            let held = line.held.saturating_mul(sign);
            due.held = due.held.saturating_add(held);
            if charges {
                due.charged = due.charged.saturating_add(held);
            }
            if *due == Due::default() {
                self.sums.remove(&line.key);
            }
        }
    }
}

impl Books {
    /// Up to which deadline what is due was taken out of what counts.
    pub fn due_until(&self) -> Option<Millis> {
        self.due.until
    }

    /// All that is due by now was taken out of what counts; none: nothing is due any more.
    pub fn set_due_until(&mut self, until: Option<Millis>) {
        match until {
            Some(_) => self.due.until = until,
            None => self.due = DueHolds::default(),
        }
    }

    /// Takes a hold out of what counts that is due and will not be swept by this batch. The counters that it charges must be
    /// in the books.
    pub fn load_due(&mut self, reservation: &Reservation) {
        self.move_due(reservation, 1);
    }

    fn move_due(&mut self, reservation: &Reservation, sign: i64) {
        let mut due = std::mem::take(&mut self.due);
        due.add(reservation, sign, |key| !self.is_forgiven(key, reservation.deadline));
        self.due = due;
    }

    /// A hold that is due is swept: if it was taken out of what counts, it is in its counters again until it is ended.
    pub(in crate::domain) fn take_due(&mut self, reservation: &Reservation) {
        if self.due.until.is_some_and(|until| reservation.deadline <= until) {
            self.move_due(reservation, -1);
        }
    }

    /// The figures of a counter without what is due.
    pub(super) fn without_due(&self, key: &CounterKey, mut counter: Counter) -> Counter {
        if let Some(due) = self.due.sums.get(key) {
            counter.reserved = counter.reserved.saturating_sub(due.held);
            counter.committed = counter.committed.saturating_add(due.charged);
        }
        counter
    }
}
