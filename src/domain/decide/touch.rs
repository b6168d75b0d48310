//! Finds the counters of an operation.

use std::sync::Arc;

use super::super::{
    books::Books,
    calendar::Calendar,
    counter::{Balance, Counter, CounterKey},
    event::Figures,
    faults::Faults,
    id::ResourceKey,
    lineage::Since,
    operation::{Check, Operation, Record, Reserve, Units},
    plan::{Limit, Policy},
    refusal::{Fault, Refusal},
    reservation::Reservation,
    shape::Subject,
    terms::Terms,
    time::{Span, Time},
    window::{Window, window_at},
};
use super::stop::{Context, Stop};

/// A counter that an operation changes, with a limit that reads it.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The limit. `None`: the counter is a meter, or a counter of the hold that no present limit reads.
    pub limit: Option<Arc<Limit>>,
    /// The key of the counter.
    pub key: CounterKey,
    /// The counter to use if it does not exist yet.
    pub fresh: Counter,
}

/// One amount of an operation: its resource, and the counters that it changes.
#[derive(Clone, Debug)]
pub struct Touched {
    /// The key of the resource.
    pub resource: ResourceKey,
    /// At least one entry. Several limits may share a counter.
    pub applied: Vec<Applied>,
}

/// The counters of an operation, or the faults of its fields. The caller reports the faults only if no other outcome,
/// such as a replay, takes precedence.
pub(super) type TouchedOrFaults<'a> = Result<&'a [Touched], &'a Vec<Fault>>;

impl Touched {
    /// Returns the meter of the resource if the agent's calls are refused, because no limit covers the resource
    /// (R4.42).
    pub(super) fn refused_meter(&self, terms: &Terms, agent: &str) -> Option<&Applied> {
        let covered = self.applied.iter().any(|applied| applied.limit.is_some());
        if covered || !terms.refuses_uncovered(agent) { None } else { self.applied.first() }
    }

    /// Returns the entries with distinct counters.
    pub fn keys(&self) -> impl Iterator<Item = &Applied> {
        let repeated = |place: usize| self.applied[..place].iter().any(|a| a.key == self.applied[place].key);
        self.applied
            .iter()
            .enumerate()
            .filter(move |(place, _)| !repeated(*place))
            .map(|(_, applied)| applied)
    }
}

/// Returns the limits that apply to a resource and a subject, each with the key of its counter in the window of the
/// instant `at`. If no limit applies, returns the resource's meter.
pub(super) fn applied(
    books: &Books,
    calendar: &mut Calendar,
    resource: ResourceKey,
    subject: &Subject,
    at: Time,
) -> Vec<Applied> {
    let (tenant, terms) = (&books.tenant, &books.terms);
    let mut applied = Vec::with_capacity(2);
    for limit in terms.limits_for(resource, subject) {
        let shape = &limit.shape;
        let window = match books.rolling_window(shape, subject, at) {
            Some(window) => window,
            None => calendar.window(&tenant.calendars, &shape.timing, at),
        };
        let key = CounterKey::of_shape(shape, window, subject);
        let since = tenant.new_counter_since(&key, tenant.counts_since(limit, &key));
        let fresh = Counter::fresh(window.window, since);
        let limit = Some(Arc::clone(terms.at(limit, &key, books.now)));
        applied.push(Applied { limit, key, fresh });
    }
    if applied.is_empty() {
        applied.push(Applied {
            limit: None,
            key: CounterKey::of_meter(resource),
            fresh: Counter::fresh(Window::ENDLESS, Since { at: at.max(tenant.created_at), order: 0 }),
        });
    }
    applied
}

/// Returns the counters of the resources, in their order, or the faults of the fields.
fn touch<'a>(
    books: &Books,
    policy: &Policy,
    calendar: &mut Calendar,
    subject: &Subject,
    resources: impl Iterator<Item = &'a str>,
    at: Time,
) -> Result<Vec<Touched>, Vec<Fault>> {
    let touched = resolve(resources, |name| policy.find_resource(name))?.into_iter().map(|resource| {
        let applied = applied(books, calendar, resource, subject, at);
        Touched { resource, applied }
    });
    Ok(touched.collect())
}

/// Returns the keys of the named resources, in their order, or the faults of the fields.
fn resolve<'a>(
    names: impl Iterator<Item = &'a str>,
    find: impl Fn(&str) -> Option<ResourceKey>,
) -> Result<Vec<ResourceKey>, Vec<Fault>> {
    let mut resources = Vec::with_capacity(1);
    let mut faults = Faults::default();
    for (place, name) in names.enumerate() {
        match find(name) {
            Some(resource) => resources.push(resource),
            None => undeclared(&mut faults, place, name),
        }
    }
    if faults.is_empty() { Ok(resources) } else { Err(faults.into_list()) }
}

