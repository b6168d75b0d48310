//! Extend: gives an open hold more time, more quantity, or both (R4.19).

use std::sync::Arc;

use super::{
    super::{
        books::{Books, Method, Request},
        bounds::LIFETIME_MAX,
        id::{ReservationId, ReservationName},
        operation::{Extend, Target, Units},
        refusal::{Extended, Fault, Refusal},
        reservation::{Line, Reservation, ReservationState, ReservedAmount},
        tenant::TenantState,
        time::{Span, Time},
    },
    reply::Held,
    reserve::{grants, refuse_suspended},
    stop::{Context, Stop, find_replay, get_target},
    touch::{
        Applied, Touched, applied, counter_of_line, keep_windows, overflow, refusal_of_new_counters, require,
        reservation_balances, resolve_held,
    },
};

pub(super) fn extend(
    books: &mut Books,
    context: &mut Context<'_>,
    extend: &Extend,
    id: ReservationId,
) -> Result<Held, Stop> {
    let replayed = find_replay(books, extend.request.as_ref(), Method::Extend)?.cloned();
    if let (Some(key), Some(first)) = (&extend.request, &replayed)
        && !names(books, &extend.target, first.reservation)
    {
        return Err(Refusal::RequestIdReused(key.id.clone()).into());
    }
    let minted = minted_request_id(id);
    if let Some(request) = replayed.or_else(|| books.find_request(&minted).cloned()) {
        return replay(books, context, &request);
    }
    let found = get_target(books, &extend.target)?;
    match found.state {
        ReservationState::Reserved => {}
        ReservationState::Expired => return Err(Refusal::ReservationExpired.into()),
        ReservationState::Committed | ReservationState::Released => {
            return Err(Refusal::ReservationSettled(found.state).into());
        }
    }
    if books.tenant.state == TenantState::Suspended {
        return Err(Refusal::TenantSuspended(books.tenant.id.to_string()).into());
    }
    refuse_suspended(books, &found.subject.agent)?;
    let mut extended = Reservation::clone(&found);
    if extended.first.is_none() {
        extended.first = Some(found.answer());
    }
    extended.deadline = deadline(context, extend, &found)?;
    let touched = counters(books, context, extend, &found)?;
    require(books, touched.iter().flat_map(|t| t.applied.iter().map(|a| &a.key)))?;
    require(books, found.lines.iter().map(|line| &line.key))?;
    if let Some(refusal) = refusal_of_new_counters(books, context, &touched)? {
        return Err(refusal.into());
    }
    let asked = extend.amounts.iter().map(|units| (units.quantity, units.quantity));
    let granted = grants(books, &found.subject.agent, &touched, asked);
    let observed = granted.map_err(|no| note_extended(no, extend, &found))?.observed;
    add_quantities(books, &mut extended, &touched, &extend.amounts)?;

    books.note_refusals(&observed);
    let request = Request {
        fingerprint: extend.request.as_ref().map_or([0; 16], |request| request.fingerprint),
        method: Method::Extend,
        reservation: found.id,
        answer: Some(extended.answer()),
    };
    books.insert_request(extend.request.as_ref().map_or(minted, |key| key.id.clone()), request);
    let extended = books.update_reservation(extended);
    let balances = reservation_balances(books, context.calendar, &extended);
    Ok(Held { reservation: extended, balances })
}

/// Returns whether `target` names this hold. The hold's `request_id` may have been pruned; the hold itself keeps it.
fn names(books: &Books, target: &Target, hold: ReservationId) -> bool {
    match target {
        Target::Id(id) => *id == hold,
        Target::Request(request_id) => match books.find_request(request_id) {
            Some(request) => request.made() == Some(hold),
            None => books.find_reservation(hold).is_some_and(|hold| hold.request_id == *request_id),
        },
    }
}

fn replay(books: &Books, context: &mut Context<'_>, request: &Request) -> Result<Held, Stop> {
    let name = ReservationName { tenant: books.tenant.key, id: request.reservation };
    let found = books.find_reservation(name.id).ok_or(Refusal::ReservationNotFound(name))?;
    require(books, found.lines.iter().map(|line| &line.key))?;
    let answered =
        request.answer.as_ref().map_or_else(|| found.as_first_answered(), |a| found.as_answered(a));
    let balances = reservation_balances(books, context.calendar, found);
    Ok(Held { reservation: Arc::new(answered), balances })
}

