//! One watcher: a snapshot, if requested, then the events after a place, each once and in order, and heartbeats.
//!
//! HTTP/2 asks a watcher for the next message after taking the previous message. A watcher has at most one page of
//! events, which may be dropped and read again. So a watcher whose client does not read uses one buffer of HTTP/2, and
//! loses no event.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until},
};

use super::{
    cursor::Cursor,
    feed::{Feed, SeenHead, Unreadable},
    pages::{Next, Page},
};
use crate::{
    domain::{
        counter::Balance,
        event::{EventFilter, LoggedEvent},
        plan::Policy,
        refusal::{Fault, Refusal},
        shape::{Labels, PerDimension},
    },
    engine::{Failure, Names, Snapshot, UsageQuery},
    store::LogHead,
};

/// Maximum number of balances in one part of a snapshot.
const PART_BALANCES: usize = 1_000;

/// The request of a watcher.
#[derive(Clone, Debug)]
pub struct WatchQuery {
    /// The filter of events of which the watcher is notified.
    pub filter: EventFilter,
    /// The place after which the watch begins. `None`: after all events of operations that were answered before the
    /// watch began.
    pub cursor: Option<Cursor>,
    /// Whether to begin with the balances of the filter's tenant, agent and resources.
    pub snapshot: bool,
    /// Maximum time without a message. After this time a heartbeat is sent.
    pub heartbeat: Duration,
}

/// One message to a watcher.
#[derive(Clone, Debug)]
pub enum Update {
    /// An event that passes the filter.
    Event {
        /// The event, with its place in the log.
        event: Arc<LoggedEvent>,
        /// The place of the event.
        cursor: Cursor,
    },
    /// A part of the snapshot.
    Snapshot {
        /// Some of the balances.
        balances: Vec<Balance>,
        /// The policy that gives the balances' resources their names.
        policy: Arc<Policy>,
        /// The place of the snapshot, in the last part only.
        cursor: Option<Cursor>,
    },
    /// There is no new event that passes the filter.
    Heartbeat {
        /// The place up to which the watcher has read.
        cursor: Cursor,
    },
}

/// Why a watch ends.
#[derive(Clone, Debug)]
pub enum WatchEnd {
    /// Events after the cursor were pruned.
    Expired {
        /// The cursor after which the events that are kept begin.
        oldest: Cursor,
    },
    /// The server is shutting down. The watcher can resume on another server.
    Draining,
    /// The server has too many watchers.
    Crowded,
    /// A field has a fault, or the tenant was deleted.
    Refused(Refusal),
    /// The engine refused to read, or the database did not answer.
    Failed(Failure),
}

impl From<Unreadable> for WatchEnd {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Expired(head) => expired(head),
            Unreadable::Lost(place, head) => lost(place, head),
            Unreadable::Failed(failure) => WatchEnd::Failed(failure),
        }
    }
}

impl From<Failure> for WatchEnd {
    fn from(failure: Failure) -> Self {
        WatchEnd::Failed(failure)
    }
}

