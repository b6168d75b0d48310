//! The part of one tenant's books that a batch needs, with the changes that the batch makes.

mod carried;
mod changes;
mod due;
mod facts;
mod restart;
mod rolling;

use std::{collections::hash_map::Entry, sync::Arc};

use foldhash::{HashMap, HashMapExt};

pub use self::{
    changes::{Changes, Replanned},
    restart::{FORGIVEN_REASON, OPERATOR, RETURNED_REASON},
};
use self::{due::DueHolds, restart::Correction};
use super::{
    alert::{Alerts, Quiet},
    audit,
    counter::{Balance, Counter, CounterKey},
    event::Fact,
    id::ReservationId,
    lineage::Since,
    operation::Fingerprint,
    plan::{Limit, Policy},
    reservation::{HoldAnswer, Reservation, ReservationState},
    tenant::Tenant,
    terms::Terms,
    time::Time,
};

/// The method that came with a `request_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The method Reserve of QuotaService.
    Reserve,
    /// The method Extend of QuotaService.
    Extend,
    /// The method Record of QuotaService.
    Record,
    /// The method ResetUsage of QuotaService.
    Reset,
}

/// A `request_id` that took effect (R4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The fingerprint of the payload that came with the `request_id`.
    pub fingerprint: Fingerprint,
    /// The method that came with the `request_id`.
    pub method: Method,
    /// The reservation that the operation made or changed. For ResetUsage: the operation's id, whose parts are the
    /// ids of the adjustments.
    pub reservation: ReservationId,
    /// The reply of an Extend. Other replies are made from the reservation or the adjustments.
    pub answer: Option<HoldAnswer>,
}

impl Request {
    /// Returns the reservation that the operation made, which clients can name by this `request_id`. `None`: the
    /// operation made no reservation.
    pub fn made(&self) -> Option<ReservationId> {
        match self.method {
            Method::Reserve | Method::Record => Some(self.reservation),
            Method::Extend | Method::Reset => None,
        }
    }
}

/// A correction of a counter that no reservation causes. The counter is the sum of its reservations and its
/// adjustments (I2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// A part of the operation's id; see [`ReservationId::part`].
    pub id: ReservationId,
    /// The key of the counter.
    pub key: CounterKey,
    /// The quantity that was added to `committed`.
    pub delta: i64,
    /// The reason for the correction.
    pub reason: String,
    /// The operator who made the correction, or [`OPERATOR`].
    pub operator: String,
}

/// The table that contains the row before the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No table: the batch makes the row.
    New,
    /// The table `holds` of open holds.
    Hold,
    /// The table of settled reservations, or of request ids.
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
    /// Which percentages were reached, how many operations limits refused, and what was carried over. `None` for most
    /// counters.
    alerts: Option<Box<Alerts>>,
    /// The range of `committed` in which no threshold event is due. It is computed when a batch first changes the
    /// counter.
    quiet: Quiet,
    changed: bool,
    /// Whether the row must be written in full, because the alerts, `counted_since`, `forgiven_until` or the end of the
    /// window changed.
    full: bool,
    /// Whether the counter has a row.
    stored: bool,
    /// The change since which the counter's limits count from zero. `counter` still has the old figures, because the
    /// counter was not used since that change. `None`: the counter need not start again.
    restart: Option<Since>,
}

/// What decides how a counter is read.
#[derive(Clone, Copy)]
struct Basis<'a> {
    tenant: &'a Tenant,
    terms: &'a Terms,
    now: Time,
}

impl CounterSlot {
    fn new(counter: Counter, alerts: Option<Box<Alerts>>, stored: bool) -> Self {
        Self { counter, alerts, quiet: Quiet::EVERYWHERE, changed: false, full: false, stored, restart: None }
    }

    /// Marks the counter as changed.
    fn change(
        &mut self,
        key: &CounterKey,
        basis: Basis<'_>,
        changed: &mut Vec<CounterKey>,
        facts: &mut Vec<Fact>,
    ) {
        if !self.changed {
            self.changed = true;
            changed.push(key.clone());
            // The allowances may have changed since the counter last changed.
            self.note_edges(key, basis, facts);
        }
    }
}

