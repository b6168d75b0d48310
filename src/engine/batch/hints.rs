//! Computes retry hints; see [`crate::domain::hint`]. The hints are computed at the end of a batch, from the books as
//! the batch leaves them, so they are true when they are reported.

use std::collections::hash_map::Entry;

use foldhash::{HashMap, HashMapExt};

use super::super::ask::{Failure, Outcome};
use crate::{
    domain::{
        books::Books,
        counter::{Counter, CounterKey},
        decide::Reply,
        hint::{Freeing, Wait},
        id::{ReservationId, TenantKey},
        refusal::{Refusal, Retry, Violation},
        reservation::{OnExpiry, Reservation},
        time::Time,
    },
    store::{Batch, StoreError, Transaction},
};

/// Maximum number of a tenant's holds that are read for its hints, in the order of deadlines (R4.11).
const HOLDS_SCANNED_MAX: usize = 256;

/// A violation whose hint depends on open holds.
pub(super) struct Waiting<'a> {
    tenant: TenantKey,
    violation: &'a mut Violation,
    /// The counter as the batch leaves it.
    counter: Counter,
    /// When the tenant gets another plan. `None`: no change is scheduled.
    change_of_plan: Option<Time>,
}

/// The listed open holds that reserve units of one counter.
struct Open {
    freeing: Vec<Freeing>,
    held: i64,
}

/// Sets the hints of a batch's violations. Returns the violations whose hints depend on open holds.
pub(super) fn collect<'a>(
    outcomes: &'a mut [Outcome],
    books: &HashMap<TenantKey, Books>,
    now: Time,
) -> Vec<Waiting<'a>> {
    let mut waiting = Vec::new();
    for outcome in outcomes {
        let (tenant, violations) = match outcome {
            Ok(answer) => (answer.frame.tenant_key, check_violations(&mut answer.reply)),
            Err(Failure::Refused { refusal: Refusal::QuotaExceeded(violations), frame: Some(frame) }) => {
                (frame.tenant_key, Some(violations))
            }
            Err(_) => continue,
        };
        let books = books.get(&tenant);
        let change_of_plan = books.and_then(|books| books.tenant.next_plan).map(|next| next.at);
        for violation in violations.into_iter().flatten() {
            let known = books.and_then(|books| books.find_counter(&violation.balance.key));
            let counter = known.unwrap_or(violation.balance.counter);
            match violation.wait(&counter, now) {
                Wait::Known(retry) => violation.retry = bounded(violation, retry, change_of_plan, now),
                Wait::Freed => waiting.push(Waiting { tenant, violation, counter, change_of_plan }),
            }
        }
    }
    waiting
}

/// Lists the open holds as the batch leaves them, and sets the remaining hints.
pub(super) async fn resolve(
    transaction: &Transaction<Batch>,
    now: Time,
    waiting: Vec<Waiting<'_>>,
) -> Result<(), StoreError> {
    let mut holds: HashMap<TenantKey, Vec<Reservation>> = HashMap::new();
    let mut counters: HashMap<(TenantKey, CounterKey), Open> = HashMap::new();
    for Waiting { tenant, violation, counter, change_of_plan } in waiting {
        let holds = match holds.entry(tenant) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => {
                let after = Some((now, ReservationId::MAX));
                let found = transaction.list_holds_by_deadline(tenant, after, Time::NEVER, HOLDS_SCANNED_MAX);
                place.insert(found.await?)
            }
        };
        let key = &violation.balance.key;
        let open = counters.entry((tenant, key.clone())).or_insert_with(|| Open::of(holds, key));
        let more = holds.len() == HOLDS_SCANNED_MAX && open.held < counter.reserved;
        let beyond = holds.last().filter(|_| more).map(|hold| hold.deadline);
        let retry = violation.passes(&counter, &open.freeing, beyond, now);
        violation.retry = bounded(violation, retry, change_of_plan, now);
    }
    Ok(())
}

/// Returns the hint, at the latest when the tenant gets another plan.
fn bounded(violation: &Violation, retry: Retry, change_of_plan: Option<Time>, now: Time) -> Retry {
    change_of_plan.map_or(retry, |change| violation.with_change_of_plan(retry, change, now))
}

impl Open {
    fn of(holds: &[Reservation], key: &CounterKey) -> Self {
        let mut open = Self { freeing: Vec::new(), held: 0 };
        for hold in holds {
            let Some(line) = hold.lines.iter().find(|line| line.key == *key) else { continue };
            open.held = open.held.saturating_add(line.held);
            // A CHARGE hold is charged at its deadline and frees nothing.
            if hold.on_expiry == OnExpiry::Release {
                let (hold, deadline) = (hold.id, hold.deadline);
                open.freeing.push(Freeing { hold, deadline, units: line.held });
            }
        }
        open
    }
}

/// Returns the violations in the reply to a Check. `None`: the reply is to another operation.
fn check_violations(reply: &mut Reply) -> Option<&mut Vec<Violation>> {
    match reply {
        Reply::Checked(checked) => Some(&mut checked.violations),
        Reply::Reserved(_)
        | Reply::Committed(_)
        | Reply::Amended(_)
        | Reply::Released(_)
        | Reply::Extended(_)
        | Reply::Recorded { .. }
        | Reply::Reset { .. } => None,
    }
}