/// One watcher, from its first message to its end.
#[derive(Debug)]
pub struct Watch {
    feed: Arc<Feed>,
    filter: EventFilter,
    heartbeat: Duration,
    /// The place up to which all events were read and filtered.
    cursor: Cursor,
    /// The place of the tenant's last event, once the tenant is known to be deleted.
    ends_at: Option<i64>,
    heads: watch::Receiver<Option<SeenHead>>,
    /// The instant at which the cursor was last known to be a place of the log.
    since: Instant,
    /// The parts of the snapshot that were not sent yet.
    snapshot: VecDeque<Update>,
    /// Events up to `cursor` that were not sent yet.
    page: Arc<Page>,
    /// The place of the last event of `page` that was sent, or the place after which the page begins.
    sent: i64,
    /// The instant at which a heartbeat is due. The first heartbeat is due at once, so that the client gets a cursor.
    beat: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    /// Begins a watch, and takes its snapshot if one is requested.
    ///
    /// # Errors
    ///
    /// The reason why the watch cannot begin.
    pub async fn watch(self: &Arc<Self>, mut query: WatchQuery) -> Result<Watch, WatchEnd> {
        if self.stop.is_cancelled() {
            return Err(WatchEnd::Draining);
        }
        let permit = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| WatchEnd::Crowded)?;
        let (names, ends_at) = self.begin(&query).await?;
        query.filter.tenant_key = names.tenant_key;
        query.filter.resources.sort_unstable();
        query.filter.resources.dedup();
        let cursor = match query.cursor {
            Some(cursor) => checked(cursor, names.head)?,
            None => Cursor { log_id: names.head.log_id, sequence: names.head.last_sequence },
        };
        let mut watch = Watch {
            feed: Arc::clone(self),
            filter: query.filter,
            heartbeat: query.heartbeat,
            cursor,
            ends_at,
            heads: self.head.subscribe(),
            since: Instant::now(),
            snapshot: VecDeque::new(),
            page: Arc::default(),
            sent: cursor.sequence,
            beat: Instant::now(),
            _permit: permit,
        };
        if query.snapshot {
            watch.take_snapshot().await?;
        }
        Ok(watch)
    }

    /// Looks up the names of the watch. If the tenant is gone, also returns the place at which the watch ends.
    async fn begin(&self, query: &WatchQuery) -> Result<(Names, Option<i64>), WatchEnd> {
        let _permit = self.catching_up.acquire().await;
        let (tenant, resources) = (query.filter.tenant.as_deref(), &query.filter.resources);
        // A watcher that resumes may name things that are gone, since it is notified of their deletion.
        let required = query.cursor.is_none();
        let names = self.reader.check_names(tenant, resources, required).await?;
        let gone = tenant.is_some() && names.tenant_key.is_none();
        if names.pending && required {
            self.number_all().await.map_err(Unreadable::from)?;
            // The tenant is looked up again: if it exists now and is deleted later, that event comes after this place.
            return Ok((self.reader.check_names(tenant, resources, required).await?, None));
        }
        let last = if names.pending && gone {
            self.number_all().await.map_err(Unreadable::from)?
        } else {
            names.head.last_sequence
        };
        Ok((names, gone.then_some(last)))
    }
}

impl Watch {
    /// Returns the number of balances of the snapshot that are still to be sent.
    pub fn balances_ahead(&self) -> usize {
        let of = |update: &Update| match update {
            Update::Snapshot { balances, .. } => balances.len(),
            _ => 0,
        };
        self.snapshot.iter().map(of).sum()
    }

    /// Waits for the next message. After an error there are no more messages.
    ///
    /// # Errors
    ///
    /// The reason why the watch ends.
    pub async fn next(&mut self) -> Result<Update, WatchEnd> {
        loop {
            if let Some(update) = self.take_ready() {
                self.beat = Instant::now() + self.heartbeat;
                return Ok(update);
            }
            if self.ends_at.is_some_and(|end| self.cursor.sequence >= end) {
                let tenant = self.filter.tenant.clone().unwrap_or_default();
                return Err(WatchEnd::Refused(Refusal::TenantNotFound(tenant)));
            }
            if self.feed.stop.is_cancelled() {
                return Err(WatchEnd::Draining);
            }
            let seen = *self.heads.borrow_and_update();
            let head = seen.map(|seen| seen.head).filter(|head| head.log_id == self.cursor.log_id);
            // A head of the log that was read before the cursor was checked proves nothing about the cursor.
            if let Some(seen) = seen.filter(|seen| seen.since > self.since)
                && head.is_none_or(|head| head.last_sequence < self.cursor.sequence)
            {
                return Err(lost(self.cursor, seen.head));
            }
            if head.is_some_and(|head| self.cursor.sequence < head.last_sequence) {
                let wanted = self.take_page().await?;
                if wanted || Instant::now() < self.beat {
                    continue;
                }
            } else {
                tokio::select! {
                    // The sender of heads lives as long as the feed, so this never fails.
                    _ = self.heads.changed() => continue,
                    () = self.feed.stop.cancelled() => continue,
                    () = sleep_until(self.beat) => {}
                }
            }
            self.beat = Instant::now() + self.heartbeat;
            return Ok(Update::Heartbeat { cursor: self.cursor });
        }
    }

