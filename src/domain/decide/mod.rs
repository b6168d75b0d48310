//! Decides an operation: what it does to the books of its tenant at an instant.
//!
//! A refused operation changes nothing, apart from the count of refusals of the limits that refused it. If the books
//! do not know a counter that the operation needs, `decide` stops with [`Stop::Missing`]. The engine then loads the
//! counter, and decides again.

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

/// What a decision depends on, apart from the books and the operation.
#[derive(Debug)]
pub struct Context<'a> {
    /// The resources and plans at the revision of the batch.
    pub policy: &'a Policy,
    /// Computes windows, and remembers the running windows.
    pub calendar: &'a mut Calendar,
    /// The time of the batch.
    pub now: Millis,
}

/// The counters of an operation, or its fields at fault. Faults are reported only if nothing comes before them, such
/// as a replay.
type TouchedOrFaults<'a> = Result<&'a [Touched], &'a Vec<Fault>>;

/// The reason why there is no reply.
#[derive(Debug)]
pub enum Stop {
    /// The operation is refused.
    Refused(Refusal),
    /// These counters must be loaded first.
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

/// What one limit decides about a Check.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Units that the Check asks of the limit.
    pub requested: i64,
    /// Whether the quantity fits.
    pub outcome: Outcome,
    /// The balance of the limit.
    pub balance: Balance,
}

/// Whether a quantity fits what a limit has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The quantity fits in full.
    Pass,
    /// The quantity fits in part, at least `minimum`.
    Partial,
    /// The quantity does not fit, and the limit is HARD.
    Refuse,
    /// The quantity does not fit. The limit is SOFT or OBSERVE and lets it pass.
    Exceed,
}

/// A reservation, and the balances of its counters.
#[derive(Clone, Debug)]
pub struct Held {
    /// The reservation as it is now. For a retry: as it was in the first reply.
    pub reservation: Arc<Reservation>,
    /// The balances of the reservation's counters, as they are now.
    pub balances: Vec<Balance>,
}

/// The result of a Check.
#[derive(Clone, Debug)]
pub struct Checked {
    /// One verdict per amount and limit that applies.
    pub verdicts: Vec<Verdict>,
    /// What would be granted. Empty: the Reserve would be refused.
    pub granted: Vec<(ResourceKey, i64)>,
    /// The violations of the HARD limits that would refuse.
    pub violations: Vec<Violation>,
    /// Whether the tenant is suspended.
    pub suspended: bool,
}

/// The result of an operation that was not refused.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The reply to Reserve.
    Reserved(Held),
    /// The reply to Commit.
    Committed(Held),
    /// The reply to Release.
    Released(Held),
    /// The reply to Extend.
    Extended(Held),
    /// The reply to Record.
    Recorded {
        /// The reservation that was born COMMITTED.
        held: Held,
        /// The quantity that was added to each balance's counter.
        applied: Vec<i64>,
    },
    /// The reply to Check.
    Checked(Checked),
    /// The reply to ResetUsage.
    Reset {
        /// The balances of the counters that were reset.
        balances: Vec<Balance>,
        /// The quantity that was added to each balance's counter.
        adjusted: Vec<i64>,
    },
}

/// Decides one operation. `id` becomes the id of the reservation or the adjustments that it makes. `touched` is the
/// result of [`touch_operation`].
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

/// Expires a hold whose deadline has come. Its counters must be in the books.
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

/// The id under which an Extend without `request_id` is stored. By it, a batch with an unknown COMMIT finds out
/// whether the Extend took effect. It begins with a control character, so no client can use it.
pub fn minted_request_id(id: ReservationId) -> String {
    let digits = id.0.iter().map(|byte| format!("{byte:02x}"));
    digits.fold(String::from("\u{1}"), |text, digit| text + &digit)
}

/// The reservation that an operation names.
fn get_target(books: &Books, target: &Target) -> Result<Arc<Reservation>, Refusal> {
    let id = match target {
        Target::Id(id) => Some(*id),
        Target::Request(request) => books.find_request(request).and_then(Request::made),
    };
    id.and_then(|id| books.find_reservation(id)).cloned().ok_or_else(|| not_found(target))
}

/// The refusal for an unknown reservation. The text that the client gave is not known here; the caller enters it.
pub fn not_found(target: &Target) -> Refusal {
    match target {
        Target::Id(_) => Refusal::ReservationNotFound(String::new()),
        Target::Request(request) => Refusal::RequestNotFound(request.clone()),
    }
}

/// The earlier request with this `request_id`, if there was one. Another payload is refused.
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
