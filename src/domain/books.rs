//! The books of one tenant, as far as a batch of operations needs them, and what the batch changes in them.

mod anew;
mod changes;
mod due;
mod notices;

use std::{collections::hash_map::Entry, sync::Arc};

use foldhash::{HashMap, HashMapExt};

use self::{anew::Correction, due::DueHolds};
pub use self::{
    anew::{FORGIVEN_REASON, OPERATOR, RETURNED_REASON},
    changes::Changes,
};
use super::{
    alert::{Alerts, Quiet},
    counter::{Balance, Counter, CounterKey},
    event::Fact,
    id::ReservationId,
    lineage::Since,
    operation::Fingerprint,
    plan::{Limit, Plan, Policy},
    reservation::{HoldAnswer, Reservation, ReservationState},
    tenant::Tenant,
    window::Millis,
};

/// The rpc that a request_id came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reserve.
    Reserve,
    /// Extend.
    Extend,
    /// Record.
    Record,
    /// ResetUsage.
    Reset,
}

/// A request_id that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of the payload that came with it.
    pub fingerprint: Fingerprint,
    /// The rpc.
    pub method: Method,
    /// The reservation that it made or changed; of ResetUsage, the operation whose adjustments are parts of this id.
    pub reservation: ReservationId,
    /// What Extend answered; the reservation itself says what the others answered.
    pub answer: Option<HoldAnswer>,
}

impl Request {
    /// The reservation that the request_id stands for, where one is named by it: the one that it made.
    pub fn made(&self) -> Option<ReservationId> {
        match self.method {
            Method::Reserve | Method::Record => Some(self.reservation),
            Method::Extend | Method::Reset => None,
        }
    }
}

/// A correction of a counter that no reservation caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// A part of the operation's id: see [`ReservationId::part`].
    pub id: ReservationId,
    /// The counter.
    pub key: CounterKey,
    /// What was added to its committed.
    pub delta: i64,
    /// Why.
    pub reason: String,
    /// Who.
    pub operator: String,
}

/// Where a reservation's row is before the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the batch made it.
    New,
    /// Among the open holds.
    Hold,
    /// Among the settled ones.
    Settled,
}

#[derive(Debug)]
struct ReservationSlot {
    reservation: Arc<Reservation>,
    origin: Origin,
    changed: bool,
}

#[derive(Debug)]
struct CounterSlot {
    counter: Counter,
    /// What was told of it; few have anything.
    alerts: Option<Box<Alerts>>,
    /// Where nothing is to be told of it, once it has changed.
    quiet: Quiet,
    changed: bool,
    /// What was told of it is not what its row says.
    told: bool,
    /// It has a row.
    stored: bool,
    /// The limits that count it have begun anew since it was used, and that was not entered yet.
    anew: Option<Since>,
}

impl CounterSlot {
    fn new(counter: Counter, alerts: Option<Box<Alerts>>, stored: bool) -> Self {
        Self { counter, alerts, quiet: Quiet::EVERYWHERE, changed: false, told: false, stored, anew: None }
    }

    /// Makes it one that is written.
    fn change(
        &mut self,
        key: &CounterKey,
        plan: &Plan,
        (changed, facts): (&mut Vec<CounterKey>, &mut Vec<Fact>),
    ) {
        if !self.changed {
            self.changed = true;
            changed.push(key.clone());
            // Since it was changed last, allowances may have changed.
            self.look(key, plan, facts);
        }
    }
}

/// The books of one tenant. What is not in them was not loaded, or does not exist.
#[derive(Debug)]
pub struct Books {
    /// Whose books.
    pub tenant: Tenant,
    /// The tenant's plan.
    pub plan: Arc<Plan>,
    /// The tenant's `decided_at` as it is stored.
    stored_at: Millis,
    /// `next_due` as the tenant's row has it.
    stored_due: Millis,
    known: Known,
    requests: HashMap<String, (Request, Origin)>,
    adjustments: Vec<Adjustment>,
    corrections: Vec<Correction>,
    /// Those that were there before.
    known_adjustments: Vec<Adjustment>,
    due: DueHolds,
    /// Counters that changed, each once.
    changed_counters: Vec<CounterKey>,
    /// Reservations that were loaded, made or changed; some more than once.
    visited: Vec<ReservationId>,
    /// What is to be told, in the order in which it happened.
    facts: Vec<Fact>,
}

/// Counters and reservations.
#[derive(Debug, Default)]
struct Known {
    /// `None`: there is no such counter.
    counters: HashMap<CounterKey, Option<CounterSlot>>,
    reservations: HashMap<ReservationId, ReservationSlot>,
}

/// Most counters, and most holds, of one tenant that are remembered from batch to batch.
const REMEMBERED_MAX: usize = 4_096;

/// What is known of the books of one tenant after a batch: its row, and counters, open holds and what is due, which are true
/// as long as the row has this version.
#[derive(Debug)]
pub struct Remembered {
    tenant: Tenant,
    /// The plan by which it was decided.
    plan: Arc<Plan>,
    known: Known,
    due: DueHolds,
}