    /// Takes the updates that were read and not sent yet.
    fn take_ready(&mut self) -> Option<Update> {
        if let Some(part) = self.snapshot.pop_front() {
            return Some(part);
        }
        match self.page.next() {
            Next::Event(event) => {
                self.sent = event.sequence;
                Some(Update::Event { event, cursor: Cursor { sequence: self.sent, ..self.cursor } })
            }
            Next::Empty => None,
            Next::Dropped => {
                self.cursor.sequence = self.sent;
                None
            }
        }
    }

    /// Reads the events after the cursor. Returns whether any of them pass the watcher's filter.
    async fn take_page(&mut self) -> Result<bool, WatchEnd> {
        let page = self.feed.page(self.cursor).await?;
        // The page may contain events after the head that the feed has read.
        self.since = Instant::now();
        self.sent = self.cursor.sequence;
        let mut wanted = VecDeque::new();
        for event in page {
            if self.ends_at.is_some_and(|end| event.sequence > end) {
                break;
            }
            self.cursor.sequence = event.sequence;
            if self.filter.tenant_key == Some(event.event.tenant_key) && event.event.is_end_of_tenant() {
                self.ends_at = Some(event.sequence);
            }
            if self.filter.wants(&event.event) {
                wanted.push_back(event);
            }
        }
        let any = !wanted.is_empty();
        if any {
            self.feed.pages.fill(&self.page, wanted);
        }
        Ok(any)
    }

    /// Reads the balances and the place in the log, both at the same instant.
    async fn take_snapshot(&mut self) -> Result<(), WatchEnd> {
        let query = UsageQuery {
            tenant: self.filter.tenant.clone().unwrap_or_default(),
            filter: PerDimension { agent: self.filter.agent.clone(), ..PerDimension::default() },
            labels: Labels::new(),
            resources: self.filter.resources.clone(),
            after: None,
            limit: PART_BALANCES,
        };
        let Snapshot { parts, frame, head } = {
            // The permit prevents that reads of other calls wait for many watchers that begin at the same time.
            let _permit = self.feed.catching_up.acquire().await;
            self.feed.reader.snapshot(&query).await?
        };
        self.since = Instant::now();
        self.cursor = Cursor { log_id: head.log_id, sequence: head.last_sequence };
        // The id may belong to another tenant by now.
        self.filter.tenant_key = Some(frame.tenant_key);
        let last = parts.len().saturating_sub(1);
        for (place, balances) in parts.into_iter().enumerate() {
            let (policy, cursor) = (Arc::clone(&frame.policy), (place == last).then_some(self.cursor));
            self.snapshot.push_back(Update::Snapshot { balances, policy, cursor });
        }
        Ok(())
    }
}

/// Returns the cursor if the log can be read after it.
fn checked(cursor: Cursor, head: LogHead) -> Result<Cursor, WatchEnd> {
    if cursor.log_id != head.log_id || cursor.sequence > head.last_sequence {
        Err(lost(cursor, head))
    } else if cursor.sequence < head.pruned_through {
        Err(expired(head))
    } else {
        Ok(cursor)
    }
}

fn expired(head: LogHead) -> WatchEnd {
    WatchEnd::Expired { oldest: Cursor { log_id: head.log_id, sequence: head.pruned_through } }
}

/// Returns the reason to end a watch whose cursor belongs to another log, or to events that this log has lost.
fn lost(cursor: Cursor, head: LogHead) -> WatchEnd {
    let what = if cursor.log_id == head.log_id {
        "is after the end of the log"
    } else {
        "belongs to another log, as after a restore or copy of the database"
    };
    let fault = Fault::new("cursor", format!("must be the cursor of a message of this log; this one {what}"));
    WatchEnd::Refused(Refusal::Invalid(vec![fault]))
}
