//! Commit and Release: settle a reservation, before its deadline or after it.

use std::sync::Arc;

use super::{
    super::{
        books::Books,
        id::{ReservationId, ResourceKey},
        operation::{Commit, Target},
        refusal::Refusal,
        reservation::{Reservation, ReservationState},
        shape::PerDimension,
    },
    audited,
    charge::{Step, answer, any_charged, apply, join_unreserved, move_to, note_late, set_charges, step},
    reply::Held,
    stop::{Context, Stop, get_target},
    touch::{require, resolve_held},
};

pub(super) fn commit(books: &mut Books, context: &mut Context<'_>, commit: &Commit) -> Result<Held, Stop> {
    let found = get_target(books, &commit.target)?;
    let resources = resolve_held(context.policy, &found, &commit.amounts)?;
    let used: Vec<(ResourceKey, i64)> =
        resources.into_iter().zip(commit.amounts.iter().map(|units| units.quantity)).collect();
    match found.state {
        ReservationState::Released => return Err(Refusal::ReservationSettled(found.state).into()),
        ReservationState::Committed => {
            // An Amend may have changed the figures since, but a repeat of the Commit is still the same Commit.
            let first = found.as_first_charged();
            let same =
                charges(&first, &used) == committed(&first) && first.served == served_by(&found, commit);
            return if same {
                answer(books, context, Arc::new(first))
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
    let charges = charges(&found, &used);
    settled.served = served_by(&found, commit);
    if settled.served.is_some() {
        let subject = settled.charged_subject();
        charges.iter().for_each(|&(resource, _)| move_to(books, context, &mut settled, &subject, resource));
    } else {
        join_unreserved(books, context, &mut settled, used.iter().map(|(resource, _)| *resource));
    }
    require(books, settled.lines.iter().map(|line| &line.key))?;
    let steps = set_charges(books, context, &found, &mut settled, &charges, &commit.amounts)?;
    if let Some(amended) = &mut settled.amended {
        // The Commit replaces the corrected figures, so its own figures are the first ones.
        amended.first = None;
    }
    settled.late = found.state == ReservationState::Expired;
    settled.state = ReservationState::Committed;
    settled.settled_at = Some(context.now);
    enter(books, context, settled.late, settled, steps)
}

pub(super) fn release(
    books: &mut Books,
    context: &mut Context<'_>,
    target: &Target,
    id: ReservationId,
) -> Result<Held, Stop> {
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
    audited::reservation(books, context, id, (&found, &settled), None);
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
    let corrected = any_charged(&steps);
    apply(books, &steps);
    let settled = books.update_reservation(settled);
    // A late Release reverses the charge at the deadline. Without a charge it changes nothing.
    if settled.late || (late && corrected) {
        note_late(books, context, &settled, None);
    }
    answer(books, context, settled)
}

/// Returns the agent, user and model that the Commit charges. `None`: those of the hold.
fn served_by(found: &Reservation, commit: &Commit) -> Option<Box<PerDimension<String>>> {
    let own = found.subject.values();
    let mut served = own;
    for (dimension, given) in commit.served.iter() {
        served[dimension] = given.as_deref().unwrap_or(own[dimension]);
    }
    (served != own).then(|| Box::new(served.map(str::to_owned)))
}

/// Returns the quantity that is charged per resource. A reserved resource that the Commit leaves out is charged as
/// reserved (R4.16). An amount without reserved and committed units is charged with 0, whether it was reserved or not.
/// So is an amount that an Amend added to a reservation that is still EXPIRED: the Commit replaces its charge.
fn charges(found: &Reservation, used: &[(ResourceKey, i64)]) -> Vec<(ResourceKey, i64)> {
    let left_out = found
        .amounts
        .iter()
        .filter(|amount| {
            amount.reserved > 0 || amount.committed == 0 || found.state == ReservationState::Expired
        })
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
