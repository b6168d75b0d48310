//! Pages of the log, for ListEvents.

use super::feed::Feed;
use crate::{
    domain::{event::LoggedEvent, event_kind::EventKind, id::TenantKey, refusal::Refusal, time::Time},
    store::{AdminError, Reading, StoreError, Transaction},
};

/// Maximum number of rows that one call reads to find rows that match its filters.
const SCAN_ROWS_MAX: usize = 10_000;

/// Maximum number of rows that one statement reads.
const CHUNK: usize = 1_000;

/// Maximum number of rows that one statement searches by time alone.
const TIMES_CHUNK: usize = 10_000;

/// Maximum number of rows that one call searches by time, before it reads rows in full.
const TIMES_MAX: usize = 100_000;

/// The filters of a list of events.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Only events of the tenant with this id. `None`: events of all tenants, and events without a tenant.
    pub tenant: Option<String>,
    /// Only events of these kinds. Empty: all kinds.
    pub kinds: Vec<EventKind>,
    /// Only events at or after this instant.
    pub from: Option<Time>,
    /// Only events before this instant.
    pub until: Option<Time>,
    /// Only events after this place in the log. 0: all events.
    pub after: i64,
    /// Maximum number of events on the page.
    pub limit: usize,
}

/// One page of the log.
#[derive(Debug)]
pub struct EventPage {
    /// Events, in the order of the log.
    pub events: Vec<LoggedEvent>,
    /// The place after which the next page begins. `None`: this is the last page.
    pub next: Option<i64>,
    /// The last place in the log when the page was read. 0: the log is empty.
    pub last_sequence: i64,
}

impl Feed {
    /// Lists events that are kept, from the oldest on.
    ///
    /// # Errors
    ///
    /// Fails when there is no such tenant, or when the database does not answer.
    pub async fn list(&self, query: &EventQuery) -> Result<EventPage, AdminError> {
        let transaction = self.store.begin_read("list events").await?;
        let tenant = match &query.tenant {
            Some(id) => match transaction.find_tenant(Some(id), None).await? {
                Some(tenant) => Some(tenant.key),
                None => return Err(Refusal::TenantNotFound(id.clone()).into()),
            },
            None => None,
        };
        let last_sequence = transaction.read_log().await?.last_sequence;
        let mut page = EventPage { events: Vec::new(), next: None, last_sequence };
        let (mut after, reached) = find_start(&transaction, query, tenant).await?;
        if !reached {
            page.next = Some(after);
            return end(transaction, page).await;
        }
        let mut scanned = 0;
        loop {
            let chunk = transaction.list_events(tenant, after, CHUNK).await?;
            let more = chunk.len() == CHUNK;
            scanned += chunk.len();
            for event in chunk {
                if page.events.len() == query.limit {
                    page.next = Some(after);
                    return end(transaction, page).await;
                }
                after = event.sequence;
                if query.wants(&event) {
                    page.events.push(event);
                }
            }
            if !more {
                return end(transaction, page).await;
            }
            if scanned >= SCAN_ROWS_MAX {
                page.next = Some(after);
                return end(transaction, page).await;
            }
        }
    }
}

/// Returns the place after which the events of the query's time begin, and whether the search has reached this place.
/// Events are only roughly in the order of their times, so the search reads the time of each event.
async fn find_start(
    transaction: &Transaction<Reading>,
    query: &EventQuery,
    tenant: Option<TenantKey>,
) -> Result<(i64, bool), StoreError> {
    let mut after = query.after;
    let Some(from) = query.from else {
        return Ok((after, true));
    };
    for _ in 0..TIMES_MAX / TIMES_CHUNK {
        let searched = transaction.scan_for_time(tenant, after, from, TIMES_CHUNK).await?;
        after = searched.first.map(|first| first - 1).or(searched.last).unwrap_or(after);
        if searched.first.is_some() || searched.rows < TIMES_CHUNK {
            return Ok((after, true));
        }
    }
    Ok((after, false))
}

async fn end(transaction: Transaction<Reading>, page: EventPage) -> Result<EventPage, AdminError> {
    transaction.rollback().await.map_err(|error: StoreError| error.into()).map(|()| page)
}

impl EventQuery {
    fn wants(&self, logged: &LoggedEvent) -> bool {
        let at = logged.event.occurred_at;
        (self.kinds.is_empty() || self.kinds.contains(&logged.event.kind()))
            && self.from.is_none_or(|from| at >= from)
            && self.until.is_none_or(|until| at < until)
    }
}
