//! Record: charges usage in one step, without a hold. No limit refuses a Record (R4.17).

use std::sync::Arc;

use super::{
    super::{
        books::{Books, Method, Request},
        counter::Counter,
        id::ReservationId,
        operation::Record,
        refusal::Refusal,
        reservation::{Line, OnExpiry, Reservation, ReservationState, ReservedAmount},
    },
    charge::{is_over, note_late},
    reply::{Held, Reply},
    stop::{Context, Stop, find_replay},
    touch::{Touched, TouchedOrFaults, overflow, require, reservation_balances},
};

pub(super) fn record(
    books: &mut Books,
    context: &mut Context<'_>,
    record: &Record,
    id: ReservationId,
    touched: TouchedOrFaults<'_>,
) -> Result<Reply, Stop> {
    let replayed = find_replay(books, record.request.as_ref(), Method::Record)?.map(|r| r.reservation);
    if let Some(first) = books.find_reservation(replayed.unwrap_or(id)).cloned() {
        require(books, first.lines.iter().map(|line| &line.key))?;
        return Ok(answer(books, context, Arc::new(first.as_first_charged())));
    }
    if let Some(fault) = record.occurred_fault(context.now) {
        let faults = [touched.err().cloned().unwrap_or_default(), vec![fault]].concat();
        return Err(Refusal::Invalid(faults).into());
    }
    let touched = touched?;
    require(books, touched.iter().flat_map(|t| t.applied.iter().map(|applied| &applied.key)))?;
    let lines = lines(books, touched, record)?;
    for (line, fresh) in &lines {
        books.add(&line.key, line.charged, 0, *fresh);
    }
    let reopens =
        lines.iter().any(|(line, fresh)| line.charged != 0 && is_over(&line.key, fresh, context.now));
    let amounts = touched.iter().zip(&record.amounts);
    let reservation = books.insert_reservation(Reservation {
        id,
        subject: record.subject.clone(),
        state: ReservationState::Committed,
        late: false,
        record: true,
        on_expiry: OnExpiry::Release,
        created_at: context.now,
        occurred_at: record.occurred_at,
        deadline: context.now,
        settled_at: Some(context.now),
        amounts: amounts
            .map(|(t, units)| ReservedAmount { resource: t.resource, reserved: 0, committed: units.quantity })
            .collect(),
        lines: lines.into_iter().map(|(line, _)| line).collect(),
        request_id: record.request.as_ref().map_or_else(String::new, |request| request.id.clone()),
        first: None,
        served: None,
        amended: None,
    });
    if let Some(request) = &record.request {
        let made = Request {
            fingerprint: request.fingerprint,
            method: Method::Record,
            reservation: id,
            answer: None,
        };
        books.insert_request(request.id.clone(), made);
    }
    if reopens {
        note_late(books, context, &reservation, None);
    }
    Ok(answer(books, context, reservation))
}

/// Returns the lines that charge each counter: the quantity, or less if a negative quantity would take the counter
/// below zero.
fn lines(books: &Books, touched: &[Touched], record: &Record) -> Result<Vec<(Line, Counter)>, Refusal> {
    let mut lines = Vec::with_capacity(touched.len() * 2);
    let mut faults = Vec::new();
    for (place, (touched, units)) in touched.iter().zip(&record.amounts).enumerate() {
        for applied in touched.keys() {
            let counter = books.find_counter(&applied.key).unwrap_or(applied.fresh);
            let charged = units.quantity.max(counter.committed.saturating_neg().min(0));
            let used = counter.committed.checked_add(counter.reserved);
            if used.and_then(|used| used.checked_add(charged)).is_none() && charged > 0 {
                faults.push(overflow(place));
                break;
            }
            let seen = counter.forgiven_until;
            lines.push((Line { charged, seen, ..Line::new(applied.key.clone(), 0) }, applied.fresh));
        }
    }
    if faults.is_empty() { Ok(lines) } else { Err(Refusal::Invalid(faults)) }
}

fn answer(books: &Books, context: &mut Context<'_>, reservation: Arc<Reservation>) -> Reply {
    let balances = reservation_balances(books, context.calendar, &reservation);
    let charged = |key| reservation.lines.iter().find(|line| &line.key == key).map_or(0, |line| line.charged);
    let applied = balances.iter().map(|balance| charged(&balance.key)).collect();
    Reply::Recorded { held: Held { reservation, balances }, applied }
}