impl Remembered {
    /// The tenant, as the batch left it.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The counters that are remembered, or known not to be there.
    pub fn counters(&self) -> impl ExactSizeIterator<Item = &CounterKey> {
        self.known.counters.keys()
    }

    /// Whether this open hold is remembered.
    pub fn holds(&self, id: ReservationId) -> bool {
        self.known.reservations.contains_key(&id)
    }

    /// How much is remembered, in rows.
    pub fn rows(&self) -> usize {
        1 + self.known.counters.len() + self.known.reservations.len() + self.due.rows()
    }
}

impl Books {
    /// Books of which nothing is known, but what is remembered of this very version.
    pub fn open(tenant: Tenant, plan: Arc<Plan>, remembered: Option<Remembered>) -> Self {
        let true_still = remembered.filter(|remembered| remembered.tenant.version == tenant.version);
        let remembered = true_still.map(|remembered| Remembered { tenant: tenant.clone(), ..remembered });
        let nothing = || Remembered {
            tenant,
            plan: Arc::clone(&plan),
            known: Known::default(),
            due: DueHolds::default(),
        };
        Self::reopen(remembered.unwrap_or_else(nothing), Arc::clone(&plan))
    }

    /// Books that are as they were left.
    pub fn reopen(remembered: Remembered, plan: Arc<Plan>) -> Self {
        let same_plan = Arc::ptr_eq(&remembered.plan, &plan);
        let mut books = Self {
            stored_at: remembered.tenant.decided_at,
            stored_due: remembered.tenant.next_due,
            tenant: remembered.tenant,
            plan,
            known: remembered.known,
            requests: HashMap::new(),
            adjustments: Vec::new(),
            corrections: Vec::new(),
            known_adjustments: Vec::new(),
            due: remembered.due,
            changed_counters: Vec::new(),
            visited: Vec::new(),
            facts: Vec::new(),
        };
        if !same_plan {
            books.compare_all();
        }
        books
    }

    /// Enters a counter as it was loaded, and what was told of it; `None` says that there is none.
    pub fn load_counter(&mut self, key: CounterKey, counter: Option<(Counter, Option<Box<Alerts>>)>) {
        if let Entry::Vacant(place) = self.known.counters.entry(key) {
            let mut slot = counter.map(|(counter, alerts)| CounterSlot::new(counter, alerts, true));
            if let Some(slot) = &mut slot {
                slot.compare(place.key(), &self.tenant, &self.plan);
            }
            place.insert(slot);
        }
    }

    /// Enters a reservation as it was loaded.
    pub fn load_reservation(&mut self, reservation: Reservation, origin: Origin) {
        let slot = ReservationSlot { reservation: Arc::new(reservation), origin, changed: false };
        self.visited.push(slot.reservation.id);
        self.known.reservations.entry(slot.reservation.id).or_insert(slot);
    }

    /// Enters a request_id as it was loaded.
    pub fn load_request(&mut self, id: String, request: Request) {
        self.requests.entry(id).or_insert((request, Origin::Settled));
    }

    /// Enters a correction as it was loaded.
    pub fn load_adjustment(&mut self, adjustment: Adjustment) {
        self.known_adjustments.push(adjustment);
    }

    /// Whether the counter was looked for.
    pub fn knows(&self, key: &CounterKey) -> bool {
        self.known.counters.contains_key(key)
    }

    /// The counters that were loaded.
    pub fn counter_keys(&self) -> impl Iterator<Item = &CounterKey> {
        self.known.counters.iter().filter(|(_, slot)| slot.is_some()).map(|(key, _)| key)
    }

