//! ListChanges: its request, and the messages of changes.

use data_encoding::HEXLOWER;
use tonic::{Response, Status};

use super::parts::{Admin, of_error, of_refusal};
use crate::{
    domain::{
        access::Permit,
        audit::{Change, ChangeId, ThingKind},
        faults::Faults,
        id::{optional_name_fault, text_fault},
        refusal::Refusal,
        time::Time,
    },
    grpc::{
        faults::instant,
        token::{self, Token},
        v1,
        wire::timestamp,
    },
    store::ChangeQuery,
};

/// Maximum length of the id of a thing and of the name of a caller, in bytes.
const TEXT_MAX_BYTES: usize = 1_024;

impl Admin {
    pub(super) async fn page_of_changes(
        &self,
        request: v1::ListChangesRequest,
        permit: &Permit,
    ) -> Result<Response<v1::ListChangesResponse>, Status> {
        let (mut query, list) = change_query(request).map_err(of_refusal)?;
        let transaction = self.read("list changes").await?;
        if permit.has_tenants() {
            // An earlier tenant with the same id may have been somebody else's.
            let found = transaction.find_tenant(query.tenant.as_deref(), None).await;
            let Some(found) = found.map_err(|error| of_error(error.into()))? else {
                return Ok(Response::new(v1::ListChangesResponse::default()));
            };
            query.from = query.from.max(ChangeId::first_at(found.created_at));
        }
        let page = transaction.list_changes(&query).await;
        let mut page = page.map_err(|error| of_error(error.into()))?;
        if permit.has_tenants() {
            // Where the operators of the service work is not the business of a tenant.
            page.changes.iter_mut().for_each(|change| change.address.clear());
        }
        if !permit.may_read_keys() {
            let of_keys = page.changes.iter_mut().filter(|change| change.kind == Some(ThingKind::Key));
            of_keys.for_each(|change| (change.before, change.after) = Default::default());
        }
        let next_page_token = page.before.map(|before| token::encode(&list, &before.0));
        Ok(Response::new(v1::ListChangesResponse {
            changes: page.changes.into_iter().map(message).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }
}

/// Parses a ListChanges request: the page, and the token that identifies the list.
fn change_query(request: v1::ListChangesRequest) -> Result<(ChangeQuery, Token), Refusal> {
    let mut faults = Faults::default();
    for (field, text) in [("tenant", &request.tenant), ("rpc", &request.rpc)] {
        faults.check(field, optional_name_fault(text));
    }
    for (field, text) in [("thing", &request.thing), ("caller", &request.caller)] {
        faults.check(field, filter_fault(text));
    }
    let kind = match v1::ChangeKind::try_from(request.kind) {
        Ok(v1::ChangeKind::Unspecified) => None,
        Ok(kind) => i16::try_from(i32::from(kind)).ok().and_then(ThingKind::from_code),
        Err(_) => {
            faults.add("kind", "must be a ChangeKind, such as CHANGE_KIND_PLAN");
            None
        }
    };
    let from = instant(&mut faults, "start_time", request.start_time);
    let until = instant(&mut faults, "end_time", request.end_time);
    if let (Some(from), Some(until)) = (from, until)
        && until < from
    {
        faults.add("end_time", "must not be before start_time");
    }
    let numbers = [from, until].map(|time| time.map(|time| time.0.to_string()));
    let list = Token::new("ListChanges")
        .text(&request.tenant)
        .text(kind.map_or("", ThingKind::name))
        .text(&request.thing)
        .text(&request.caller)
        .text(&request.rpc)
        .optional(numbers[0].as_deref())
        .optional(numbers[1].as_deref());
    let limit = token::page_size(&mut faults, request.page_size);
    let place = |bytes: &[u8]| bytes.try_into().ok().map(ChangeId);
    let after = token::decode(&mut faults, &list, &request.page_token, place);
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let query = ChangeQuery {
        kind,
        thing: given(request.thing),
        tenant: given(request.tenant),
        caller: given(request.caller),
        rpc: given(request.rpc),
        from: ChangeId::first_at(from.unwrap_or(Time::EPOCH)),
        before: after.unwrap_or_else(|| until.map_or_else(ChangeId::last, ChangeId::first_at)),
        limit,
    };
    faults.into_result((query, list))
}

fn filter_fault(text: &str) -> Option<&'static str> {
    if text.len() > TEXT_MAX_BYTES { Some("must be at most 1,024 bytes") } else { text_fault(text) }
}

/// Returns the message of a change.
fn message(change: Change) -> v1::Change {
    v1::Change {
        id: HEXLOWER.encode(&change.id.0),
        change_time: Some(timestamp(change.id.at())),
        caller: change.caller,
        address: change.address,
        rpc: change.rpc,
        kind: change.kind.map_or(0, |kind| kind.code().into()),
        thing: change.thing,
        tenant: change.tenant,
        before: change.before,
        after: change.after,
        request_id: change.request_id,
        revision: change.revision.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_things_are_those_of_the_protos() {
        for kind in ThingKind::ALL {
            let wire = v1::ChangeKind::try_from(i32::from(kind.code())).expect("it is in the contract");
            assert_eq!(wire.as_str_name(), format!("CHANGE_KIND_{}", kind.name()));
        }
        let next = ThingKind::ALL.iter().map(|kind| kind.code()).max().unwrap_or(0) + 1;
        assert!(v1::ChangeKind::try_from(i32::from(next)).is_err(), "the contract has more");
    }
}
