//! Decides operations: applies them to the books of their tenant at an instant.
//!
//! A refused operation changes only one thing: the count of refusals of the limits that refused it. If the books do not
//! know a counter that the operation needs, `decide` stops with [`Stop::Missing`]. The engine then loads the counter,
//! and decides again.

mod amend;
mod audited;
mod charge;
mod check;
mod extend;
mod record;
mod refused;
mod reply;
mod reserve;
mod reset;
mod settle;
mod stop;
mod touch;

use std::sync::Arc;

use self::touch::may_have_moved;
pub use self::{
    extend::minted_request_id,
    reply::{Checked, Held, Outcome, Reply, Verdict},
    reset::Choice,
    stop::{Context, Stop, not_found},
    touch::{Applied, Touched, touch_operation, undeclared},
};
use super::{
    books::{Books, FORGIVEN_REASON},
    calendar::Calendar,
    event::{Fact, Settlement},
    id::ReservationId,
    operation::Operation,
    refusal::{Fault, Refusal},
    reservation::{Reservation, ReservationState},
};

/// Decides one operation. `id` becomes the id of the reservation or the adjustments that the operation makes. `touched`
/// is the result of [`touch_operation`].
pub fn decide(
    books: &mut Books,
    context: &mut Context<'_>,
    operation: &Operation,
    id: ReservationId,
    touched: &Result<Vec<Touched>, Vec<Fault>>,
) -> Result<Reply, Stop> {
    if context.permit.who.is_some() {
        context.check_permit(books, operation.target())?;
    }
    let again = may_have_moved(touched)
        .then(|| touch_operation(books, context.policy, context.calendar, operation, context.now));
    let touched = again.as_ref().unwrap_or(touched).as_deref();
    let decided = match operation {
        Operation::Reserve(reserve) => {
            reserve::reserve(books, context, reserve, id, touched).map(Reply::Reserved)
        }
        Operation::Commit(commit) => settle::commit(books, context, commit).map(Reply::Committed),
        Operation::Release(target) => settle::release(books, context, target, id).map(Reply::Released),
        Operation::Extend(extend) => extend::extend(books, context, extend, id).map(Reply::Extended),
        Operation::Record(record) => record::record(books, context, record, id, touched),
        Operation::Amend(amend) => amend::amend(books, context, amend, id).map(Reply::Amended),
        Operation::Check(check) => check::check(books, context, check, touched).map(Reply::Checked),
        Operation::Reset(reset) => reset::reset(books, context, reset, id),
    };
    if let (Err(Stop::Refused(Refusal::QuotaExceeded(violations))), false) =
        (&decided, matches!(operation, Operation::Check(_)))
    {
        let counted = refused::counted(books, violations)?;
        books.note_refusals(counted);
    }
    decided
}

/// Expires a hold whose deadline has come. The counters of the hold must be in the books.
pub fn expire(books: &mut Books, calendar: &mut Calendar, id: ReservationId) {
    let Some(reservation) = books.find_reservation(id).filter(|r| r.state == ReservationState::Reserved)
    else {
        return;
    };
    let due = Arc::clone(reservation);
    books.take_due(&due);
    let mut ended = Reservation::clone(&due).into_expired();
    for line in &mut ended.lines {
        let fresh = touch::counter_of_line(books, calendar, &line.key, ended.created_at);
        line.note_forgiven(&fresh, ended.settled_at);
        let charged = line.charged - line.forgiven;
        books.add(&line.key, charged, -line.held, fresh);
        books.correct(&line.key, charged - line.charged, FORGIVEN_REASON);
    }
    let ended = books.update_reservation(ended);
    let figures = touch::reservation_figures(books, calendar, &ended);
    books.note(Fact::Expired(Settlement { reservation: ended, figures }));
}
