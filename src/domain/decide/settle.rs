//! Commit and Release: settle a reservation, before its deadline or after it.

use std::sync::Arc;

use super::{
    super::{
        books::{Books, FORGIVEN_REASON},
        counter::{Counter, CounterKey},
        event::{Fact, Settlement},
        id::ResourceKey,
        operation::{Commit, Target, Units},
        plan::Policy,
        refusal::{Fault, Refusal},
        reservation::{Line, Reservation, ReservationState, ReservedAmount},
    },
    reply::Held,
    stop::{Context, Stop, get_target},
    touch::{
        applied, counter_of_line, overflow, require, reservation_balances, reservation_figures, resolve_held,
    },
};

/// The change of one counter by a settlement.
struct Step {
    key: CounterKey,
    committed: i64,
    reserved: i64,
    /// The adjustment that is needed because an earlier adjustment already subtracted the charge at the deadline
    /// (R4.27).
    forgiven: i64,
    fresh: Counter,
}

pub(super) fn commit(books: &mut Books, context: &mut Context<'_>, commit: &Commit) -> Result<Held, Stop> {
    let found = get_target(books, &commit.target)?;
    let resources = resolve_held(context.policy, &found, &commit.amounts)?;
    let used: Vec<(ResourceKey, i64)> =
        resources.into_iter().zip(commit.amounts.iter().map(|units| units.quantity)).collect();
    match found.state {
        ReservationState::Released => return Err(Refusal::ReservationSettled(found.state).into()),
        ReservationState::Committed => {
            return if charges(&found, &used) == committed(&found) {
                answer(books, context, found)
            } else {
                Err(Refusal::ReservationSettled(found.state).into())
            };
        }
        ReservationState::Reserved | ReservationState::Expired => {}
    }
    let mut settled = Reservation::clone(&found);
    if settled.first.is_none() && found.amounts.iter().any(|amount| amount.reserved == 0) {
        // Afterwards, the amounts do not show which resources were reserved with a quantity of 0.
        settled.first = Some(found.answer());
    }
    join_unreserved(books, context, &mut settled, &used);
    require(books, settled.lines.iter().map(|line| &line.key))?;

    let mut faults = Vec::new();
    let mut steps = Vec::with_capacity(settled.lines.len());
    for (resource, quantity) in charges(&found, &used) {
        for line in settled.lines.iter_mut().filter(|line| line.key.resource() == resource) {
            let reserved = found.amounts.iter().find(|a| a.resource == resource).map_or(0, |a| a.reserved);
            // If an Extend added the counter, the counter has reserved only the units of that Extend, and is charged
            // only for these.
            let charge = quantity.saturating_sub(reserved.saturating_sub(line.held)).max(0);
            match step(books, context, &found, line, charge) {
                Some(step) => steps.push(step),
                None => faults.push(place_of(&commit.amounts, context.policy, resource)),
            }
        }
        match settled.amounts.iter_mut().find(|amount| amount.resource == resource) {
            Some(amount) => amount.committed = quantity,
            None => settled.amounts.push(ReservedAmount { resource, reserved: 0, committed: quantity }),
        }
    }
    if !faults.is_empty() {
        // Counters of one resource belong to one field, so their faults are the same.
        faults.dedup();
        return Err(Refusal::Invalid(faults).into());
    }
    settled.late = found.state == ReservationState::Expired;
    settled.state = ReservationState::Committed;
    settled.settled_at = Some(context.now);
    enter(books, context, settled.late, settled, steps)
}

pub(super) fn release(books: &mut Books, context: &mut Context<'_>, target: &Target) -> Result<Held, Stop> {
    let found = get_target(books, target)?;
    match found.state {
        ReservationState::Committed => return Err(Refusal::ReservationSettled(found.state).into()),
        ReservationState::Released => return answer(books, context, found),
        ReservationState::Reserved | ReservationState::Expired => {}
    }
    require(books, found.lines.iter().map(|line| &line.key))?;
    let mut settled = Reservation::clone(&found);
    let mut steps = Vec::with_capacity(settled.lines.len());
    for line in &mut settled.lines {
        // A Release cannot overflow, so every line gives a step.
        steps.extend(step(books, context, &found, line, 0));
    }
    for amount in &mut settled.amounts {
        amount.committed = 0;
    }
    settled.state = ReservationState::Released;
    settled.settled_at = Some(context.now);
    enter(books, context, found.state == ReservationState::Expired, settled, steps)
}

