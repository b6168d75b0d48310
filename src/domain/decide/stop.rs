//! The parts that all decisions share: the context, and the reasons to stop without a reply.

use std::sync::Arc;

use super::super::{
    access::{Forbidden, Permit},
    audit::Author,
    books::{Books, Method, Request},
    calendar::Calendar,
    counter::CounterKey,
    id::{ReservationName, TenantKey},
    operation::{RequestKey, Target},
    plan::Policy,
    refusal::{Fault, Refusal},
    reservation::Reservation,
    time::Time,
};

/// The input of a decision, in addition to the books and the operation.
#[derive(Debug)]
pub struct Context<'a> {
    /// The resources and plans at the revision of the batch.
    pub policy: &'a Policy,
    /// Computes windows, and remembers the running windows.
    pub calendar: &'a mut Calendar,
    /// The time of the batch.
    pub now: Time,
    /// Number of counters of one tenant beyond which Reserve and Extend make no counters of new subjects.
    pub counters_max: i64,
    /// What the caller may name.
    pub permit: &'a Permit,
    /// Who makes the correction, if the operation is one that the audit has to show.
    pub author: Option<&'a Author>,
}

impl Context<'_> {
    /// Refuses an operation on a tenant, or on a reservation of an agent, that the caller may not name. The refusal is
    /// the same whether the reservation exists or not.
    pub(super) fn check_permit(&self, books: &Books, target: Option<&Target>) -> Result<(), Refusal> {
        self.permit.check(&books.tenant.id, None)?;
        match target {
            Some(target) if self.permit.has_agents() => {
                let found = get_target(books, target).map_err(|_| Refusal::NotPermitted(Forbidden::Agent))?;
                Ok(self.permit.check(&books.tenant.id, Some(&found.subject.agent))?)
            }
            Some(_) | None => Ok(()),
        }
    }
}

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

/// Returns the reservation that an operation names.
pub(super) fn get_target(books: &Books, target: &Target) -> Result<Arc<Reservation>, Refusal> {
    let id = match target {
        Target::Id(id) => Some(*id),
        Target::Request(request) => books.find_request(request).and_then(Request::made),
    };
    let found = id.and_then(|id| books.find_reservation(id)).cloned();
    found.ok_or_else(|| not_found(books.tenant.key, target))
}

/// Makes the refusal for an unknown reservation of this tenant.
pub fn not_found(tenant: TenantKey, target: &Target) -> Refusal {
    match target {
        Target::Id(id) => Refusal::ReservationNotFound(ReservationName { tenant, id: *id }),
        Target::Request(request) => Refusal::RequestNotFound(request.clone()),
    }
}

/// Finds the earlier request with this `request_id`, if there was one. Refused if the earlier request had another
/// payload.
pub(super) fn find_replay<'a>(
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
