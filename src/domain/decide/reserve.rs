//! Reserve: hold on all that applies, or on nothing.

use std::sync::Arc;

use super::{
    super::{
        books::{Books, Method, Request},
        id::ReservationId,
        operation::{Ask, Reserve},
        plan::Enforcement,
        refusal::{Refusal, Retry, Violation},
        reservation::{Line, Reservation, ReservationState, ReservedAmount},
        tenant::TenantState,
        window::{Millis, WINDOW_END_NONE},
    },
    Applied, Context, Reply, Stop, Touched, find_replay,
    touch::{balances, overflow, require, reservation_balances, touch},
};

pub(super) fn reserve(
    books: &mut Books,
    context: &mut Context<'_>,
    reserve: &Reserve,
    id: ReservationId,
    touched: Option<&[Touched]>,
) -> Result<Reply, Stop> {
    let replayed = find_replay(books, reserve.request.as_ref(), Method::Reserve)?.map(|r| r.reservation);
    if let Some(first) = books.find_reservation(replayed.unwrap_or(id)).cloned() {
        return replay(books, context, &first);
    }
    if books.tenant.state == TenantState::Suspended {
        return Err(Refusal::TenantSuspended(books.tenant.id.clone()).into());
    }
    let computed;
    let touched = match touched {
        Some(touched) => touched,
        None => {
            let names = reserve.amounts.iter().map(|ask| ask.resource.as_str());
            let (tenant, calendar) = (&books.tenant, &mut *context.calendar);
            computed = touch(
                (tenant, &books.plan),
                (context.policy, calendar),
                &reserve.subject,
                names,
                context.now,
            )
            .map_err(Refusal::Invalid)?;
            &computed
        }
    };
    require(books, touched.iter().flat_map(|t| t.applied.iter().map(|applied| &applied.key)))?;
    let granted = grants(books, touched, &reserve.amounts)?;

    let mut reservation = Reservation {
        id,
        subject: reserve.subject.clone(),
        state: ReservationState::Reserved,
        late: false,
        record: false,
        on_expiry: reserve.on_expiry,
        created_at: context.now,
        deadline: context.now.saturating_add(reserve.ttl),
        settled_at: 0,
        amounts: Vec::with_capacity(touched.len()),
        lines: Vec::with_capacity(touched.len() * 2),
        labels: reserve.labels.clone(),
        request_id: reserve.request.as_ref().map_or_else(String::new, |request| request.id.clone()),
        first: None,
    };
    for (touched, &quantity) in touched.iter().zip(&granted) {
        reservation.amounts.push(ReservedAmount {
            resource: touched.resource,
            reserved: quantity,
            committed: 0,
        });
        for applied in touched.keys() {
            books.add(&applied.key, 0, quantity, applied.fresh);
            reservation.lines.push(Line { key: applied.key.clone(), held: quantity, charged: 0 });
        }
    }
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
    Ok(Reply::Reservation { reservation, balances: balances(books, touched) })
}

fn replay(books: &Books, context: &mut Context<'_>, first: &Arc<Reservation>) -> Result<Reply, Stop> {
    require(books, first.lines.iter().map(|line| &line.key))?;
    let balances = reservation_balances(books, context.calendar, first);
    Ok(Reply::Reservation { reservation: Arc::new(first.as_first_answered()), balances })
}

/// What each amount would be granted, or why not.
pub(super) fn grants(books: &Books, touched: &[Touched], asks: &[Ask]) -> Result<Vec<i64>, Refusal> {
    let mut granted = Vec::with_capacity(asks.len());
    let mut violations = Vec::new();
    let mut faults = Vec::new();
    for (place, (touched, ask)) in touched.iter().zip(asks).enumerate() {
        let mut grant = ask.quantity;
        for applied in &touched.applied {
            let refused = violation(books, applied, ask);
            grant = grant.min(refused.as_ref().map_or_else(|| remaining(books, applied), |_| 0));
            violations.extend(refused);
        }
        let fits = touched.applied.iter().all(|applied| {
            let counter = books.find_counter(&applied.key).unwrap_or(applied.fresh);
            let used = counter.committed.checked_add(counter.reserved);
            used.and_then(|used| used.checked_add(grant)).is_some()
        });
        if !fits {
            faults.push(overflow(place));
        }
        granted.push(grant);
    }
    if !violations.is_empty() {
        Err(Refusal::QuotaExceeded(violations))
    } else if !faults.is_empty() {
        Err(Refusal::Invalid(faults))
    } else {
        Ok(granted)
    }
}

/// What a HARD limit leaves; without one, everything.
fn remaining(books: &Books, applied: &Applied) -> i64 {
    let hard = applied.limit.as_ref().is_some_and(|limit| limit.enforcement == Enforcement::Hard);
    let balance = hard.then(|| books.balance(&applied.key, applied.limit.as_ref(), applied.fresh));
    balance.and_then(|balance| balance.remaining()).unwrap_or(i64::MAX)
}

/// What a HARD limit has against the least that is of use, if anything, and when it is worth to ask again.
fn violation(books: &Books, applied: &Applied, ask: &Ask) -> Option<Violation> {
    let needed = ask.minimum;
    if remaining(books, applied) >= needed {
        return None;
    }
    let balance = books.balance(&applied.key, applied.limit.as_ref(), applied.fresh);
    let retry =
        retry(needed, balance.allowance().unwrap_or(0), balance.counter.committed, applied.fresh.window.end);
    Some(Violation { requested: ask.quantity, balance, retry })
}

fn retry(needed: i64, allowance: i64, committed: i64, window_end: Millis) -> Retry {
    if needed > allowance {
        Retry::Never
    } else if needed <= allowance.saturating_sub(committed) {
        Retry::WhenHoldEnds(window_end)
    } else if window_end == WINDOW_END_NONE {
        Retry::Never
    } else {
        Retry::At(window_end)
    }
}
