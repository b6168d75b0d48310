//! Events on the wire: requests that read the log, cursors, and messages of events.

use std::{pin::Pin, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use futures::{Stream, stream};
use tonic::Status;

use super::{
    gate::Promise,
    lists, reply, status,
    token::{self, Token},
    v1::{self, watch_usage_response::Update as Wire},
};
use crate::{
    domain::{
        bounds::THRESHOLD_MAX_PERCENT,
        event::{ChangeAction, ChangedKind, EventFilter, Fact, LoggedEvent},
        event_kind::EventKind,
        faults::Faults,
        id::optional_name_fault,
        refusal::Refusal,
        window::Millis,
    },
    events::{Cursor, EventQuery, Update, Watch, WatchQuery},
};

/// Shortest time between heartbeats.
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);

/// Longest time between heartbeats.
const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// Time between heartbeats when none is given.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);

/// The first byte of a cursor. Another layout would have another number.
const CURSOR_VERSION: u8 = 1;

/// The stream of a watcher's messages.
pub(super) type Updates = Pin<Box<dyn Stream<Item = Result<v1::WatchUsageResponse, Status>> + Send>>;

/// Asks the watch for a message when the last one could be sent, and ends after an error. The room of a snapshot is
/// given back when all of the snapshot could be sent.
pub(super) fn updates(watch: Watch, snapshot: Option<Promise>) -> Updates {
    Box::pin(stream::unfold(Some((watch, snapshot, false)), |state| async {
        let (mut watch, mut snapshot, sent) = state?;
        if sent {
            snapshot = None;
        }
        match watch.next().await {
            Ok(update) => {
                let last = matches!(update, Update::Snapshot { cursor: Some(_), .. });
                Some((Ok(response(update)), Some((watch, snapshot, last))))
            }
            Err(end) => Some((Err(status::of_watch_end(&end)), None)),
        }
    }))
}

fn response(update: Update) -> v1::WatchUsageResponse {
    let (update, at) = match update {
        Update::Event { event, cursor } => (Wire::Event(self::event(&event)), Some(cursor)),
        Update::Snapshot { balances, policy, cursor } => {
            let balances = reply::balances(&balances, &policy);
            (Wire::Snapshot(v1::Snapshot { balances, last: cursor.is_some() }), cursor)
        }
        Update::Heartbeat { cursor } => (Wire::Heartbeat(v1::Heartbeat {}), Some(cursor)),
    };
    v1::WatchUsageResponse { update: Some(update), cursor: at.map(cursor).unwrap_or_default() }
}

/// The text of a cursor.
pub(super) fn cursor(cursor: Cursor) -> String {
    let bytes = [&[CURSOR_VERSION][..], &cursor.log_id, &cursor.sequence.to_be_bytes()].concat();
    BASE64URL_NOPAD.encode(&bytes)
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let (log_id, sequence) = bytes.strip_prefix(&[CURSOR_VERSION])?.split_first_chunk::<16>()?;
    let sequence = i64::from_be_bytes(sequence.try_into().ok()?);
    (sequence >= 0).then_some(Cursor { log_id: *log_id, sequence })
}

/// The message of an event.
pub(super) fn event(logged: &LoggedEvent) -> v1::Event {
    let event = &logged.event;
    let mut wire = v1::Event {
        sequence: logged.sequence,
        tenant: event.tenant.to_string(),
        tenant_sequence: logged.number,
        kind: i32::from(event.kind().code()),
        occur_time: Some(reply::timestamp(event.occurred_at)),
        balances: event.figures().iter().map(|figures| reply::figures(figures, event)).collect(),
        ..v1::Event::default()
    };
    match &event.fact {
        Fact::Reached { percent, generation, .. } | Fact::Cleared { percent, generation, .. } => {
            (wire.percent, wire.generation) = (*percent, *generation);
        }
        Fact::Refused { requested, .. } => wire.requested = *requested,
        Fact::Expired(settlement) | Fact::Late(settlement) => {
            let tenant = (event.tenant_key, &*event.tenant);
            let name = |resource| event.resource_id(resource);
            wire.reservation = Some(reply::wire_reservation(&settlement.reservation, tenant, name));
        }
        Fact::Closed(_) => {}
        Fact::Reset { delta, reason, operator, .. } => {
            (wire.adjusted, wire.reason, wire.operator) = (*delta, reason.clone(), operator.clone());
        }
        Fact::Changed { kind, id, action } => wire.change = Some(change(*kind, id, *action)),
        Fact::WebhookDisabled { id, .. } => wire.webhook.clone_from(id),
        Fact::BooksDisagree { faults } => wire.faults = *faults,
        Fact::Unknown { .. } => {}
    }
    wire
}