/// The books of one tenant. A row that is missing here was not loaded, or does not exist.
#[derive(Debug)]
pub struct Books {
    /// The tenant's row as the batch has changed it so far.
    pub tenant: Tenant,
    /// The terms by which the batch decides.
    pub terms: Arc<Terms>,
    /// The time of the batch. It decides which overrides apply.
    pub now: Time,
    /// `decided_at` of the tenant's row in the database.
    stored_at: Time,
    /// `next_due` of the tenant's row in the database.
    stored_due: Time,
    known: Known,
    requests: HashMap<String, (Request, Origin)>,
    adjustments: Vec<Adjustment>,
    corrections: Vec<Correction>,
    /// Adjustments that were loaded.
    known_adjustments: Vec<Adjustment>,
    due: DueHolds,
    /// Counters that the batch changed, each once.
    changed_counters: Vec<CounterKey>,
    /// Ids of reservations that were loaded, made or changed. An id can occur more than once.
    visited: Vec<ReservationId>,
    /// The facts that the batch's events report, in order.
    facts: Vec<Fact>,
    /// The corrections that go into the audit.
    audited: Vec<audit::Correction>,
}

/// The counters and reservations that are loaded or remembered.
#[derive(Debug, Default)]
struct Known {
    /// `None`: no counter has this key.
    counters: HashMap<CounterKey, Option<CounterSlot>>,
    reservations: HashMap<ReservationId, ReservationSlot>,
}

/// Maximum number of counters, and of holds, that are remembered of one tenant. If there are more, none are
/// remembered.
const REMEMBERED_MAX: usize = 4_096;

/// What a lane remembers of a tenant's books after a batch: the tenant's row, counters, open holds and sums of due
/// holds. Valid only while the `version` in the tenant's row is unchanged.
#[derive(Debug)]
pub struct Remembered {
    tenant: Tenant,
    /// The terms with which the counters were last compared.
    terms: Arc<Terms>,
    known: Known,
    due: DueHolds,
}

impl Remembered {
    /// Returns the tenant's row as the batch left it.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Returns the terms with which the counters were last compared.
    pub fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// Returns the tenant's row, for a change that the next batch writes.
    pub fn tenant_mut(&mut self) -> &mut Tenant {
        &mut self.tenant
    }

    /// Returns the keys of counters that are remembered, or known not to exist.
    pub fn counters(&self) -> impl ExactSizeIterator<Item = &CounterKey> {
        self.known.counters.keys()
    }

    /// Returns whether this open hold is remembered.
    pub fn holds(&self, id: ReservationId) -> bool {
        self.known.reservations.contains_key(&id)
    }

    /// Returns the size of the remembered books, counted in rows.
    pub fn rows(&self) -> usize {
        1 + self.known.counters.len() + self.known.reservations.len() + self.due.rows() + self.terms.rows()
    }
}

impl Books {
    /// Opens the books of a tenant whose row was just read. Uses the remembered books if they have the row's version.
    pub fn open(tenant: Tenant, terms: Arc<Terms>, now: Time, remembered: Option<Remembered>) -> Self {
        let current = remembered.filter(|remembered| remembered.tenant.version == tenant.version);
        let remembered = current.map(|remembered| Remembered { tenant: tenant.clone(), ..remembered });
        let nothing = || Remembered {
            tenant,
            terms: Arc::clone(&terms),
            known: Known::default(),
            due: DueHolds::default(),
        };
        Self::reopen(remembered.unwrap_or_else(nothing), Arc::clone(&terms), now)
    }

    /// Opens remembered books as if they were valid. The caller finds out later whether the version was unchanged.
    pub fn reopen(remembered: Remembered, terms: Arc<Terms>, now: Time) -> Self {
        let same_terms = Arc::ptr_eq(&remembered.terms, &terms);
        let mut books = Self {
            stored_at: remembered.tenant.decided_at,
            stored_due: remembered.tenant.next_due,
            tenant: remembered.tenant,
            terms,
            now,
            known: remembered.known,
            requests: HashMap::new(),
            adjustments: Vec::new(),
            corrections: Vec::new(),
            known_adjustments: Vec::new(),
            due: remembered.due,
            changed_counters: Vec::new(),
            visited: Vec::new(),
            facts: Vec::new(),
            audited: Vec::new(),
        };
        if !same_terms {
            books.compare_all();
        }
        books.note_change_of_plan();
        books
    }

