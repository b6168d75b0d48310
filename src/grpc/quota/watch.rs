//! WatchUsage: its request, and the stream of its messages.

use std::{pin::Pin, time::Duration};

use futures::{Stream, stream};
use tonic::Status;

use crate::{
    domain::{
        bounds::THRESHOLD_MAX_PERCENT, event::EventFilter, faults::Faults, id::optional_name_fault,
        refusal::Refusal,
    },
    events::{Update, Watch, WatchQuery},
    grpc::{
        cursor::{cursor, parse_cursor},
        event,
        faults::{check_resources, kinds},
        http2::Promise,
        status,
        v1::{self, watch_usage_response::Update as Wire},
        wire,
    },
};

/// Shortest time between heartbeats.
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);

/// Longest time between heartbeats.
const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// Time between heartbeats when none is given.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);

/// The stream of a watcher's messages.
pub(super) type Updates = Pin<Box<dyn Stream<Item = Result<v1::WatchUsageResponse, Status>> + Send>>;

/// Asks the watch for the next message when HTTP/2 has taken the previous message, and ends after an error. Frees the
/// room of a snapshot when HTTP/2 has taken its last part.
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
        Update::Event { event, cursor } => (Wire::Event(event::event(&event)), Some(cursor)),
        Update::Snapshot { balances, policy, cursor } => {
            let balances = wire::balances(&balances, &policy);
            (Wire::Snapshot(v1::Snapshot { balances, last: cursor.is_some() }), cursor)
        }
        Update::Heartbeat { cursor } => (Wire::Heartbeat(v1::Heartbeat {}), Some(cursor)),
    };
    v1::WatchUsageResponse { update: Some(update), cursor: at.map(cursor).unwrap_or_default() }
}

/// Parses a WatchUsage request.
pub(super) fn watch_query(request: v1::WatchUsageRequest) -> Result<WatchQuery, Refusal> {
    let mut faults = Faults::default();
    faults.check("tenant", optional_name_fault(&request.tenant));
    faults.check("agent", request.agent.as_deref().and_then(optional_name_fault));
    check_resources(&mut faults, &request.resources);
    let kinds = kinds(&mut faults, "kinds", &request.kinds);
    if !(0..=THRESHOLD_MAX_PERCENT).contains(&request.min_percent) {
        faults.add("min_percent", format!("must be 0 to {THRESHOLD_MAX_PERCENT}"));
    }
    if request.snapshot && request.tenant.is_empty() {
        faults.add("tenant", "must be given for a snapshot");
    }
    if request.snapshot && !request.cursor.is_empty() {
        faults.add("cursor", "must be empty if snapshot is true: a snapshot has a cursor of its own");
    }
    let cursor = parse_cursor(&request.cursor);
    if !request.cursor.is_empty() && cursor.is_none() {
        faults.add("cursor", "must be the cursor of a message of WatchUsage");
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
