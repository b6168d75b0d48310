//! The log as one process sees it. One task gives new events their places in the log and reads them, for all watchers.
//!
//! A commit that wrote events wakes the task; on PostgreSQL a commit of another replica wakes it, too. Without a
//! wake-up the task polls. The latest events are kept in memory, with a bound, so that a thousand watchers that are up
//! to date cost one read. A watcher that is further behind reads the database, at its own pace.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{cursor::Cursor, pages::Pages};
use crate::{
    domain::event::LoggedEvent,
    engine::{Failure, Reader},
    seldom::Seldom,
    store::{LogHead, Numbered, Store, StoreError},
};

/// Maximum time to wait for a wake-up. After this time the feed reads the log without a wake-up.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Pause after each step, so that events that arrive at about the same time are numbered in one step.
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// Pause before the feed listens for other replicas again, after listening failed.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// Maximum number of events that one step numbers.
const STEP_EVENTS: usize = 1_000;

/// Maximum number of recent events that are kept in memory.
const RECENT_EVENTS_MAX: usize = 2_048;

/// Maximum number of events that a watcher takes at once.
const PAGE_EVENTS: usize = 64;

/// Maximum number of watchers of one process. A watcher whose client reads nothing uses about 12 KiB of memory.
pub(super) const WATCHERS_MAX: usize = 3_000;

/// Maximum number of watchers that read the database at the same time. Further watchers wait, so that connections stay
/// free for reads of balances.
const CATCHING_UP_MAX: usize = 2;

/// A failed step is repeated twice a second, so each kind of error is logged at most once a minute.
static WAITING: Seldom<&str> = Seldom::new();

/// The log as one process sees it.
#[derive(Debug)]
pub struct Feed {
    pub(super) store: Store,
    pub(super) reader: Arc<Reader>,
    /// The latest events. The lock is taken only to copy a few pointers.
    recent: RwLock<Recent>,
    /// The end of the log. `None` until the log was read for the first time.
    pub(super) head: watch::Sender<Option<SeenHead>>,
    pub(super) watchers: Arc<Semaphore>,
    pub(super) pages: Pages,
    pub(super) catching_up: Semaphore,
    pub(super) stop: CancellationToken,
}

/// The latest events of a log, without gaps, up to the head.
#[derive(Debug, Default)]
struct Recent {
    log_id: [u8; 16],
    events: VecDeque<Arc<LoggedEvent>>,
}

/// The end of the log, as the feed has read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenHead {
    pub(super) head: LogHead,
    /// The instant at which the read began. A place that was known before this instant is at most
    /// `head.last_sequence`, unless the log has lost its latest events.
    pub(super) since: Instant,
}

/// Why the log cannot be read from a place on.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// Events after the place were pruned.
    Expired(LogHead),
    /// The place belongs to another log, or is larger than the last place of this log.
    Lost(Cursor, LogHead),
    /// The database did not answer.
    Failed(Failure),
}

impl From<StoreError> for Unreadable {
    fn from(error: StoreError) -> Self {
        static FAILED: Seldom<&str> = Seldom::new();
        if let Some(left_out) = FAILED.due(error.kind()) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                log.left_out = left_out,
                "cannot read the log of events"
            );
        }
        Unreadable::Failed(Failure::from(&error))
    }
}