    /// The reservations that are loaded, or were made.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.known.reservations.values().map(|slot| slot.reservation.as_ref())
    }

    /// The reservation of this id.
    pub fn find_reservation(&self, id: ReservationId) -> Option<&Arc<Reservation>> {
        self.known.reservations.get(&id).map(|slot| &slot.reservation)
    }

    /// The request of this id.
    pub fn find_request(&self, id: &str) -> Option<&Request> {
        self.requests.get(id).map(|(request, _)| request)
    }

    /// The corrections that the operation of this id made, in the order of their counters.
    pub fn find_adjustments(&self, id: ReservationId) -> Vec<Adjustment> {
        let known = self.known_adjustments.iter().chain(&self.adjustments);
        known.filter(|adjustment| adjustment.id.part(0) == id.part(0)).cloned().collect()
    }

    /// The figures that count: of a counter, if there is one, without what is due.
    pub fn find_counter(&self, key: &CounterKey) -> Option<Counter> {
        let counter = self.known.counters.get(key)?.as_ref()?.shown();
        Some(self.without_due(key, counter))
    }

    /// The balance of a limit, or of a counter without one; `fresh` is the counter if there is none yet.
    pub fn balance(&self, key: &CounterKey, limit: Option<&Arc<Limit>>, fresh: Counter) -> Balance {
        let counter = self.find_counter(key).unwrap_or(fresh);
        let refused = limit.map_or(0, |limit| self.refused_by(key, limit));
        Balance { key: key.clone(), limit: limit.cloned(), counter, refused }
    }

    /// The balances of a counter: one per limit that reads it, or one without a limit.
    pub fn balances_of(&self, key: &CounterKey, fresh: Counter) -> Vec<Balance> {
        let limits = self.plan.limits.iter().filter(|limit| limit.shape.counts(key));
        let balances: Vec<Balance> = limits.map(|limit| self.balance(key, Some(limit), fresh)).collect();
        if balances.is_empty() { vec![self.balance(key, None, fresh)] } else { balances }
    }

    /// Adds to a counter; `fresh` is the counter if there is none yet. The caller has checked that it fits.
    pub fn add(&mut self, key: &CounterKey, committed: i64, reserved: i64, fresh: Counter) {
        let slot = self.known.counters.entry(key.clone()).or_default();
        let slot = slot.get_or_insert_with(|| CounterSlot::new(fresh, None, false));
        if slot.anew.is_some() {
            self.begin_anew(key);
            return self.add(key, committed, reserved, fresh);
        }
        slot.change(key, &self.plan, (&mut self.changed_counters, &mut self.facts));
        slot.counter.committed = slot.counter.committed.saturating_add(committed);
        slot.counter.reserved = slot.counter.reserved.saturating_add(reserved);
        if !slot.quiet.contains(slot.counter.committed) {
            slot.look(key, &self.plan, &mut self.facts);
        }
    }

    /// Enters a reservation that the batch made.
    pub fn insert_reservation(&mut self, reservation: Reservation) -> Arc<Reservation> {
        let reservation = Arc::new(reservation);
        let slot =
            ReservationSlot { reservation: Arc::clone(&reservation), origin: Origin::New, changed: true };
        self.tenant.next_due = match reservation.state {
            ReservationState::Reserved => self.tenant.next_due.min(reservation.deadline),
            _ => self.tenant.next_due,
        };
        self.visited.push(reservation.id);
        self.known.reservations.insert(reservation.id, slot);
        reservation
    }

    /// Replaces a reservation that is there.
    pub fn update_reservation(&mut self, reservation: Reservation) -> Arc<Reservation> {
        let reservation = Arc::new(reservation);
        if let Some(slot) = self.known.reservations.get_mut(&reservation.id) {
            slot.reservation = Arc::clone(&reservation);
            slot.changed = true;
            self.visited.push(reservation.id);
        }
        reservation
    }

    /// Enters a request_id that takes effect.
    pub fn insert_request(&mut self, id: String, request: Request) {
        self.requests.insert(id, (request, Origin::New));
    }

    /// Enters a correction.
    pub fn insert_adjustment(&mut self, adjustment: Adjustment) {
        self.adjustments.push(adjustment);
    }

    /// What has to be written, and what is known once it is. The policy names the resources of events; the version is
    /// one that the tenant never had.
    pub fn into_changes(mut self, policy: &Policy, version: i64) -> (Changes, Remembered) {
        let events = self.take_events(policy);
        let mut adjustments = std::mem::take(&mut self.adjustments);
        adjustments.extend(self.take_corrections(version));
        let mut changes = Changes {
            tenant: self.tenant.key,
            seen: self.tenant.version,
            version,
            decided_at: self.tenant.decided_at,
            next_due: self.tenant.next_due,
            due_moved: self.tenant.next_due != self.stored_due,
            new_counters: Vec::new(),
            counters: Vec::with_capacity(self.changed_counters.len()),
            told_counters: Vec::new(),
            new_holds: Vec::new(),
            holds: Vec::new(),
            ended_holds: Vec::new(),
            settled: Vec::new(),
            resettled: Vec::new(),
            requests: Vec::with_capacity(self.requests.len()),
            adjustments,
            events,
            event_number: self.tenant.event_number,
        };
        for key in self.changed_counters {
            if let Some(Some(slot)) = self.known.counters.get_mut(&key) {
                changes.take_counter(key, slot);
            }
        }
        for id in self.visited {
            if let Entry::Occupied(mut entry) = self.known.reservations.entry(id) {
                changes.take_reservation(entry.get_mut());
                // Only open holds are worth to be remembered: most are settled next.
                if entry.get().reservation.state != ReservationState::Reserved {
                    entry.remove();
                }
            }
        }
        for (id, (request, origin)) in self.requests {
            if origin == Origin::New {
                changes.requests.push((id, request));
            }
        }
        if self.known.counters.len() > REMEMBERED_MAX || self.known.reservations.len() > REMEMBERED_MAX {
            self.known = Known::default();
        }
        if changes.is_empty() {
            self.tenant.decided_at = self.stored_at;
        } else {
            self.tenant.version = changes.version;
        }
        self.due.bound();
        (changes, Remembered { tenant: self.tenant, plan: self.plan, known: self.known, due: self.due })
    }
}
