//! Notes the corrections of operations for the audit. Other operations have no author, and nothing is noted.

use super::{
    super::{
        audit::{self, Corrected, Correction, Figures, Note},
        books::Books,
        id::{ReservationId, ReservationName},
        plan::Policy,
        reservation::Reservation,
    },
    stop::Context,
};

/// Notes that a reservation was released or amended.
pub(super) fn reservation(
    books: &mut Books,
    context: &Context<'_>,
    id: ReservationId,
    (before, after): (&Reservation, &Reservation),
    note: Option<Note>,
) {
    let Some(author) = context.author else { return };
    let name = ReservationName { tenant: books.tenant.key, id: after.id }.to_string();
    let (before, after) = (figures(before, context.policy), figures(after, context.policy));
    let corrected = Corrected::Reservation { name, before, after, note };
    let tenant = books.tenant.id.clone();
    books.audit(Correction { id, author: author.clone(), tenant, corrected });
}

/// Notes that counters were set to zero. `count`: the number of all of them.
pub(super) fn usage(
    books: &mut Books,
    context: &Context<'_>,
    id: ReservationId,
    counters: Vec<audit::ResetCounter>,
    count: usize,
    note: Note,
) {
    let Some(author) = context.author.filter(|_| count > 0) else { return };
    let corrected = Corrected::Usage { counters, count, note };
    let tenant = books.tenant.id.clone();
    books.audit(Correction { id, author: author.clone(), tenant, corrected });
}

fn figures(reservation: &Reservation, policy: &Policy) -> Figures {
    let amounts = reservation.amounts.iter();
    let mut amounts: Vec<_> = amounts
        .map(|amount| (policy.resource_id(amount.resource).to_owned(), amount.reserved, amount.committed))
        .collect();
    amounts.sort_unstable();
    Figures { state: reservation.state, amounts }
}
