//! Holds that are due and not yet swept: their rows are still there, but they no longer count (R4.3). Their sums per
//! counter are remembered from batch to batch. So many due holds are read once, and not by every batch that sweeps a
//! few.

use foldhash::HashMap;

use super::Books;
use crate::domain::{
    counter::{Counter, CounterKey},
    reservation::{OnExpiry, Reservation},
    window::Millis,
};

/// If there are sums for more counters than this, they are not remembered.
const REMEMBERED_MAX: usize = 100_000;

/// Sums that take about as much memory as one remembered row. The true number is larger.
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
    /// Holds with deadlines up to this one are in the sums, apart from holds that the batch sweeps. `None`: no hold
    /// is in them.
    until: Option<Millis>,
    sums: HashMap<CounterKey, Due>,
}

impl DueHolds {
    /// The size of the sums, counted in remembered rows.
    pub(super) fn rows(&self) -> usize {
        self.sums.len() / SUMS_PER_ROW
    }

    /// Forgets the sums if they are too many to be remembered.
    pub(super) fn bound(&mut self) {
        if self.sums.len() > REMEMBERED_MAX {
            *self = Self::default();
        }
    }

    /// Drops the charge that is due to a counter, because its `committed` was set to zero.
    pub(super) fn forgive(&mut self, key: &CounterKey) {
        if let Some(due) = self.sums.get_mut(key) {
            due.charged = 0;
        }
    }

    /// Adds a hold to the sums, or with a `sign` of -1 takes it out. `charges` says whether the charge still counts
    /// for a counter.
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
    /// The deadline up to which due holds are in the sums.
    pub fn due_until(&self) -> Option<Millis> {
        self.due.until
    }

    /// Notes up to which deadline due holds are in the sums. `None`: no hold is due, so there are no sums.
    pub fn set_due_until(&mut self, until: Option<Millis>) {
        match until {
            Some(_) => self.due.until = until,
            None => self.due = DueHolds::default(),
        }
    }

    /// Adds a due hold that this batch will not sweep to the sums. The counters that it charges must be in the books.
    pub fn load_due(&mut self, reservation: &Reservation) {
        self.move_due(reservation, 1);
    }

    fn move_due(&mut self, reservation: &Reservation, sign: i64) {
        let mut due = std::mem::take(&mut self.due);
        due.add(reservation, sign, |key| !self.is_forgiven(key, reservation.deadline));
        self.due = due;
    }

    /// Takes a due hold out of the sums, if it is in them, because it is swept now.
    pub(in crate::domain) fn take_due(&mut self, reservation: &Reservation) {
        if self.due.until.is_some_and(|until| reservation.deadline <= until) {
            self.move_due(reservation, -1);
        }
    }

    /// The figures of a counter without holds that are due, and with their charges.
    pub(super) fn without_due(&self, key: &CounterKey, mut counter: Counter) -> Counter {
        if let Some(due) = self.due.sums.get(key) {
            counter.reserved = counter.reserved.saturating_sub(due.held);
            counter.committed = counter.committed.saturating_add(due.charged);
        }
        counter
    }
}
