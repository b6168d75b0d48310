//! What a batch has to write of the books of one tenant.

use std::sync::Arc;

use super::{Adjustment, CounterSlot, Origin, Request, ReservationSlot};
use crate::domain::{
    alert::Alerts,
    counter::{Counter, CounterKey},
    event::Event,
    id::{ReservationId, TenantKey},
    reservation::{Reservation, ReservationState},
    window::Millis,
};

/// What a batch changed in the books of one tenant.
#[derive(Debug)]
pub struct Changes {
    /// Whose books.
    pub tenant: TenantKey,
    /// The version of the books that the change was decided on.
    pub seen: i64,
    /// The version that the change makes.
    pub version: i64,
    /// The instant of the decision.
    pub decided_at: Millis,
    /// No open hold is due before this instant.
    pub next_due: Millis,
    /// `next_due` is not what the tenant's row has.
    pub due_moved: bool,
    /// Counters that are new, with what was told of them.
    pub new_counters: Vec<(CounterKey, Counter, Option<Alerts>)>,
    /// Counters that changed, with their new figures.
    pub counters: Vec<(CounterKey, Counter)>,
    /// Counters of which something was told, with their figures.
    pub told_counters: Vec<(CounterKey, Counter, Alerts)>,
    /// Holds that are new.
    pub new_holds: Vec<Arc<Reservation>>,
    /// Holds that changed.
    pub holds: Vec<Arc<Reservation>>,
    /// Holds that are no more.
    pub ended_holds: Vec<ReservationId>,
    /// Reservations that were settled, and were not before.
    pub settled: Vec<Arc<Reservation>>,
    /// Settled reservations that changed.
    pub resettled: Vec<Arc<Reservation>>,
    /// New request_ids.
    pub requests: Vec<(String, Request)>,
    /// Corrections.
    pub adjustments: Vec<Adjustment>,
    /// What is to be told, in order.
    pub events: Vec<Event>,
    /// The number of the tenant's last event.
    pub event_number: i64,
}

impl Changes {
    /// Notes what became of a counter, and makes its slot say that it is written.
    pub(super) fn take_counter(&mut self, key: CounterKey, slot: &mut CounterSlot) {
        let told = || slot.alerts.as_deref().cloned();
        match (slot.stored, slot.told) {
            (false, _) => self.new_counters.push((key, slot.counter, told())),
            (true, true) => self.told_counters.push((key, slot.counter, told().unwrap_or_default())),
            (true, false) => self.counters.push((key, slot.counter)),
        }
        (slot.changed, slot.told, slot.stored) = (false, false, true);
    }

    /// Notes what became of a reservation, and makes its slot say that it is written.
    pub(super) fn take_reservation(&mut self, slot: &mut ReservationSlot) {
        if !slot.changed {
            return;
        }
        let reservation = Arc::clone(&slot.reservation);
        let open = reservation.state == ReservationState::Reserved;
        match (slot.origin, open) {
            (Origin::New, true) => self.new_holds.push(reservation),
            (Origin::Hold, true) => self.holds.push(reservation),
            (Origin::New, false) => self.settled.push(reservation),
            (Origin::Hold, false) => {
                self.ended_holds.push(reservation.id);
                self.settled.push(reservation);
            }
            (Origin::Settled, _) => self.resettled.push(reservation),
        }
        (slot.changed, slot.origin) = (false, Origin::Hold);
    }

    /// Nothing but the time of the decision.
    pub fn is_empty(&self) -> bool {
        !self.due_moved
            && self.new_counters.is_empty()
            && self.counters.is_empty()
            && self.told_counters.is_empty()
            && self.new_holds.is_empty()
            && self.holds.is_empty()
            && self.ended_holds.is_empty()
            && self.settled.is_empty()
            && self.resettled.is_empty()
            && self.requests.is_empty()
            && self.adjustments.is_empty()
            && self.events.is_empty()
    }
}