/// Notes in a refusal until when a repeat of the Extend can pass: only before the hold's deadline, and only as long as
/// the new deadline does not exceed the longest life of a hold.
fn note_extended(mut refusal: Refusal, extend: &Extend, found: &Reservation) -> Refusal {
    if let Refusal::QuotaExceeded(violations) = &mut refusal {
        let ttl = extend.ttl.unwrap_or(Span::ZERO);
        let last = found.created_at.saturating_add(LIFETIME_MAX).saturating_sub(ttl);
        let extended =
            Extended { hold: found.id, until: found.deadline.min(last.saturating_add(Span::MILLISECOND)) };
        violations.iter_mut().for_each(|violation| violation.extends = Some(extended));
    }
    refusal
}

/// Returns the new deadline: the later of the old deadline and now + `ttl`. Refused if that is more than 48 hours after
/// the hold was made.
fn deadline(context: &Context<'_>, extend: &Extend, found: &Reservation) -> Result<Time, Refusal> {
    let asked = extend.ttl.map_or(found.deadline, |ttl| context.now.saturating_add(ttl));
    if asked > found.created_at.saturating_add(LIFETIME_MAX) {
        let text = "must not take the deadline past 48 hours after the reservation was made";
        return Err(Refusal::Invalid(vec![Fault::new("ttl", text)]));
    }
    Ok(asked.max(found.deadline))
}

/// Returns the counters of each amount: the counters of the limits that apply now, in the windows of the hold, and the
/// counters in which the hold already reserves units.
fn counters(
    books: &Books,
    context: &mut Context<'_>,
    extend: &Extend,
    found: &Reservation,
) -> Result<Vec<Touched>, Refusal> {
    let calendar = &mut *context.calendar;
    let mut all_touched = Vec::with_capacity(1);
    for resource in resolve_held(context.policy, found, &extend.amounts)? {
        let mut applied = applied(books, calendar, resource, &found.subject, found.created_at);
        keep_windows(books, calendar, &mut applied, found, resource);
        for line in found.lines_of(resource) {
            if applied.iter().all(|applied| applied.key != line.key) {
                let fresh = counter_of_line(books, calendar, &line.key, found.created_at);
                applied.push(Applied { limit: None, key: line.key.clone(), fresh });
            }
        }
        all_touched.push(Touched { resource, applied });
    }
    Ok(all_touched)
}

/// Adds the quantities to the hold, and to its counters.
fn add_quantities(
    books: &mut Books,
    extended: &mut Reservation,
    touched: &[Touched],
    amounts: &[Units],
) -> Result<(), Refusal> {
    let mut faults = Vec::new();
    for (place, (touched, units)) in touched.iter().zip(amounts).enumerate() {
        match extended.amounts.iter_mut().find(|amount| amount.resource == touched.resource) {
            Some(amount) => match amount.reserved.checked_add(units.quantity) {
                Some(reserved) => amount.reserved = reserved,
                None => faults.push(overflow(place)),
            },
            None => extended.amounts.push(ReservedAmount {
                resource: touched.resource,
                reserved: units.quantity,
                committed: 0,
            }),
        }
    }
    if !faults.is_empty() {
        return Err(Refusal::Invalid(faults));
    }
    for (touched, units) in touched.iter().zip(amounts) {
        for applied in touched.keys() {
            books.add(&applied.key, 0, units.quantity, applied.fresh);
            match extended.lines.iter_mut().find(|line| line.key == applied.key) {
                // A line never reserves more than its amount, which was checked for overflow.
                Some(line) => line.held = line.held.saturating_add(units.quantity),
                None => extended.lines.push(Line::new(applied.key.clone(), units.quantity)),
            }
        }
    }
    Ok(())
}

/// Returns the id under which an Extend without `request_id` is stored. A batch whose COMMIT has an unknown outcome
/// looks up this id to find out whether the Extend took effect. The id begins with a control character, so no client
/// can use it.
pub fn minted_request_id(id: ReservationId) -> String {
    let digits = id.0.iter().map(|byte| format!("{byte:02x}"));
    digits.fold(String::from("\u{1}"), |text, digit| text + &digit)
}
