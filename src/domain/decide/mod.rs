//! The one yes or no: what an operation does to the books of a tenant at an instant.
//!
//! An operation that is refused changes nothing, but is counted where a limit refused it. An operation whose counters were not all looked for is
//! stopped with their keys, to be decided again once they are in the books.

mod check;
mod extend;
mod record;
mod reserve;
mod reset;
mod settle;
mod touch;

use std::sync::Arc;

pub use self::reset::Choice;
pub use self::touch::{Applied, Touched, touch_operation, undeclared};
use super::{
    books::{Books, FORGIVEN_REASON, Method, Request},
    calendar::Calendar,
    counter::{Balance, CounterKey},
    event::{Fact, Settlement},
    id::{ReservationId, ResourceKey},
    operation::{Operation, RequestKey, Target},
    plan::Policy,
    refusal::{Fault, Refusal, Violation},
    reservation::{Reservation, ReservationState},
    window::Millis,
};

/// What a decision depends on, beside the books and the operation.
#[derive(Debug)]
pub struct Context<'a> {
    /// Resources and plans.
    pub policy: &'a Policy,
    /// Windows.
    pub calendar: &'a mut Calendar,
    /// The instant of the decision.
    pub now: Millis,
}

/// What an operation is about, or its fields at fault, which are told only when nothing comes before them.
type TouchedOrFaults<'a> = Result<&'a [Touched], &'a Vec<Fault>>;

/// Why there is no reply.
#[derive(Debug)]
pub enum Stop {
    /// A no.
    Refused(Refusal),
    /// These counters have to be looked for first.
    Missing(Vec<CounterKey>),
}

impl From<&Vec<Fault>> for Stop {
    fn from(faults: &Vec<Fault>) -> Self {
        Stop::Refused(Refusal::Invalid(faults.clone()))
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

/// What one limit says to a Check.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Units asked of it.
    pub requested: i64,
    /// What it says.
    pub outcome: Outcome,
    /// What it has.
    pub balance: Balance,
}

/// What a limit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It fits.
    Pass,
    /// It fits in part, which was allowed.
    Partial,
    /// It does not fit, and the limit is HARD.
    Refuse,
    /// It does not fit, and passes.
    Exceed,
}

/// A reservation, and the balances that the operation touched.
#[derive(Clone, Debug)]
pub struct Held {
    /// The reservation as it is now, or as it was first answered.
    pub reservation: Arc<Reservation>,
    /// The balances of its counters, as they are now.
    pub balances: Vec<Balance>,
}

/// What a Reserve would hear.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The verdict of every limit that applies.
    pub verdicts: Vec<Verdict>,
    /// What would be granted; empty when it is refused.
    pub granted: Vec<(ResourceKey, i64)>,
    /// What the limits would refuse.
    pub violations: Vec<Violation>,
    /// Whether the tenant is suspended.
    pub suspended: bool,
}

/// A yes, and what it did: one variant per operation.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To Reserve.
    Reserved(Held),
    /// To Commit.
    Committed(Held),
    /// To Release.
    Released(Held),
    /// To Extend.
    Extended(Held),
    /// To Record.
    Recorded {
        /// The reservation that was born COMMITTED.
        held: Held,
        /// What was added to the counter of each balance.
        applied: Vec<i64>,
    },
    /// To Check.
    Checked(Checked),
    /// To ResetUsage.
    Reset {
        /// The counters that were changed.
        balances: Vec<Balance>,
        /// What was added to the committed of each.
        adjusted: Vec<i64>,
    },
}

/// Decides one operation. `id` is that of the reservation or the adjustments which it may make; `touched` is what
/// [`touch_operation`] says of it.
pub fn decide(
    books: &mut Books,
    context: &mut Context<'_>,
    operation: &Operation,
    id: ReservationId,
    touched: &Result<Vec<Touched>, Vec<Fault>>,
) -> Result<Reply, Stop> {
    let touched = touched.as_deref();
    let decided = match operation {
        Operation::Reserve(reserve) => {
            reserve::reserve(books, context, reserve, id, touched).map(Reply::Reserved)
        }
        Operation::Commit(commit) => settle::commit(books, context, commit).map(Reply::Committed),
        Operation::Release(target) => settle::release(books, context, target).map(Reply::Released),
        Operation::Extend(extend) => extend::extend(books, context, extend, id).map(Reply::Extended),
        Operation::Record(record) => record::record(books, context, record, id, touched),
        Operation::Check(check) => check::check(books, check, touched).map(Reply::Checked),
        Operation::Reset(reset) => reset::reset(books, context, reset, id),
    };
    if let (Err(Stop::Refused(Refusal::QuotaExceeded(violations))), false) =
        (&decided, matches!(operation, Operation::Check(_)))
    {
        books.note_refusals(violations);
    }
    decided
}

/// Ends a hold whose deadline has come. Its counters must be in the books.
pub fn expire(books: &mut Books, calendar: &mut Calendar, id: ReservationId) {
    let Some(reservation) = books.find_reservation(id).filter(|r| r.state == ReservationState::Reserved)
    else {
        return;
    };
    let due = Arc::clone(reservation);
    books.take_due(&due);
    let ended = Reservation::clone(&due).into_expired();
    for line in &ended.lines {
        let fresh = touch::fresh_of_line(books, calendar, &line.key, ended.created_at);
        let charged = if books.is_forgiven(&line.key, ended.deadline) { 0 } else { line.charged };
        books.add(&line.key, charged, -line.held, fresh);
        books.correct(&line.key, charged - line.charged, FORGIVEN_REASON);
    }
    let ended = books.update_reservation(ended);
    let figures = touch::reservation_figures(books, calendar, &ended);
    books.note(Fact::Expired(Settlement { reservation: ended, figures }));
}

/// Under which id an Extend without request_id is remembered, so that the batch that made it can tell whether it
/// took effect. No client can use it: ids have no control characters.
pub fn minted_request_id(id: ReservationId) -> String {
    let digits = id.0.iter().map(|byte| format!("{byte:02x}"));
    digits.fold(String::from("\u{1}"), |text, digit| text + &digit)
}

/// The reservation that an operation is about.
fn get_target(books: &Books, target: &Target) -> Result<Arc<Reservation>, Refusal> {
    let id = match target {
        Target::Id(id) => Some(*id),
        Target::Request(request) => books.find_request(request).and_then(Request::made),
    };
    id.and_then(|id| books.find_reservation(id)).cloned().ok_or_else(|| not_found(target))
}

/// The client's name for a reservation is not known here: whoever has it puts it in.
pub fn not_found(target: &Target) -> Refusal {
    match target {
        Target::Id(_) => Refusal::ReservationNotFound(String::new()),
        Target::Request(request) => Refusal::RequestNotFound(request.clone()),
    }
}

/// The request that this one repeats, if any.
fn find_replay<'a>(
    books: &'a Books,
    request: Option<&RequestKey>,
    method: Method,
) -> Result<Option<&'a Request>, Refusal> {
    let Some(key) = request else {
        return Ok(None);
    };
    match books.find_request(&key.id) {
        Some(found) if found.fingerprint == key.fingerprint && found.method == method => Ok(Some(found)),
        Some(_) => Err(Refusal::RequestIdReused(key.id.clone())),
        None => Ok(None),
    }
}
