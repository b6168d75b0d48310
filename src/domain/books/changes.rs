//! The rows that a batch has to write for one tenant.

use std::sync::Arc;

use super::{Adjustment, CounterSlot, Origin, Request, ReservationSlot};
use crate::domain::{
    alert::Alerts,
    audit::Correction,
    counter::{Counter, CounterKey},
    event::Event,
    id::{PlanKey, ReservationId, TenantKey},
    lineage::{Lineage, Since},
    reservation::{Reservation, ReservationState},
    tenant::Tenant,
    time::Time,
};

/// The changes of a batch to the books of one tenant.
#[derive(Debug)]
pub struct Changes {
    /// The internal key of the tenant.
    pub tenant: TenantKey,
    /// The version of the books on which the batch decided.
    pub seen: i64,
    /// The new version of the books.
    pub version: i64,
    /// The instant of the batch's decision.
    pub decided_at: Time,
    /// No open hold has a deadline before this instant. [`Time::NEVER`]: the tenant has no open hold.
    pub next_due: Time,
    /// Whether `next_due` differs from the tenant's row.
    pub due_moved: bool,
    /// New counters, with their alerts if they have any.
    pub new_counters: Vec<(CounterKey, Counter, Option<Alerts>)>,
    /// Counters that have a row in which only `committed` and `reserved` changed.
    pub counters: Vec<(CounterKey, Counter)>,
    /// Counters that have a row which must be written in full, because the alerts, `counted_since`, `forgiven_until` or
    /// the end of the window changed.
    pub full_counters: Vec<(CounterKey, Counter, Alerts)>,
    /// Open holds that have no row yet.
    pub new_holds: Vec<Arc<Reservation>>,
    /// Open holds whose rows change.
    pub holds: Vec<Arc<Reservation>>,
    /// Holds that were settled or expired. Their rows among the open holds are deleted.
    pub ended_holds: Vec<ReservationId>,
    /// Reservations that stopped being open holds, or never were open holds. Each gets a new row among the settled
    /// reservations.
    pub settled: Vec<Arc<Reservation>>,
    /// Reservations that were settled before, and whose rows change.
    pub resettled: Vec<Arc<Reservation>>,
    /// `request_id`s that took effect in this batch.
    pub requests: Vec<(String, Request)>,
    /// Adjustments that the batch made.
    pub adjustments: Vec<Adjustment>,
    /// Events to emit, in order.
    pub events: Vec<Event>,
    /// Corrections to write into the audit. Nearly all batches have none.
    pub audited: Vec<Correction>,
    /// The number of the tenant's latest event.
    pub event_number: i64,
    /// The number of the tenant's counters that count towards the bound.
    pub counter_count: i64,
    /// The tenant's plan, if a scheduled change of plan was due.
    pub replanned: Option<Box<Replanned>>,
}

/// What a scheduled change of plan changes in the tenant's row. The row has no next plan afterwards.
#[derive(Debug)]
pub struct Replanned {
    /// The plan that the tenant has now.
    pub plan: PlanKey,
    /// The change that gave the tenant this plan.
    pub plan_since: Since,
    /// Shapes that both plans count, with the change since which they are counted.
    pub carried: Vec<Lineage>,
    /// When the tenant was last changed.
    pub updated_at: Time,
}

impl Replanned {
    /// Returns what the row of a tenant must contain, whose plan was changed in memory.
    pub(super) fn of(tenant: &Tenant) -> Box<Self> {
        let Tenant { plan, plan_since, carried, updated_at, .. } = tenant;
        let (plan, plan_since, updated_at) = (*plan, *plan_since, *updated_at);
        Box::new(Self { plan, plan_since, carried: carried.clone(), updated_at })
    }
}

impl Changes {
    /// Adds a counter that changed to these changes, and marks its slot as written.
    pub(super) fn take_counter(&mut self, key: CounterKey, slot: &mut CounterSlot) {
        let alerts = || slot.alerts.as_deref().cloned();
        match (slot.stored, slot.full) {
            (false, _) => self.new_counters.push((key, slot.counter, alerts())),
            (true, true) => self.full_counters.push((key, slot.counter, alerts().unwrap_or_default())),
            (true, false) => self.counters.push((key, slot.counter)),
        }
        (slot.changed, slot.full, slot.stored) = (false, false, true);
    }

    /// Adds a reservation to these changes if it changed, and marks its slot as written.
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

    /// Returns whether nothing but the time of the decision changed.
    pub fn is_empty(&self) -> bool {
        let Self {
            due_moved,
            new_counters,
            counters,
            full_counters,
            new_holds,
            holds,
            ended_holds,
            settled,
            resettled,
            requests,
            adjustments,
            events,
            audited,
            replanned,
            // These fields name the books and the batch, or change only together with a field above.
            tenant: _,
            seen: _,
            version: _,
            decided_at: _,
            next_due: _,
            event_number: _,
            counter_count: _,
        } = self;
        !due_moved
            && new_counters.is_empty()
            && counters.is_empty()
            && full_counters.is_empty()
            && new_holds.is_empty()
            && holds.is_empty()
            && ended_holds.is_empty()
            && settled.is_empty()
            && resettled.is_empty()
            && requests.is_empty()
            && adjustments.is_empty()
            && events.is_empty()
            && audited.is_empty()
            && replanned.is_none()
    }
}
