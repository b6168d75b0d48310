//! Holds that are due and not yet swept: their rows are still there, but they no longer count (R4.3). A batch sweeps
//! only a bounded number of due holds. The sums of the remaining due holds, per counter, are remembered from batch to
//! batch. So a batch need not read all due holds.

use foldhash::HashMap;

use super::Books;
use crate::domain::{
    counter::{Counter, CounterKey},
    reservation::{OnExpiry, Reservation},
    time::Time,
};

/// Maximum number of counters whose sums are remembered. If there are more, no sums are remembered.
const REMEMBERED_MAX: usize = 100_000;

/// Number of sums that count as one remembered row. The memory of a row has room for even more sums.
const SUMS_PER_ROW: usize = 8;

/// The sums of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    held: i64,
    charged: i64,
}

/// The sums of all holds that are due and not yet swept, per counter.
#[derive(Debug, Default)]
pub(super) struct DueHolds {
    /// The sums contain the due holds with deadlines up to this instant, except for those that a batch has swept.
    /// `None`: the sums are empty.
    until: Option<Time>,
    sums: HashMap<CounterKey, Due>,
}

impl DueHolds {
    /// Returns the size of the sums, counted in remembered rows.
    pub(super) fn rows(&self) -> usize {
        self.sums.len() / SUMS_PER_ROW
    }

    /// Forgets the sums if they are too many to be remembered.
    pub(super) fn bound(&mut self) {
        if self.sums.len() > REMEMBERED_MAX {
            *self = Self::default();
        }
    }

    /// Drops the due charges of a counter, because its `committed` is set to zero.
    pub(super) fn forgive(&mut self, key: &CounterKey) {
        if let Some(due) = self.sums.get_mut(key) {
            due.charged = 0;
        }
    }

    /// Adds a hold to the sums, or removes it if `sign` is -1. `charges` returns whether the hold's charge still
    /// counts for a counter.
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
    /// Returns the deadline up to which due holds are in the sums. `None`: the sums are empty.
    pub fn due_until(&self) -> Option<Time> {
        self.due.until
    }

    /// Sets the deadline up to which due holds are in the sums. `None` empties the sums, since no hold is due.
    pub fn set_due_until(&mut self, until: Option<Time>) {
        match until {
            Some(_) => self.due.until = until,
            None => self.due = DueHolds::default(),
        }
    }

    /// Adds a due hold to the sums, because this batch does not sweep it. The counters that the hold charges must be in
    /// the books.
    pub fn load_due(&mut self, reservation: &Reservation) {
        self.move_due(reservation, 1);
    }

    fn move_due(&mut self, reservation: &Reservation, sign: i64) {
        let mut due = std::mem::take(&mut self.due);
        due.add(reservation, sign, |key| !self.is_forgiven(key, reservation.deadline));
        self.due = due;
    }

    /// Removes a due hold from the sums, if they contain it, because the hold is swept now.
    pub(in crate::domain) fn take_due(&mut self, reservation: &Reservation) {
        if self.due.until.is_some_and(|until| reservation.deadline <= until) {
            self.move_due(reservation, -1);
        }
    }

    /// Subtracts due holds from a counter's `reserved`, and adds their charges to `committed`.
    pub(super) fn without_due(&self, key: &CounterKey, mut counter: Counter) -> Counter {
        if let Some(due) = self.due.sums.get(key) {
            counter.reserved = counter.reserved.saturating_sub(due.held);
            counter.committed = counter.committed.saturating_add(due.charged);
        }
        counter
    }
}