/// Returns the resources that an operation on a reservation names. The reservation's own resources come first, since a
/// name may have passed to another resource after the reservation was made (R4.28).
pub(super) fn resolve_held(
    policy: &Policy,
    reservation: &Reservation,
    amounts: &[Units],
) -> Result<Vec<ResourceKey>, Refusal> {
    let own = |name: &str| {
        let mut resources = reservation.amounts.iter().map(|amount| amount.resource);
        resources.find(|&key| policy.resource_id(key) == name)
    };
    let names = amounts.iter().map(|units| units.resource.as_str());
    resolve(names, |name| own(name).or_else(|| policy.find_resource(name))).map_err(Refusal::Invalid)
}

/// Returns the counters of an operation that names its resources and subject itself. Empty for other operations: their
/// counters follow from the reservation or the filter.
pub fn touch_operation(
    books: &Books,
    policy: &Policy,
    calendar: &mut Calendar,
    operation: &Operation,
    now: Time,
) -> Result<Vec<Touched>, Vec<Fault>> {
    match operation {
        Operation::Reserve(Reserve { subject, amounts, .. })
        | Operation::Check(Check { subject, amounts, .. }) => {
            let names = amounts.iter().map(|ask| ask.resource.as_str());
            touch(books, policy, calendar, subject, names, now)
        }
        Operation::Record(record @ Record { subject, amounts, .. }) => {
            let names = amounts.iter().map(|units| units.resource.as_str());
            touch(books, policy, calendar, subject, names, record.counts_at(now))
        }
        Operation::Commit(_)
        | Operation::Release(_)
        | Operation::Extend(_)
        | Operation::Amend(_)
        | Operation::Reset(_) => Ok(Vec::new()),
    }
}

/// Returns whether the counters of an operation must be found again when it is decided, because operations before it
/// can have begun windows of ROLLING.
pub(super) fn may_have_moved(touched: &Result<Vec<Touched>, Vec<Fault>>) -> bool {
    let mut applied = touched.iter().flatten().flat_map(|touched| &touched.applied);
    applied.any(|applied| applied.key.is_rolling())
}

/// Adds the fault of a resource that is not declared.
pub fn undeclared(faults: &mut Faults, place: usize, name: &str) {
    faults.add(
        format_args!("amounts[{place}].resource"),
        format_args!("must be a declared resource; {name:?} is not"),
    );
}

/// Makes the fault of a quantity that a counter cannot take.
pub(super) fn overflow(place: usize) -> Fault {
    Fault::new(format!("amounts[{place}].quantity"), "must not take a counter past the largest int64")
}

/// Stops with the missing counters, unless the books know all of them, and those from which limits carry over to them.
pub(super) fn require<'a>(books: &Books, keys: impl Iterator<Item = &'a CounterKey>) -> Result<(), Stop> {
    let missing = books.unknown_of(keys);
    if missing.is_empty() { Ok(()) } else { Err(Stop::Missing(missing)) }
}

/// Replaces counters of later windows of ROLLING by those in which the reservation counts: the newest window may have
/// begun after the reservation was made (R4.47).
pub(super) fn keep_windows(
    books: &Books,
    calendar: &mut Calendar,
    applied: &mut [Applied],
    reservation: &Reservation,
    resource: ResourceKey,
) {
    for applied in applied.iter_mut().filter(|applied| applied.key.is_rolling()) {
        let mut lines = reservation.lines_of(resource).filter(|line| line.key.is_rolling());
        if let Some(line) = lines.find(|line| line.key.head() == applied.key.head()) {
            applied.key = line.key.clone();
            applied.fresh = counter_of_line(books, calendar, &line.key, reservation.counts_at());
        }
    }
}