    /// Enters a counter that was loaded, with its alerts. `None`: the database has no such counter.
    pub fn load_counter(&mut self, key: CounterKey, counter: Option<(Counter, Option<Box<Alerts>>)>) {
        if let Entry::Vacant(place) = self.known.counters.entry(key) {
            let mut slot = counter.map(|(counter, alerts)| CounterSlot::new(counter, alerts, true));
            if let Some(slot) = &mut slot {
                slot.compare(place.key(), &self.tenant, &self.terms);
            }
            place.insert(slot);
        }
    }

    /// Enters a reservation that was loaded. A reservation that is already in the books is not replaced.
    pub fn load_reservation(&mut self, reservation: Reservation, origin: Origin) {
        let slot = ReservationSlot { reservation: Arc::new(reservation), origin, changed: false };
        self.visited.push(slot.reservation.id);
        self.known.reservations.entry(slot.reservation.id).or_insert(slot);
    }

    /// Enters a `request_id` that was loaded.
    pub fn load_request(&mut self, id: String, request: Request) {
        self.requests.entry(id).or_insert((request, Origin::Settled));
    }

    /// Enters an adjustment that was loaded.
    pub fn load_adjustment(&mut self, adjustment: Adjustment) {
        self.known_adjustments.push(adjustment);
    }

    /// Returns whether the books know if this counter exists.
    pub fn knows(&self, key: &CounterKey) -> bool {
        self.known.counters.contains_key(key)
    }

    /// Returns whether this counter exists, as far as the books know.
    pub fn has_counter(&self, key: &CounterKey) -> bool {
        self.known.counters.get(key).is_some_and(Option::is_some)
    }

    /// Returns the keys of the known counters that exist.
    pub fn counter_keys(&self) -> impl Iterator<Item = &CounterKey> {
        self.known.counters.iter().filter(|(_, slot)| slot.is_some()).map(|(key, _)| key)
    }

