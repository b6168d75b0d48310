//! Amend: replaces what a Commit or Record charged with absolute figures, on the record (R4.44).

use super::{
    super::{
        amendment::{AmendedAmount, Amendment},
        audit::Note,
        books::Books,
        id::ReservationId,
        operation::Amend,
        refusal::Refusal,
        reservation::{OnExpiry, Reservation, ReservationState},
    },
    audited,
    charge::{answer, any_over, apply, join_unreserved, note_late, set_charges},
    reply::Held,
    stop::{Context, Stop, get_target},
    touch::{require, resolve_held},
};

pub(super) fn amend(
    books: &mut Books,
    context: &mut Context<'_>,
    amend: &Amend,
    id: ReservationId,
) -> Result<Held, Stop> {
    let found = get_target(books, &amend.target)?;
    let resources = resolve_held(context.policy, &found, &amend.amounts)?;
    match found.state {
        ReservationState::Committed => {}
        ReservationState::Expired if found.on_expiry == OnExpiry::Charge => {}
        state => return Err(Refusal::ReservationNotCharged(state).into()),
    }
    let given = resources.into_iter().zip(amend.amounts.iter().map(|units| units.quantity));
    let changes: Vec<AmendedAmount> = given
        .map(|(resource, after)| AmendedAmount { resource, before: found.committed_of(resource), after })
        .filter(|change| change.before != change.after)
        .collect();
    if changes.is_empty() {
        // The figures are absolute, so a repeat finds them as they should be.
        return answer(books, context, found);
    }
    let mut amended = Reservation::clone(&found);
    if amended.first.is_none() && found.state == ReservationState::Expired {
        // Afterwards, the amounts do not show which resources were reserved.
        amended.first = Some(found.answer());
    }
    join_unreserved(books, context, &mut amended, changes.iter().map(|change| change.resource));
    require(books, amended.lines.iter().map(|line| &line.key))?;
    let charges: Vec<_> = changes.iter().map(|change| (change.resource, change.after)).collect();
    let steps = set_charges(books, context, &found, &mut amended, &charges, &amend.amounts)?;
    let amendment = Amendment {
        at: context.now,
        operator: amend.operator.clone(),
        reason: amend.reason.clone(),
        changes,
    };
    amended.note_amendment(&found, amendment.clone());
    apply(books, &steps);
    let amended = books.update_reservation(amended);
    let note = Note { reason: amend.reason.clone(), operator: amend.operator.clone() };
    audited::reservation(books, context, id, (&found, &amended), Some(note));
    if any_over(&steps, context.now) {
        note_late(books, context, &amended, Some(&amendment));
    }
    answer(books, context, amended)
}
