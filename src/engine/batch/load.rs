//! After the tenants are locked, loads the rows that the operations of a batch need, and expires due holds.

use foldhash::{HashSet, HashSetExt};

use super::{item::Item, search::Search, session::Session};
use crate::{
    domain::{
        books::{Books, Method, Origin},
        bounds::RESET_COUNTERS_MAX,
        calendar::Calendar,
        counter::CounterKey,
        decide::{Choice, Touched, expire, minted_request_id, touch_operation},
        id::{ReservationId, TenantKey},
        operation::{Operation, Reset, Target},
        refusal::Fault,
        reservation::{OnExpiry, Reservation},
        time::{Span, Time},
        window::Cycle,
    },
    store::StoreError,
};

/// Maximum number of due holds that one batch sweeps, over all of its tenants.
const SWEEP_HOLDS_MAX: usize = 2_000;

/// Page size for listing the due holds that the batch does not sweep, in rows.
const DUE_PAGE: usize = 2_000;

/// Page size for listing the counters of a ResetUsage, in rows.
const COUNTERS_PAGE: usize = 2_000;

/// Loads rows into the books of a session.
pub(super) struct Loader<'a, 's> {
    pub(super) session: &'a mut Session<'s>,
    pub(super) calendar: &'a mut Calendar,
}

impl Loader<'_, '_> {
    /// Loads the reservations that the operations name, and `request_id`s if `search` demands it. Returns the ids of the
    /// reservations.
    pub(super) async fn load_reservations(
        &mut self,
        work: &[(TenantKey, &Item)],
        search: Search,
    ) -> Result<Vec<(TenantKey, ReservationId)>, StoreError> {
        let mut ids: HashSet<(TenantKey, ReservationId)> = HashSet::new();
        let mut resets: HashSet<(TenantKey, ReservationId)> = HashSet::new();
        let mut minted: Vec<(TenantKey, String)> = Vec::new();
        let mut names: HashSet<(TenantKey, &str)> = HashSet::new();
        for &(tenant, item) in work {
            let operation = &item.request.operation;
            if search >= Search::Requests {
                names.extend(operation.request().map(|request| (tenant, request.id.as_str())));
            }
            names.extend(request_of_target(operation).map(|request| (tenant, request)));
            if let Some(Target::Id(id)) = operation.target() {
                ids.insert((tenant, *id));
            }
            if let Some(id) = item.minted().filter(|_| search == Search::Own) {
                ids.insert((tenant, id));
                minted.push((tenant, minted_request_id(id)));
                if matches!(operation, Operation::Reset(_)) {
                    resets.insert((tenant, id));
                }
            }
        }
        names.extend(minted.iter().map(|(tenant, name)| (*tenant, name.as_str())));
        let names: Vec<(TenantKey, &str)> = names.into_iter().collect();
        for (tenant, (name, request)) in self.session.transaction.find_requests(&names).await? {
            let found = if request.method == Method::Reset { &mut resets } else { &mut ids };
            found.insert((tenant, request.reservation));
            if let Some(books) = self.session.books.get_mut(&tenant) {
                books.load_request(name, request);
            }
        }
        for (tenant, id) in resets {
            self.load_adjustments(tenant, id).await?;
        }
        let ids: Vec<(TenantKey, ReservationId)> = ids.into_iter().collect();
        let holds = self.session.transaction.find_holds(&self.unknown(&ids)).await?;
        self.session.enter_reservations(holds, Origin::Hold);
        let settled = self.session.transaction.find_settled(&self.unknown(&ids)).await?;
        self.session.enter_reservations(settled, Origin::Settled);
        Ok(ids)
    }

    /// Loads the adjustments of a ResetUsage, if it took effect before.
    async fn load_adjustments(&mut self, tenant: TenantKey, id: ReservationId) -> Result<(), StoreError> {
        let made = self.session.transaction.list_adjustments(tenant, id).await?;
        if let Some(books) = self.session.books.get_mut(&tenant) {
            made.into_iter().for_each(|adjustment| books.load_adjustment(adjustment));
        }
        Ok(())
    }

    /// Loads the counters that the operations need, and the counters of the reservations that the operations name.
    /// Returns, for each operation, the counters that its own resources and subject select.
    pub(super) async fn load_counters(
        &mut self,
        work: &[(TenantKey, &Item)],
        named: &[(TenantKey, ReservationId)],
    ) -> Result<Vec<Result<Vec<Touched>, Vec<Fault>>>, StoreError> {
        let mut unknown: Vec<(TenantKey, CounterKey)> = Vec::new();
        let mut all_touched = Vec::with_capacity(work.len());
        let mut resets = Vec::new();
        for &(tenant, item) in work {
            let Some(books) = self.session.books.get(&tenant) else {
                all_touched.push(Ok(Vec::new()));
                continue;
            };
            let (policy, now) = (&self.session.policy, self.session.now);
            let touched = touch_operation(books, policy, self.calendar, &item.request.operation, now);
            let applied = touched.iter().flatten().flat_map(|touched| &touched.applied);
            let keys = books.unknown_of(applied.map(|applied| &applied.key));
            unknown.extend(keys.into_iter().map(|key| (tenant, key)));
            all_touched.push(touched);
            if let Operation::Reset(reset) = &item.request.operation {
                resets.push((tenant, reset));
            }
        }
        for &(tenant, id) in named {
            if let Some(books) = self.session.books.get(&tenant) {
                let lines = books.find_reservation(id).into_iter().flat_map(|reservation| &reservation.lines);
                let lines = lines.filter(|line| !books.knows(&line.key));
                unknown.extend(lines.map(|line| (tenant, line.key.clone())));
            }
        }
        self.find_counters(unknown).await?;
        for (tenant, reset) in resets {
            self.load_running_windows(tenant, reset).await?;
        }
        Ok(all_touched)
    }

