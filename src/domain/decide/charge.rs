//! Charges the counters of a reservation: when it is settled, and when its figures are corrected.

use std::sync::Arc;

use super::{
    super::{
        amendment::Amendment,
        books::Books,
        counter::{Counter, CounterKey},
        event::{Fact, Settlement},
        id::ResourceKey,
        operation::Units,
        plan::Policy,
        refusal::{Fault, Refusal},
        reservation::{Line, Reservation, ReservationState, ReservedAmount, Share},
        shape::Subject,
        time::Time,
    },
    reply::Held,
    stop::{Context, Stop},
    touch::{
        applied, counter_of_line, keep_windows, overflow, require, reservation_balances, reservation_figures,
    },
};

/// The change of one counter.
pub(super) struct Step {
    key: CounterKey,
    committed: i64,
    reserved: i64,
    fresh: Counter,
}

/// Sets the charges of resources, in `settled` and in the steps that it returns. `found` is the reservation before.
/// `amounts` are the amounts of the request, for faults.
pub(super) fn set_charges(
    books: &Books,
    context: &mut Context<'_>,
    found: &Reservation,
    settled: &mut Reservation,
    charges: &[(ResourceKey, i64)],
    amounts: &[Units],
) -> Result<Vec<Step>, Refusal> {
    let mut faults = Vec::new();
    let mut steps = Vec::with_capacity(settled.lines.len());
    for &(resource, quantity) in charges {
        let reserved = found.amounts.iter().find(|a| a.resource == resource).map_or(0, |a| a.reserved);
        for line in settled.lines.iter_mut().filter(|line| line.key.resource() == resource) {
            match step(books, context, found, line, charge_of(line, quantity, reserved)) {
                Some(step) => steps.push(step),
                None => faults.push(place_of(amounts, context.policy, resource)),
            }
        }
        match settled.amounts.iter_mut().find(|amount| amount.resource == resource) {
            Some(amount) => amount.committed = quantity,
            None => settled.amounts.push(ReservedAmount { resource, reserved: 0, committed: quantity }),
        }
    }
    // Counters of one resource belong to one field, so their faults are the same.
    faults.dedup();
    if faults.is_empty() { Ok(steps) } else { Err(Refusal::Invalid(faults)) }
}

/// Returns the units that a counter is charged if `quantity` units of its resource were used. If an Extend added the
/// counter, the counter has reserved only the units of that Extend, and is charged only for these.
fn charge_of(line: &Line, quantity: i64, reserved: i64) -> i64 {
    match line.share {
        Share::Held => quantity.saturating_sub(reserved.saturating_sub(line.held)).max(0),
        Share::Whole => quantity,
        Share::Nothing => 0,
    }
}

/// Returns the change of one counter when `charge` units replace the hold, or the earlier charge. `None`: the counter
/// would overflow.
pub(super) fn step(
    books: &Books,
    context: &mut Context<'_>,
    found: &Reservation,
    line: &mut Line,
    charge: i64,
) -> Option<Step> {
    let counter = counter_of_line(books, context.calendar, &line.key, found.counts_at());
    line.note_forgiven(&counter, found.settled_at);
    let charge = charge.max(line.forgiven);
    let freed = if found.state == ReservationState::Reserved { line.held } else { 0 };
    // A negative Record may have subtracted the charge before. A counter does not go below zero.
    let committed = counter.committed.checked_add(charge.checked_sub(line.charged)?)?.max(0);
    committed.checked_add(counter.reserved.checked_sub(freed)?)?;
    let added = committed.checked_sub(counter.committed)?;
    line.charged = line.charged.checked_add(added)?;
    Some(Step { key: line.key.clone(), committed: added, reserved: -freed, fresh: counter })
}

/// Enters the steps in the books.
pub(super) fn apply(books: &mut Books, steps: &[Step]) {
    for step in steps {
        books.add(&step.key, step.committed, step.reserved, step.fresh);
    }
}

/// Returns whether a step changes what a counter has committed.
pub(super) fn any_charged(steps: &[Step]) -> bool {
    steps.iter().any(|step| step.committed != 0)
}

/// Returns whether a step changes what a counter has committed in a window that is over, so that WINDOW_CLOSED may have
/// reported another figure.
pub(super) fn any_over(steps: &[Step], now: Time) -> bool {
    steps.iter().any(|step| step.committed != 0 && is_over(&step.key, &step.fresh, now))
}

/// Returns whether the window of a counter is over, and WINDOW_CLOSED is emitted for windows of its length.
pub(super) fn is_over(key: &CounterKey, counter: &Counter, now: Time) -> bool {
    counter.window.end <= now && key.closes()
}

/// Notes the fact that a charge was corrected after it was final, by this amendment or by a late settlement.
pub(super) fn note_late(
    books: &mut Books,
    context: &mut Context<'_>,
    reservation: &Arc<Reservation>,
    amendment: Option<&Amendment>,
) {
    let figures = reservation_figures(books, context.calendar, reservation);
    let reservation = match &reservation.amended {
        Some(_) => Arc::new(reservation.for_event(amendment)),
        None => Arc::clone(reservation),
    };
    books.note(Fact::Late(Settlement { reservation, figures }));
}

/// Makes the reply with a reservation and the present balances of its counters.
pub(super) fn answer(
    books: &Books,
    context: &mut Context<'_>,
    reservation: Arc<Reservation>,
) -> Result<Held, Stop> {
    require(books, reservation.lines.iter().map(|line| &line.key))?;
    let balances = reservation_balances(books, context.calendar, &reservation);
    Ok(Held { reservation, balances })
}

/// Adds the counters of resources that were used without being reserved, in the windows of the reservation (R4.4).
pub(super) fn join_unreserved(
    books: &Books,
    context: &mut Context<'_>,
    settled: &mut Reservation,
    used: impl Iterator<Item = ResourceKey>,
) {
    let subject = settled.charged_subject();
    for resource in used {
        if settled.lines_of(resource).next().is_some() {
            continue;
        }
        let joined = applied(books, context.calendar, resource, &subject, settled.counts_at());
        for applied in joined {
            if settled.lines.iter().all(|line| line.key != applied.key) {
                settled.lines.push(Line::new(applied.key, 0));
            }
        }
    }
}

/// Moves the charge of a resource to the counters of the subject that served the call, in the windows of the hold
/// (R4.45). Counters that do not count this subject are charged nothing.
pub(super) fn move_to(
    books: &Books,
    context: &mut Context<'_>,
    settled: &mut Reservation,
    subject: &Subject,
    resource: ResourceKey,
) {
    let mut served = applied(books, context.calendar, resource, subject, settled.counts_at());
    keep_windows(books, context.calendar, &mut served, settled, resource);
    for line in settled.lines.iter_mut().filter(|line| line.key.resource() == resource) {
        if served.iter().all(|applied| applied.key != line.key) {
            line.share = Share::Nothing;
        }
    }
    for applied in served {
        if settled.lines.iter().all(|line| line.key != applied.key) {
            settled.lines.push(Line { share: Share::Whole, ..Line::new(applied.key, 0) });
        }
    }
}

/// Makes the fault for the field that causes an overflow. A resource that the request left out has no field of its own.
fn place_of(amounts: &[Units], policy: &Policy, resource: ResourceKey) -> Fault {
    let name = policy.resource_id(resource);
    amounts.iter().position(|units| units.resource == name).map_or_else(
        || Fault::new("amounts", format!("must not take a counter of {name:?} past the largest int64")),
        overflow,
    )
}
