//! The request of ListEvents.

use crate::{
    domain::{faults::Faults, id::optional_name_fault, refusal::Refusal},
    events::EventQuery,
    grpc::{
        faults::{instant, kinds},
        token::{self, Token},
        v1,
    },
};

/// Parses a ListEvents request: the page, and the token that identifies the list.
pub(super) fn event_query(request: v1::ListEventsRequest) -> Result<(EventQuery, Token), Refusal> {
    let mut faults = Faults::default();
    faults.check("tenant", optional_name_fault(&request.tenant));
    let mut kinds = kinds(&mut faults, "kinds", &request.kinds);
    // Requests with the same kinds in another order ask for the same list.
    kinds.sort_unstable();
    let from = instant(&mut faults, "start_time", request.start_time);
    let until = instant(&mut faults, "end_time", request.end_time);
    if let (Some(from), Some(until)) = (from, until)
        && until < from
    {
        faults.add("end_time", "must not be before start_time");
    }
    if request.after_sequence < 0 {
        faults.add("after_sequence", "must be 0 or more");
    }
    let numbers = [from, until].map(|time| time.map(|time| time.0.to_string()));
    let codes: Vec<String> = kinds.iter().map(|kind| kind.name().to_owned()).collect();
    let list = Token::new("ListEvents")
        .text(&request.tenant)
        .texts(&codes)
        .optional(numbers[0].as_deref())
        .optional(numbers[1].as_deref())
        .text(&request.after_sequence.to_string());
    let limit = token::page_size(&mut faults, request.page_size);
    let place = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_be_bytes);
    let after = token::decode(&mut faults, &list, &request.page_token, place);
    let query = EventQuery {
        tenant: Some(request.tenant).filter(|tenant| !tenant.is_empty()),
        kinds,
        from,
        until,
        after: after.unwrap_or(request.after_sequence),
        limit,
    };
    faults.into_result((query, list))
}