    /// Loads the counters that the books do not know. Afterwards the books also know which of these counters do not
    /// exist.
    pub(super) async fn find_counters(
        &mut self,
        mut keys: Vec<(TenantKey, CounterKey)>,
    ) -> Result<(), StoreError> {
        keys.retain(|(tenant, key)| self.session.books.get(tenant).is_some_and(|books| !books.knows(key)));
        keys.sort_unstable();
        keys.dedup();
        let found = self.session.transaction.find_counters(&keys).await?;
        self.session.enter_counters(keys, found);
        Ok(())
    }

    /// Expires due holds: those that are loaded, and others up to [`SWEEP_HOLDS_MAX`]. The remaining due holds no
    /// longer count; a later batch sweeps them.
    pub(super) async fn sweep(&mut self) -> Result<(), StoreError> {
        let now = self.session.now;
        let due = self.find_due().await?;
        let portion = (SWEEP_HOLDS_MAX / due.len().max(1)).max(1);
        for tenant in due {
            let mut holds =
                self.session.transaction.list_holds_by_deadline(tenant, None, now, portion + 1).await?;
            let first_left = (holds.len() > portion).then(|| holds.pop()).flatten();
            self.expire(tenant, holds).await?;
            let next = match &first_left {
                Some(left) => Some(left.deadline),
                None => self.session.transaction.find_next_deadline(tenant, now).await?,
            };
            let until = match first_left {
                Some(left) => Some(self.add_due(tenant, &left).await?),
                None => None,
            };
            self.note_swept(tenant, next, until);
        }
        Ok(())
    }

    /// Finds the tenants that have due holds. One statement reads the earliest deadlines of all tenants whose
    /// `next_due` has come. Most of these tenants have no due hold, because the hold with that deadline was settled
    /// before.
    async fn find_due(&mut self) -> Result<Vec<TenantKey>, StoreError> {
        let now = self.session.now;
        let tenants = self.session.books.values().map(|books| &books.tenant);
        let candidates: Vec<TenantKey> =
            tenants.filter(|tenant| tenant.next_due <= now).map(|tenant| tenant.key).collect();
        let mut due = Vec::new();
        for (tenant, earliest) in self.session.transaction.find_earliest_deadlines(&candidates).await? {
            if earliest.is_some_and(|deadline| deadline <= now) {
                due.push(tenant);
            } else {
                self.note_swept(tenant, earliest, None);
            }
        }
        Ok(due)
    }

    fn note_swept(&mut self, tenant: TenantKey, next: Option<Time>, due_until: Option<Time>) {
        if let Some(books) = self.session.books.get_mut(&tenant) {
            books.tenant.next_due = next.unwrap_or(Time::NEVER);
            books.set_due_until(due_until);
        }
    }

    /// Expires the due holds in `holds` and in the books.
    async fn expire(&mut self, tenant: TenantKey, holds: Vec<Reservation>) -> Result<(), StoreError> {
        self.session.enter_reservations(holds.into_iter().map(|hold| (tenant, hold)).collect(), Origin::Hold);
        let now = self.session.now;
        let mut due = Vec::new();
        let mut keys = HashSet::new();
        let books = self.session.books.get(&tenant);
        for hold in books.into_iter().flat_map(Books::reservations).filter(|hold| hold.is_due(now)) {
            due.push((hold.deadline, hold.id));
            keys.extend(hold.lines.iter().map(|line| (tenant, line.key.clone())));
        }
        self.find_counters(keys.into_iter().collect()).await?;
        // Events are emitted in the order of deadlines.
        due.sort_unstable();
        if let Some(books) = self.session.books.get_mut(&tenant) {
            due.into_iter().for_each(|(_, id)| expire(books, self.calendar, id));
        }
        Ok(())
    }

    /// Adds due holds, from `first` on, to the sums of due holds. Skips holds that an earlier batch added. Returns the
    /// deadline up to which all due holds are in the sums.
    async fn add_due(&mut self, tenant: TenantKey, first: &Reservation) -> Result<Time, StoreError> {
        let now = self.session.now;
        let until = self.session.books.get(&tenant).and_then(Books::due_until).unwrap_or(Time::MIN);
        let mut after = (until, ReservationId::MAX);
        if first.deadline > until {
            after = (first.deadline, first.id);
            self.load_due(tenant, std::slice::from_ref(first)).await?;
        }
        loop {
            let page =
                self.session.transaction.list_holds_by_deadline(tenant, Some(after), now, DUE_PAGE).await?;
            self.load_due(tenant, &page).await?;
            match page.last() {
                Some(last) if page.len() == DUE_PAGE => after = (last.deadline, last.id),
                Some(_) | None => return Ok(now),
            }
        }
    }

