//! Reads one reservation, or pages of a tenant's reservations, newest first.

use super::{
    super::ask::{Failure, Frame, TenantRef},
    CHUNK, Page, Reader, SCAN_ROWS_MAX, View, failed, refused,
};
use crate::{
    domain::{
        decide::not_found,
        id::ReservationId,
        operation::Target,
        reservation::{Reservation, ReservationState},
        time::{Span, Time},
    },
    store::StoreError,
};

/// Chooses reservations, and a page of them.
#[derive(Clone, Debug, Default)]
pub struct ReservationQuery {
    /// The id of the tenant.
    pub tenant: String,
    /// The states that pass. Empty: no state passes.
    pub states: Vec<ReservationState>,
    /// The agent whose reservations pass. `None`: every agent.
    pub agent: Option<String>,
    /// Minimum age of a reservation.
    pub min_age: Span,
    /// The last reservation that was read for the previous page. The page contains only older reservations.
    pub before: Option<ReservationId>,
    /// Maximum number of reservations on the page.
    pub limit: usize,
}

impl Reader {
    /// Returns the present state of one reservation.
    pub async fn get_reservation(
        &self,
        tenant: &TenantRef,
        target: &Target,
    ) -> Result<(Reservation, Frame), Failure> {
        let view = self.open("get_reservation", tenant, Some(target)).await?;
        let frame = view.frame();
        let found = view.find_reservation(target).await.map_err(failed)?;
        match found {
            Some(reservation) => Ok((shown(reservation, view.now), frame)),
            None => Err(refused(not_found(frame.tenant_key, target), &frame)),
        }
    }

    /// Returns a page of the reservations of a tenant, newest first.
    pub async fn list_reservations(
        &self,
        query: &ReservationQuery,
    ) -> Result<Page<Reservation, ReservationId>, Failure> {
        let view = self.open("list_reservations", &TenantRef::Id(query.tenant.clone()), None).await?;
        let mut page = Page { entries: Vec::new(), next: None, frame: view.frame() };
        let mut before = query.before.unwrap_or(ReservationId::MAX);
        let settled = query.states.iter().any(|state| *state != ReservationState::Reserved);
        let mut scanned = 0;
        loop {
            let (chunk, more) = view.reservations_before(before, settled).await.map_err(failed)?;
            scanned += chunk.len().max(1);
            for (id, reservation) in chunk {
                if page.entries.len() == query.limit {
                    page.next = Some(before);
                    return Ok(page);
                }
                before = id;
                let reservation = reservation.map(|reservation| shown(reservation, view.now));
                page.entries.extend(reservation.filter(|reservation| matches(query, reservation, view.now)));
            }
            if !more {
                return Ok(page);
            }
            if scanned >= SCAN_ROWS_MAX {
                page.next = Some(before);
                return Ok(page);
            }
        }
    }
}

impl View {
    async fn find_reservation(&self, target: &Target) -> Result<Option<Reservation>, StoreError> {
        let tenant = self.tenant.key;
        let id = match target {
            Target::Id(id) => Some(*id),
            Target::Request(request) => {
                let found = self.transaction.find_requests(&[(tenant, request)]).await?;
                found.into_iter().next().and_then(|(_, (_, request))| request.made())
            }
        };
        let Some(id) = id else {
            return Ok(None);
        };
        let mut found = self.transaction.find_holds(&[(tenant, id)]).await?;
        if found.is_empty() {
            found = self.transaction.find_settled(&[(tenant, id)]).await?;
        }
        Ok(found.into_iter().next().map(|(_, reservation)| reservation))
    }

    /// Lists reservations before an id, newest first, and returns whether there may be more. Rows of other tenants are
    /// `None`, and count as rows that were read.
    async fn reservations_before(
        &self,
        before: ReservationId,
        settled: bool,
    ) -> Result<(Vec<(ReservationId, Option<Reservation>)>, bool), StoreError> {
        let tenant = self.tenant.key;
        let holds = self.transaction.list_holds(tenant, before, CHUNK).await?;
        let mut all: Vec<_> = holds.into_iter().map(|hold| (hold.id, Some(hold))).collect();
        // If a chunk is full, rows below its last id were not read.
        let mut floor = (all.len() == CHUNK).then(|| all.last().map(|(id, _)| *id)).flatten();
        if settled {
            let rows = self.transaction.list_settled(tenant, before, CHUNK).await?;
            let end = (rows.len() == CHUNK).then(|| rows.last().map(|(id, _)| *id)).flatten();
            floor = floor.max(end);
            all.extend(rows);
        }
        all.retain(|(id, _)| floor.is_none_or(|floor| *id >= floor));
        all.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        Ok((all, floor.is_some()))
    }
}

/// Returns the reservation as clients see it: a due hold is EXPIRED, although its row says RESERVED.
fn shown(reservation: Reservation, now: Time) -> Reservation {
    if reservation.is_due(now) { reservation.into_expired() } else { reservation }
}

fn matches(query: &ReservationQuery, reservation: &Reservation, now: Time) -> bool {
    query.states.contains(&reservation.state)
        && query.agent.as_ref().is_none_or(|agent| *agent == reservation.subject.agent)
        && reservation.created_at.saturating_add(query.min_age) <= now
}