/// Enters a settlement in the books. Emits COMMITTED_LATE for a late Commit, and for a late Release that changes a
/// counter.
fn enter(
    books: &mut Books,
    context: &mut Context<'_>,
    late: bool,
    settled: Reservation,
    steps: Vec<Step>,
) -> Result<Held, Stop> {
    let corrected = steps.iter().any(|step| step.committed != 0);
    for step in steps {
        books.add(&step.key, step.committed, step.reserved, step.fresh);
        books.correct(&step.key, step.forgiven, FORGIVEN_REASON);
    }
    let settled = books.update_reservation(settled);
    // A late Release reverses the charge at the deadline. Without a charge it changes nothing.
    if settled.late || (late && corrected) {
        let figures = reservation_figures(books, context.calendar, &settled);
        books.note(Fact::Late(Settlement { reservation: Arc::clone(&settled), figures }));
    }
    answer(books, context, settled)
}

fn answer(books: &Books, context: &mut Context<'_>, reservation: Arc<Reservation>) -> Result<Held, Stop> {
    require(books, reservation.lines.iter().map(|line| &line.key))?;
    let balances = reservation_balances(books, context.calendar, &reservation);
    Ok(Held { reservation, balances })
}

/// Returns the change of one counter when `charge` units replace the hold, or the charge at the deadline. `None`: the
/// counter would overflow.
fn step(
    books: &Books,
    context: &mut Context<'_>,
    found: &Reservation,
    line: &mut Line,
    charge: i64,
) -> Option<Step> {
    let counter = counter_of_line(books, context.calendar, &line.key, found.created_at);
    let late = found.state == ReservationState::Expired;
    if late && books.is_forgiven(&line.key, found.deadline) {
        return excess(line, charge, counter);
    }
    let freed = if found.state == ReservationState::Reserved { line.held } else { 0 };
    // A ResetUsage may have subtracted the charge before. A counter does not go below zero.
    let committed = counter.committed.checked_add(charge.checked_sub(line.charged)?)?.max(0);
    committed.checked_add(counter.reserved.checked_sub(freed)?)?;
    let added = committed.checked_sub(counter.committed)?;
    line.charged = line.charged.checked_add(added)?;
    Some(Step { key: line.key.clone(), committed: added, reserved: -freed, forgiven: 0, fresh: counter })
}

/// Computes the same as [`step`] for a line whose charge at the deadline no longer counts, because the counter was set
/// to zero since then. If `charge` is larger than that charge, the difference is added. If `charge` is smaller, nothing
/// is subtracted (R4.27).
fn excess(line: &mut Line, charge: i64, counter: Counter) -> Option<Step> {
    let added = charge.checked_sub(line.charged)?;
    let committed = added.max(0);
    counter.committed.checked_add(committed)?.checked_add(counter.reserved)?;
    line.charged = charge;
    Some(Step { key: line.key.clone(), committed, reserved: 0, forgiven: committed - added, fresh: counter })
}

/// Returns the quantity that is charged per resource. A reserved resource that the Commit leaves out is charged as
/// reserved (R4.16). An amount without reserved and committed units is charged with 0, whether it was reserved or not.
fn charges(found: &Reservation, used: &[(ResourceKey, i64)]) -> Vec<(ResourceKey, i64)> {
    let left_out = found
        .amounts
        .iter()
        .filter(|amount| amount.reserved > 0 || amount.committed == 0)
        .filter(|amount| used.iter().all(|(resource, _)| *resource != amount.resource))
        .map(|amount| (amount.resource, amount.reserved));
    let mut all: Vec<(ResourceKey, i64)> = used.iter().copied().chain(left_out).collect();
    all.sort_unstable();
    all
}

fn committed(found: &Reservation) -> Vec<(ResourceKey, i64)> {
    let mut all: Vec<(ResourceKey, i64)> = found.amounts.iter().map(|a| (a.resource, a.committed)).collect();
    all.sort_unstable();
    all
}

/// Adds the counters of resources that were used without being reserved, in the windows of the hold (R4.4).
fn join_unreserved(
    books: &Books,
    context: &mut Context<'_>,
    settled: &mut Reservation,
    used: &[(ResourceKey, i64)],
) {
    for &(resource, _) in used {
        if settled.lines_of(resource).next().is_some() {
            continue;
        }
        let joined = applied(books, context.calendar, resource, &settled.subject, settled.created_at);
        for applied in joined {
            if settled.lines.iter().all(|line| line.key != applied.key) {
                settled.lines.push(Line { key: applied.key, held: 0, charged: 0 });
            }
        }
    }
}

/// Makes the fault for the field that causes an overflow. A resource that the Commit left out has no field of its own.
fn place_of(amounts: &[Units], policy: &Policy, resource: ResourceKey) -> Fault {
    let name = policy.resource_id(resource);
    amounts.iter().position(|units| units.resource == name).map_or_else(
        || Fault::new("amounts", format!("must not take a counter of {name:?} past the largest int64")),
        overflow,
    )
}