fn change(kind: ChangedKind, id: &str, action: ChangeAction) -> v1::PolicyChange {
    use v1::policy_change::{Action, Subject};
    v1::PolicyChange {
        subject: match kind {
            ChangedKind::Resource => Subject::Resource,
            ChangedKind::Plan => Subject::Plan,
            ChangedKind::Tenant => Subject::Tenant,
        }
        .into(),
        id: id.to_owned(),
        action: match action {
            ChangeAction::Created => Action::Created,
            ChangeAction::Updated => Action::Updated,
            ChangeAction::Deleted => Action::Deleted,
        }
        .into(),
    }
}

/// Parses a WatchUsage request.
pub(super) fn watch_query(request: v1::WatchUsageRequest) -> Result<WatchQuery, Refusal> {
    let mut faults = Faults::default();
    faults.check("tenant", optional_name_fault(&request.tenant));
    faults.check("agent", request.agent.as_deref().and_then(optional_name_fault));
    lists::check_resources(&mut faults, &request.resources);
    let kinds = kinds(&mut faults, "kinds", &request.kinds);
    if !(0..=THRESHOLD_MAX_PERCENT).contains(&request.min_percent) {
        faults.add("min_percent", format!("must be 0 to {THRESHOLD_MAX_PERCENT}"));
    }
    if request.snapshot && request.tenant.is_empty() {
        faults.add("tenant", "must be given for a snapshot");
    }
    if request.snapshot && !request.cursor.is_empty() {
        faults.add("cursor", "must be empty for a snapshot, which has one of its own");
    }
    let cursor = parse_cursor(&request.cursor);
    if !request.cursor.is_empty() && cursor.is_none() {
        faults.add("cursor", "must be one that a message of WatchUsage had");
    }
    let heartbeat = match request.heartbeat_interval {
        None => HEARTBEAT_DEFAULT,
        Some(given) => Duration::try_from(given).unwrap_or_default(),
    };
    if !(HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&heartbeat) {
        faults.add("heartbeat_interval", "must be 1 second to 5 minutes");
    }
    let filter = EventFilter {
        tenant: Some(request.tenant).filter(|tenant| !tenant.is_empty()),
        tenant_key: None,
        agent: request.agent,
        resources: request.resources,
        kinds,
        percent_min: request.min_percent,
    };
    faults.into_result(WatchQuery { filter, cursor, snapshot: request.snapshot, heartbeat })
}

/// Parses a ListEvents request: the page, and the token that identifies the list.
pub(super) fn event_query(request: v1::ListEventsRequest) -> Result<(EventQuery, Token), Refusal> {
    let mut faults = Faults::default();
    faults.check("tenant", optional_name_fault(&request.tenant));
    let mut kinds = kinds(&mut faults, "kinds", &request.kinds);
    // The order of the kinds makes no other list.
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
    let numbers = [from, until].map(|time| time.map(|time| time.to_string()));
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

/// Parses the kinds of events in a field, each once.
pub(super) fn kinds(faults: &mut Faults, field: &str, codes: &[i32]) -> Vec<EventKind> {
    let kind = |code| i16::try_from(code).ok().and_then(EventKind::from_code);
    lists::choices(faults, (field, "must be a kind of event"), codes, kind)
}

fn instant(faults: &mut Faults, field: &str, given: Option<prost_types::Timestamp>) -> Option<Millis> {
    let given = given?;
    if !(0..1_000_000_000).contains(&given.nanos) {
        faults.add(field, "must have nanos of 0 to 999,999,999");
    }
    // Rounds down to milliseconds.
    Some(given.seconds.saturating_mul(1_000).saturating_add(i64::from(given.nanos) / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_those_of_the_contract() {
        for kind in EventKind::ALL {
            let wire = v1::EventKind::try_from(i32::from(kind.code())).expect("it is in the contract");
            assert_eq!(wire.as_str_name(), format!("EVENT_KIND_{}", kind.name()));
        }
        let next = EventKind::ALL.iter().map(|kind| kind.code()).max().unwrap_or(0) + 1;
        assert!(v1::EventKind::try_from(i32::from(next)).is_err(), "the contract has more");
    }

    #[test]
    fn a_cursor_stands_for_a_place_in_a_log() {
        let place = Cursor { log_id: [7; 16], sequence: 1_234 };
        let text = cursor(place);
        assert_eq!(parse_cursor(&text), Some(place));
        let negative = cursor(Cursor { sequence: -1, ..place });
        for other in ["", "x", &text[1..], &format!("{text}A"), &negative, "ääää"] {
            assert_eq!(parse_cursor(other), None, "{other}");
        }
    }
}
