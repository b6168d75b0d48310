//! Reserve: reserves units of all limits that apply, or of none (I5).

use std::sync::Arc;

use super::{
    super::{
        books::{Books, Method, Request},
        id::ReservationId,
        operation::Reserve,
        plan::Enforcement,
        refusal::{Refusal, Retry, Violation},
        reservation::{Line, Reservation, ReservationState, ReservedAmount},
        tenant::TenantState,
    },
    reply::Held,
    stop::{Context, Stop, find_replay},
    touch::{
        Applied, Touched, TouchedOrFaults, balances, overflow, refusal_of_new_counters, require,
        reservation_balances,
    },
};

pub(super) fn reserve(
    books: &mut Books,
    context: &mut Context<'_>,
    reserve: &Reserve,
    id: ReservationId,
    touched: TouchedOrFaults<'_>,
) -> Result<Held, Stop> {
    let replayed = find_replay(books, reserve.request.as_ref(), Method::Reserve)?.map(|r| r.reservation);
    if let Some(first) = books.find_reservation(replayed.unwrap_or(id)).cloned() {
        return replay(books, context, &first);
    }
    if books.tenant.state == TenantState::Suspended {
        return Err(Refusal::TenantSuspended(books.tenant.id.to_string()).into());
    }
    refuse_suspended(books, &reserve.subject.agent)?;
    let touched = touched?;
    require(books, touched.iter().flat_map(|t| t.applied.iter().map(|applied| &applied.key)))?;
    // Before the limits, because a refusal by a limit is counted, and so makes counters, too.
    if let Some(refusal) = refusal_of_new_counters(books, context, touched)? {
        return Err(refusal.into());
    }
    let asked = reserve.amounts.iter().map(|ask| (ask.quantity, ask.minimum));
    let Grants { granted, observed } = grants(books, &reserve.subject.agent, touched, asked)?;

    let mut reservation = Reservation {
        id,
        subject: reserve.subject.clone(),
        state: ReservationState::Reserved,
        late: false,
        record: false,
        on_expiry: reserve.on_expiry,
        created_at: context.now,
        occurred_at: None,
        deadline: context.now.saturating_add(reserve.ttl),
        settled_at: None,
        amounts: Vec::with_capacity(touched.len()),
        lines: Vec::with_capacity(touched.len() * 2),
        request_id: reserve.request.as_ref().map_or_else(String::new, |request| request.id.clone()),
        first: None,
        served: None,
        amended: None,
    };
    for (touched, &quantity) in touched.iter().zip(&granted) {
        reservation.amounts.push(ReservedAmount {
            resource: touched.resource,
            reserved: quantity,
            committed: 0,
        });
        for applied in touched.keys() {
            books.add(&applied.key, 0, quantity, applied.fresh);
            reservation.lines.push(Line::new(applied.key.clone(), quantity));
        }
    }
    books.note_refusals(&observed);
    if let Some(request) = &reserve.request {
        let made = Request {
            fingerprint: request.fingerprint,
            method: Method::Reserve,
            reservation: id,
            answer: None,
        };
        books.insert_request(request.id.clone(), made);
    }
    let reservation = books.insert_reservation(reservation);
    Ok(Held { reservation, balances: balances(books, touched) })
}

fn replay(books: &Books, context: &mut Context<'_>, first: &Arc<Reservation>) -> Result<Held, Stop> {
    require(books, first.lines.iter().map(|line| &line.key))?;
    let balances = reservation_balances(books, context.calendar, first);
    Ok(Held { reservation: Arc::new(first.as_first_answered()), balances })
}

/// The quantities that a Reserve, Check or Extend is granted.
pub(super) struct Grants {
    /// The granted quantity of each amount.
    pub(super) granted: Vec<i64>,
    /// The violations of OBSERVE limits, which would have refused the operation if they were HARD.
    pub(super) observed: Vec<Violation>,
}

/// Refuses new holds of an agent that is suspended.
pub(super) fn refuse_suspended(books: &Books, agent: &str) -> Result<(), Refusal> {
    if books.terms.is_suspended(agent) {
        let (tenant, agent) = (books.tenant.id.to_string(), agent.to_owned());
        return Err(Refusal::AgentSuspended { tenant, agent });
    }
    Ok(())
}

/// Returns what each amount is granted to the agent, or the refusal. `asked` gives the quantity and the minimum of each
/// amount.
pub(super) fn grants(
    books: &Books,
    agent: &str,
    touched: &[Touched],
    asked: impl Iterator<Item = (i64, i64)>,
) -> Result<Grants, Refusal> {
    let mut granted = Vec::with_capacity(touched.len());
    let (mut violations, mut observed) = (Vec::new(), Vec::new());
    let mut faults = Vec::new();
    for (place, (touched, (quantity, minimum))) in touched.iter().zip(asked).enumerate() {
        // A quantity of 0 needs nothing, so every limit grants it, even a limit that is exceeded (R4.40).
        if quantity == 0 {
            granted.push(0);
            continue;
        }
        if let Some(meter) = touched.refused_meter(&books.terms, agent) {
            violations.push(violation(books, meter, quantity, minimum));
        }
        let mut grant = quantity;
        let mut used_most = Some(0);
        for applied in &touched.applied {
            let counter = books.find_counter(&applied.key).unwrap_or(applied.fresh);
            let used = counter.committed.checked_add(counter.reserved);
            used_most = used_most.and_then(|most: i64| used.map(|used| used.max(most)));
            let Some(limit) = &applied.limit else { continue };
            let allowance = books.allowance(&applied.key, limit);
            let remaining = allowance.saturating_sub(used.unwrap_or(i64::MAX));
            let refused = match limit.enforcement {
                Enforcement::Hard => &mut violations,
                Enforcement::Observe => &mut observed,
                Enforcement::Soft => continue,
            };
            if limit.enforcement == Enforcement::Hard {
                grant = grant.min(remaining);
            }
            if remaining < minimum {
                let mut violation = violation(books, applied, quantity, minimum);
                // Nobody waits for a limit that refuses nothing.
                if limit.enforcement == Enforcement::Hard {
                    violation.later = books.terms.later(limit, &applied.key, books.now);
                    if limit.carry.is_some() {
                        violation.calendars.clone_from(&books.tenant.calendars);
                    }
                }
                refused.push(violation);
            }
        }
        if used_most.and_then(|used| used.checked_add(grant)).is_none() {
            faults.push(overflow(place));
        }
        granted.push(grant);
    }
    if !violations.is_empty() {
        Err(Refusal::QuotaExceeded(violations))
    } else if !faults.is_empty() {
        Err(Refusal::Invalid(faults))
    } else {
        Ok(Grants { granted, observed })
    }
}

fn violation(books: &Books, applied: &Applied, requested: i64, needed: i64) -> Violation {
    let balance = books.balance(&applied.key, applied.limit.as_ref(), applied.fresh);
    let (later, calendars) = (Vec::new(), Vec::new());
    Violation { requested, needed, balance, later, calendars, extends: None, retry: Retry::Never }
}