impl Feed {
    /// Creates the feed of a database's log. `stop` ends the feed and all of its watchers.
    pub fn new(store: Store, reader: Arc<Reader>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            store,
            reader,
            recent: RwLock::default(),
            head: watch::Sender::new(None),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            pages: Pages::default(),
            catching_up: Semaphore::new(CATCHING_UP_MAX),
            stop,
        })
    }

    /// Returns the number of watchers at present.
    pub fn watchers(&self) -> usize {
        WATCHERS_MAX - self.watchers.available_permits()
    }

    /// Numbers events and reads new events, until the feed is stopped.
    pub async fn run(self: Arc<Self>) {
        let wake_up = Arc::clone(self.store.numbering());
        loop {
            if self.store.is_available()
                && let Err(error) = catch_panic(self.step()).await
                && let Some(left_out) = WAITING.due(error.kind())
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    log.left_out = left_out,
                    "cannot number or read new events; watchers and webhooks wait until the next attempt"
                );
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(STEP_PAUSE) => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = wake_up.notified() => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// Lets the commits of other replicas wake the feed, until the feed is stopped. Listens again after a failure.
    pub async fn listen(self: Arc<Self>) {
        let listening = async {
            loop {
                if let Err(error) = self.wake_on_commits().await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "cannot listen for commits of other replicas; trying again in a second"
                    );
                    sleep(LISTEN_PAUSE).await;
                } else {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = listening => {}
        }
    }

    /// Wakes the feed when another replica has committed events. Returns at once on SQLite, which has no other replicas.
    async fn wake_on_commits(&self) -> Result<(), StoreError> {
        let Some(mut listener) = self.store.listen().await? else {
            return Ok(());
        };
        loop {
            listener.wait().await?;
            self.store.numbering().notify_one();
        }
    }

    /// Numbers all events that were committed before the call, and returns the place of the last of them. An operation
    /// is answered a moment before its events are numbered. A reader that begins after the returned place gets no
    /// event of an operation that was answered before the call.
    ///
    /// # Errors
    ///
    /// Fails when the database fails.
    pub async fn number_all(&self) -> Result<i64, StoreError> {
        loop {
            // A step waits for another step that is under way, so it finds all events that were committed before the
            // call.
            let Numbered { events, last_sequence } = self.store.number_events(STEP_EVENTS).await?;
            if events > 0 {
                self.store.numbering().notify_one();
            }
            // A step that numbered fewer events than it may number has left no event without a place.
            if events < STEP_EVENTS {
                return Ok(last_sequence);
            }
        }
    }

    /// Numbers all events that have no place, and reads new events.
    async fn step(&self) -> Result<(), StoreError> {
        let transaction = self.store.begin_read("look at the log").await?;
        let (_, pending) = transaction.read_log_and_pending().await?;
        transaction.rollback().await?;
        let mut more = pending;
        while more {
            more = self.store.number_events(STEP_EVENTS).await?.events == STEP_EVENTS;
            // New events are read after each step, so that a watcher that is up to date finds its next event in
            // memory.
            self.read_new().await?;
        }
        self.read_new().await
    }

    /// Reads new events. The first read takes the latest events, for watchers that resume.
    async fn read_new(&self) -> Result<(), StoreError> {
        let since = Instant::now();
        let before = self.head.borrow().map(|seen| seen.head);
        let transaction = self.store.begin_read("read new events").await?;
        let head = transaction.read_log().await?;
        if before == Some(head) {
            self.head.send_if_modified(|seen| {
                *seen = Some(SeenHead { head, since });
                false
            });
            return transaction.rollback().await;
        }
        let known = before.filter(|before| before.log_id == head.log_id);
        let gone_back = known.filter(|known| head.last_sequence < known.last_sequence);
        if let Some(known) = gone_back {
            tracing::error!(
                known = known.last_sequence,
                found = head.last_sequence,
                "the log of events is shorter than before; if the database was restored or failed over, run `tope migrate --new-log` now"
            );
        }
        let kept = i64::try_from(RECENT_EVENTS_MAX).unwrap_or(i64::MAX);
        let oldest = head.pruned_through.max(head.last_sequence - kept);
        let from =
            known.filter(|_| gone_back.is_none()).map_or(oldest, |known| known.last_sequence.max(oldest));
        let events = transaction.list_events(None, from, RECENT_EVENTS_MAX).await?;
        transaction.rollback().await?;
        self.keep(head, from, events);
        self.head.send_replace(Some(SeenHead { head, since }));
        Ok(())
    }

    /// Keeps the events after the place `from`, up to the head, in memory.
    fn keep(&self, head: LogHead, from: i64, events: Vec<LoggedEvent>) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        if recent.log_id != head.log_id || recent.events.back().is_some_and(|last| last.sequence != from) {
            recent.events.clear();
        }
        recent.log_id = head.log_id;
        recent.events.extend(events.into_iter().map(Arc::new));
        let surplus = recent.events.len().saturating_sub(RECENT_EVENTS_MAX);
        recent.events.drain(..surplus);
        // A place is found by counting, so the events must have no gap. If there is a gap, watchers read the database
        // instead.
        let mut placed = recent.events.iter().rev().zip((0..=head.last_sequence).rev());
        if !placed.all(|(event, place)| event.sequence == place) {
            recent.events.clear();
        }
    }

    /// Returns some events after a place, in order: at least one event, unless the place is the end of the log.
    pub(super) async fn page(&self, place: Cursor) -> Result<Vec<Arc<LoggedEvent>>, Unreadable> {
        if let Some(page) = self.recent_page(place) {
            return Ok(page);
        }
        let after = place.sequence;
        // Nothing closes the semaphore, so this never fails.
        let _permit = self.catching_up.acquire().await;
        let transaction = self.store.begin_read("read events").await?;
        let head = transaction.read_log().await?;
        let events = transaction.list_events(None, after, PAGE_EVENTS).await?;
        transaction.rollback().await?;
        if head.log_id != place.log_id || after > head.last_sequence {
            return Err(Unreadable::Lost(place, head));
        }
        if after < head.pruned_through {
            return Err(Unreadable::Expired(head));
        }
        Ok(events.into_iter().map(Arc::new).collect())
    }

    /// Returns the same events as `page`, but only from memory. `None`: the next event is not in memory.
    fn recent_page(&self, place: Cursor) -> Option<Vec<Arc<LoggedEvent>>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let first = recent.events.front().filter(|_| recent.log_id == place.log_id)?.sequence;
        let skipped = usize::try_from(place.sequence.checked_add(1)?.checked_sub(first)?).ok()?;
        let page: Vec<_> = recent.events.iter().skip(skipped).take(PAGE_EVENTS).cloned().collect();
        (!page.is_empty()).then_some(page)
    }
}

/// Turns a panic of a step into an error.
async fn catch_panic(step: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    let caught = AssertUnwindSafe(step).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(StoreError::Unusable("a step of the feed of events panicked".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_a_step_is_an_error() {
        assert!(catch_panic(async { Ok(()) }).await.is_ok());
        assert!(catch_panic(async { panic!("as a test") }).await.is_err());
    }
}