    /// Adds a page of due holds to the sums. Skips holds that are in the books: they have expired there.
    async fn load_due(&mut self, tenant: TenantKey, page: &[Reservation]) -> Result<(), StoreError> {
        let charged = charged_keys(page).map(|key| (tenant, key.clone())).collect();
        self.find_counters(charged).await?;
        let Some(books) = self.session.books.get_mut(&tenant) else { return Ok(()) };
        for hold in page {
            if books.find_reservation(hold.id).is_none() {
                books.load_due(hold);
            }
        }
        Ok(())
    }

    /// Loads the counters that a ResetUsage selects in running windows, even if no limit reads them. Counter keys are
    /// sorted by resource, cycle and window, so one statement finds the next resource and cycle. The number of
    /// statements does not depend on the number of windows: with the period ROLLING, each subject has windows of its
    /// own.
    async fn load_running_windows(&mut self, tenant: TenantKey, reset: &Reset) -> Result<(), StoreError> {
        let Some(books) = self.session.books.get(&tenant) else { return Ok(()) };
        let Ok(choice) = Choice::of(&self.session.policy, books, reset) else { return Ok(()) };
        let mut loaded = 0;
        let mut from = Vec::new();
        while let Some(key) = self.session.transaction.find_next_counter(tenant, &from).await? {
            if choice.may_contain(key.resource(), key.period()) {
                loaded += self.load_running(tenant, &key, &choice).await?;
            }
            // With more counters than allowed the ResetUsage is refused, so the remaining counters are not needed.
            if loaded > RESET_COUNTERS_MAX {
                return Ok(());
            }
            from = key.successor_of_windows();
        }
        Ok(())
    }

    /// Loads the selected counters of the running windows with the resource and cycle of a key, page by page. Returns
    /// how many of these counters are not at zero. Stops when this number exceeds the number of counters that a
    /// ResetUsage may change.
    async fn load_running(
        &mut self,
        tenant: TenantKey,
        key: &CounterKey,
        choice: &Choice<'_>,
    ) -> Result<usize, StoreError> {
        let (resource, cycle, now) = (key.resource(), key.cycle(), self.session.now);
        let mut from = CounterKey::prefix(resource, cycle, earliest_start(cycle, now));
        let until = CounterKey::prefix(resource, cycle, now.saturating_add(Span::MILLISECOND));
        let mut loaded = 0;
        loop {
            let transaction = &self.session.transaction;
            let page = transaction.list_running_counters(tenant, &from, &until, now, COUNTERS_PAGE).await?;
            let full = page.len() == COUNTERS_PAGE;
            if let Some((last, _)) = page.last() {
                from = last.successor();
            }
            let Some(books) = self.session.books.get_mut(&tenant) else { return Ok(loaded) };
            for (key, counter) in page.into_iter().filter(|(key, _)| choice.contains(key)) {
                books.load_counter(key.clone(), Some(counter));
                if books.find_counter(&key).is_some_and(|counter| counter.committed != 0) {
                    loaded += 1;
                }
            }
            if !full || loaded > RESET_COUNTERS_MAX {
                return Ok(loaded);
            }
        }
    }

    /// Returns the reservations that are not in the books.
    fn unknown(&self, ids: &[(TenantKey, ReservationId)]) -> Vec<(TenantKey, ReservationId)> {
        let known = |&(tenant, id): &(TenantKey, ReservationId)| {
            self.session.books.get(&tenant).is_some_and(|books| books.find_reservation(id).is_some())
        };
        ids.iter().filter(|owned| !known(owned)).copied().collect()
    }
}

/// Returns an instant at or before the start of each window of this cycle that is running. After a change of the
/// calendar, a window can be one and a half times as long as its nominal length, and windows of local time are longer
/// than it by a few days.
fn earliest_start(cycle: Cycle, now: Time) -> Time {
    let length = cycle.rolling_length().unwrap_or_else(|| {
        let slack = if cycle.period().is_local() { Span::days(5) } else { Span::ZERO };
        Span(cycle.nominal_length().0.saturating_mul(2)).saturating_add(slack)
    });
    now.saturating_sub(length)
}

/// Returns the counters that the CHARGE holds among `holds` charge at their deadlines.
pub(in super::super) fn charged_keys(holds: &[Reservation]) -> impl Iterator<Item = &CounterKey> {
    let charged = holds.iter().filter(|hold| hold.on_expiry == OnExpiry::Charge);
    charged.flat_map(|hold| &hold.lines).map(|line| &line.key)
}

/// Returns the `request_id` by which an operation names its reservation. `None`: the operation names its reservation in
/// another way, or names no reservation.
fn request_of_target(operation: &Operation) -> Option<&str> {
    match operation.target() {
        Some(Target::Request(id)) => Some(id),
        Some(Target::Id(_)) | None => None,
    }
}