    /// Returns the reservations that are loaded, remembered or made.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.known.reservations.values().map(|slot| slot.reservation.as_ref())
    }

    /// Finds the reservation with this id, if the books contain it.
    pub fn find_reservation(&self, id: ReservationId) -> Option<&Arc<Reservation>> {
        self.known.reservations.get(&id).map(|slot| &slot.reservation)
    }

    /// Finds the request with this `request_id`, if it took effect and is in the books.
    pub fn find_request(&self, id: &str) -> Option<&Request> {
        self.requests.get(id).map(|(request, _)| request)
    }

    /// Finds the adjustments of the operation with this id, in the order of their counters.
    pub fn find_adjustments(&self, id: ReservationId) -> Vec<Adjustment> {
        let known = self.known_adjustments.iter().chain(&self.adjustments);
        known.filter(|adjustment| adjustment.id.part(0) == id.part(0)).cloned().collect()
    }

    /// Finds a counter with the figures for decisions and replies: due holds are no longer in `reserved`, and their
    /// charges are in `committed`. `None`: the books have no such counter.
    pub fn find_counter(&self, key: &CounterKey) -> Option<Counter> {
        let counter = self.known.counters.get(key)?.as_ref()?.shown();
        Some(self.without_due(key, counter))
    }

    /// Makes the balance of a counter, with a limit or without a limit. Uses `fresh` if the counter does not exist
    /// yet.
    pub fn balance(&self, key: &CounterKey, limit: Option<&Arc<Limit>>, fresh: Counter) -> Balance {
        if self.has_not_begun(key) {
            return self.balance_not_begun(key, limit);
        }
        let counter = self.find_counter(key).unwrap_or(fresh);
        let refused = limit.map_or(0, |limit| self.refused_by(key, limit));
        let carried = limit.map_or(0, |limit| self.carried(key, limit));
        Balance { key: key.clone(), limit: limit.cloned(), counter, refused, carried }
    }

    /// Makes the balances of a counter: one for each limit that reads the counter. If no limit reads the
    /// counter, makes one balance without a limit.
    pub fn balances_of(&self, key: &CounterKey, fresh: Counter) -> Vec<Balance> {
        let limits = self.terms.limits_of_at(key, fresh.window, &self.tenant.calendars, self.now);
        let balances: Vec<Balance> = limits.map(|limit| self.balance(key, Some(limit), fresh)).collect();
        if balances.is_empty() { vec![self.balance(key, None, fresh)] } else { balances }
    }

    /// Adds quantities to a counter. If the counter does not exist yet, starts with `fresh` and with what limits carry
    /// over, see [`Books::unknown_of`]. The caller must have checked for overflow.
    pub fn add(&mut self, key: &CounterKey, committed: i64, reserved: i64, fresh: Counter) {
        if self.has_not_begun(key) && !key.is_head() {
            self.begin_rolling(key, fresh.window.end);
        }
        let alerts = self.carried_at_first(key);
        let slot = self.known.counters.entry(key.clone()).or_default();
        self.tenant.counters += i64::from(slot.is_none() && fresh.window.is_bounded());
        let slot = slot.get_or_insert_with(|| CounterSlot::new(fresh, alerts, false));
        if slot.restart.is_some() {
            self.restart(key);
            return self.add(key, committed, reserved, fresh);
        }
        let basis = Basis { tenant: &self.tenant, terms: &self.terms, now: self.now };
        slot.change(key, basis, &mut self.changed_counters, &mut self.facts);
        slot.counter.committed = slot.counter.committed.saturating_add(committed);
        slot.counter.reserved = slot.counter.reserved.saturating_add(reserved);
        if !slot.quiet.contains(slot.counter.committed) {
            slot.note_edges(key, basis, &mut self.facts);
        }
    }

    /// Enters a reservation that the batch makes.
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

    /// Replaces a reservation that is in the books.
    pub fn update_reservation(&mut self, reservation: Reservation) -> Arc<Reservation> {
        let reservation = Arc::new(reservation);
        if let Some(slot) = self.known.reservations.get_mut(&reservation.id) {
            slot.reservation = Arc::clone(&reservation);
            slot.changed = true;
            self.visited.push(reservation.id);
        }
        reservation
    }

    /// Enters a `request_id` that takes effect.
    pub fn insert_request(&mut self, id: String, request: Request) {
        self.requests.insert(id, (request, Origin::New));
    }

    /// Enters an adjustment that the batch makes.
    pub fn insert_adjustment(&mut self, adjustment: Adjustment) {
        self.adjustments.push(adjustment);
    }

    /// Enters a correction that goes into the audit.
    pub fn audit(&mut self, correction: audit::Correction) {
        self.audited.push(correction);
    }

    /// Returns the changes to write, and the books to remember once the changes are written. `policy` gives the names
    /// of the resources in events. `version` is the new version of the books, which the tenant must never have had
    /// before.
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
            full_counters: Vec::new(),
            new_holds: Vec::new(),
            holds: Vec::new(),
            ended_holds: Vec::new(),
            settled: Vec::new(),
            resettled: Vec::new(),
            requests: Vec::with_capacity(self.requests.len()),
            adjustments,
            events,
            audited: self.audited,
            event_number: self.tenant.event_number,
            counter_count: self.tenant.counters,
            replanned: self.tenant.unsaved.take().map(|_| Replanned::of(&self.tenant)),
        };
        for key in self.changed_counters {
            if let Some(Some(slot)) = self.known.counters.get_mut(&key) {
                changes.take_counter(key, slot);
            }
        }
        for id in self.visited {
            if let Entry::Occupied(mut entry) = self.known.reservations.entry(id) {
                changes.take_reservation(entry.get_mut());
                // Most settled reservations are never named again, so only open holds are remembered.
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
        (changes, Remembered { tenant: self.tenant, terms: self.terms, known: self.known, due: self.due })
    }
}