/// Returns the refusal of an operation that would make counters of new subjects beyond the tenant's bound (R4.48).
/// `None`: the tenant stays within the bound, or the operation has no new subject. A subject is new if it has no counter
/// in the window before, either. So a new window refuses nobody who used the window before.
pub(super) fn refusal_of_new_counters(
    books: &Books,
    context: &Context<'_>,
    touched: &[Touched],
) -> Result<Option<Refusal>, Stop> {
    let (counters, most) = (books.tenant.counters, context.counters_max);
    let count = |keys: usize| i64::try_from(keys).unwrap_or(i64::MAX);
    let touched_count = count(touched.iter().map(|touched| touched.applied.len()).sum());
    // A counter of ROLLING may need a head, too.
    if counters.saturating_add(touched_count.saturating_mul(2)) <= most {
        return Ok(None);
    }
    let (mut new, mut before) = (0, Vec::new());
    for Applied { limit, key, fresh } in touched.iter().flat_map(Touched::keys) {
        let is_bounded = fresh.window.is_bounded();
        let Some(limit) = limit.as_ref().filter(|_| key.is_of_one_subject() && !books.has_counter(key))
        else {
            continue;
        };
        if key.is_rolling() {
            let is_known = books.has_counter(&key.head());
            new += if is_known { 0 } else { 1 + i64::from(is_bounded) };
        } else if fresh.window.has_end() && is_bounded {
            before.push(key_of_window_before(books, limit, key));
        } else if is_bounded {
            new += 1;
        }
    }
    require(books, before.iter())?;
    new += count(before.iter().filter(|key| !books.has_counter(key)).count());
    let beyond = new > 0 && counters.saturating_add(new) > most;
    let tenant = || books.tenant.id.to_string();
    Ok(beyond.then(|| Refusal::TenantHasTooManyCounters { tenant: tenant(), most }))
}

/// Returns the key of the counter that counts the same in the window before.
pub(super) fn key_of_window_before(books: &Books, limit: &Limit, key: &CounterKey) -> CounterKey {
    let last = key.window_start().saturating_sub(Span::MILLISECOND);
    key.in_window(limit.shape.timing.window(&books.tenant.calendars, last))
}

/// Returns the present counter of a reservation's line, or a new counter if there is none yet.
pub(super) fn counter_of_line(
    books: &Books,
    calendar: &mut Calendar,
    key: &CounterKey,
    since: Time,
) -> Counter {
    if let Some(counter) = books.find_counter(key) {
        return counter;
    }
    let window = window_of(books, calendar, key);
    let of_limits = books.terms.counted_since(&books.tenant, key);
    let since = of_limits.unwrap_or(Since { at: since, order: 0 });
    Counter::fresh(window, books.tenant.new_counter_since(key, since))
}

/// Returns the window of a counter: the window that a limit of the terms has there, or else the window that a limit
/// without a history would have.
fn window_of(books: &Books, calendar: &mut Calendar, key: &CounterKey) -> Window {
    if let Some(window) = key.rolling_window() {
        return window;
    }
    let (calendars, start) = (&books.tenant.calendars, key.window_start());
    let mut of_limits = books.terms.limits_of(key, calendars);
    match of_limits.next() {
        Some(limit) => calendar.window(calendars, &limit.shape.timing, start).window,
        None => Window { start, ..window_at(books.tenant.calendar().zone, key.cycle(), start) },
    }
}

/// Returns the balances of the touched counters: one per limit that applies.
pub(super) fn balances(books: &Books, touched: &[Touched]) -> Vec<Balance> {
    let all = touched.iter().flat_map(|touched| &touched.applied);
    all.map(|applied| books.balance(&applied.key, applied.limit.as_ref(), applied.fresh)).collect()
}

/// Returns the balances of a reservation's counters, with the limits that read them now.
pub(super) fn reservation_balances(
    books: &Books,
    calendar: &mut Calendar,
    reservation: &Reservation,
) -> Vec<Balance> {
    let mut balances = Vec::with_capacity(reservation.lines.len());
    for line in &reservation.lines {
        let fresh = counter_of_line(books, calendar, &line.key, reservation.counts_at());
        if reservation.served.is_some() {
            // The counters of the hold and of the subject that served the call have different limits.
            balances.extend(books.balances_of(&line.key, fresh));
            continue;
        }
        let before = balances.len();
        for limit in books.terms.limits_for(line.key.resource(), &reservation.subject) {
            if limit.shape.counts(&line.key, &books.tenant.calendars) {
                let limit = books.terms.in_window(limit, &line.key, fresh.window, books.now);
                balances.push(books.balance(&line.key, Some(limit), fresh));
            }
        }
        if balances.len() == before {
            balances.push(books.balance(&line.key, None, fresh));
        }
    }
    balances
}

/// Returns the result of [`reservation_balances`], for an event.
pub(super) fn reservation_figures(
    books: &Books,
    calendar: &mut Calendar,
    reservation: &Reservation,
) -> Vec<Figures> {
    reservation_balances(books, calendar, reservation).into_iter().map(Figures::from).collect()
}
