//! The log as one process sees it: one task gives places to what has none and reads what is new, for all watchers.
//!
//! It is woken by commits of this process that wrote events, and on PostgreSQL by other replicas; without that it looks
//! now and then. The latest events are kept in memory, bounded, so that a thousand watchers who are up to date cost one
//! reading; who is behind them reads the database, at its own pace.

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

use super::{pages::Pages, watch::Cursor};
use crate::{
    domain::event::LoggedEvent,
    engine::{Failure, Reader},
    seldom::Seldom,
    store::{LogHead, Numbered, Store, StoreError},
};

/// How often it looks, whoever wakes it.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Pause after each look, so that many events at once are one step.
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// Pause before it listens again, after it could not.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// Events of one step of numbering.
const STEP_EVENTS: usize = 1_000;

/// Latest events that are kept in memory.
const RECENT_EVENTS_MAX: usize = 2_048;

/// Events that a watcher takes at once.
const PAGE_EVENTS: usize = 64;

/// Most watchers of one process. A watcher whose client takes nothing keeps about 12 KiB.
pub(super) const WATCHERS_MAX: usize = 3_000;

/// Watchers that read the database at once: the others wait, and leave connections to those who ask for balances.
const CATCHING_UP_MAX: usize = 2;

/// A step that fails is tried again twice a second: a line a minute for each kind of error.
static WAITING: Seldom<&str> = Seldom::new();

/// The log as one process sees it.
#[derive(Debug)]
pub struct Feed {
    pub(super) store: Store,
    pub(super) reader: Arc<Reader>,
    /// Held for as long as it takes to copy a few pointers.
    recent: RwLock<Recent>,
    /// None until it was read for the first time.
    pub(super) head: watch::Sender<Option<SeenHead>>,
    pub(super) watchers: Arc<Semaphore>,
    pub(super) pages: Pages,
    pub(super) catching_up: Semaphore,
    pub(super) stop: CancellationToken,
}

/// The latest events of a log: consecutive, up to the head.
#[derive(Debug, Default)]
struct Recent {
    log_id: [u8; 16],
    events: VecDeque<Arc<LoggedEvent>>,
}

/// How far the log goes, as it was read by the feed.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenHead {
    pub(super) head: LogHead,
    /// When the reading began: whoever knew of a place before can be behind it by now, and not ahead of it.
    pub(super) since: Instant,
}

/// Why a place of the log cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// What comes behind it was removed.
    Expired(LogHead),
    /// It is not a place of the log any more.
    Lost(Cursor, LogHead),
    /// The database does not answer.
    Failed(Failure),
}

impl From<StoreError> for Unreadable {
    fn from(error: StoreError) -> Self {
        static FAILED: Seldom<&str> = Seldom::new();
        if let Some(left_out) = FAILED.due(error.kind()) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                log.left_out = left_out,
                "reading the log of events failed"
            );
        }
        Unreadable::Failed(Failure::from(&error))
    }
}

impl Feed {
    /// The log of a database, until it is stopped.
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

    /// Gives places to events and reads what is new, until it is stopped.
    pub async fn run(self: Arc<Self>) {
        let told = Arc::clone(self.store.told());
        loop {
            if self.store.is_available()
                && let Err(error) = caught(self.step()).await
                && let Some(left_out) = WAITING.due(error.kind())
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    log.left_out = left_out,
                    "events wait; it is tried again soon"
                );
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(STEP_PAUSE) => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = told.notified() => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// Has other replicas wake it, as long as it can be done, until it is stopped.
    pub async fn listen(self: Arc<Self>) {
        let heard = async {
            loop {
                if let Err(error) = self.hear().await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "nobody wakes the events");
                    sleep(LISTEN_PAUSE).await;
                } else {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = heard => {}
        }
    }

    /// Ends well where there is nobody to be heard.
    async fn hear(&self) -> Result<(), StoreError> {
        let Some(mut listener) = self.store.listen().await? else {
            return Ok(());
        };
        loop {
            listener.heard().await?;
            self.store.told().notify_one();
        }
    }

    /// Gives places to all events that were committed before the call, and returns the last one. Whoever begins behind it is
    /// notified of nothing that was answered before: numbering comes a moment after the reply.
    ///
    /// # Errors
    ///
    /// When the database does not do it.
    pub async fn number_all(&self) -> Result<i64, StoreError> {
        loop {
            // It waits for one that is under way, so it finds what was committed before the call.
            let Numbered { events, last_sequence } = self.store.number_events(STEP_EVENTS).await?;
            if events > 0 {
                self.store.told().notify_one();
            }
            // A step that is not full has left nothing.
            if events < STEP_EVENTS {
                return Ok(last_sequence);
            }
        }
    }

    /// Gives places to all events that have none, and reads what is new.
    async fn step(&self) -> Result<(), StoreError> {
        let transaction = self.store.begin_read("look at the log").await?;
        let (_, pending) = transaction.look_at_log().await?;
        transaction.rollback().await?;
        let mut more = pending;
        while more {
            more = self.store.number_events(STEP_EVENTS).await?.events == STEP_EVENTS;
            // After each step: nobody who is up to date is to fall behind what is kept in memory.
            self.read_new().await?;
        }
        self.read_new().await
    }

    /// Reads what is new; at first, the latest events, for those who resume.
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
                "the log of events has lost its end: run `tope migrate --new-log` after a restore or a failover"
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

    /// Keeps events behind a place, up to the head, in memory.
    fn keep(&self, head: LogHead, from: i64, events: Vec<LoggedEvent>) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        if recent.log_id != head.log_id || recent.events.back().is_some_and(|last| last.sequence != from) {
            recent.events.clear();
        }
        recent.log_id = head.log_id;
        recent.events.extend(events.into_iter().map(Arc::new));
        let surplus = recent.events.len().saturating_sub(RECENT_EVENTS_MAX);
        recent.events.drain(..surplus);
        // Places are found by counting; whoever does not find his here reads the database.
        let mut placed = recent.events.iter().rev().zip((0..=head.last_sequence).rev());
        if !placed.all(|(event, place)| event.sequence == place) {
            recent.events.clear();
        }
    }

    /// Some events behind a place, in order; at least one when there are any up to the head.
    pub(super) async fn page(&self, place: Cursor) -> Result<Vec<Arc<LoggedEvent>>, Unreadable> {
        if let Some(page) = self.recent_page(place) {
            return Ok(page);
        }
        let after = place.sequence;
        // Nothing closes it.
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

    /// The same out of what is kept in memory.
    fn recent_page(&self, place: Cursor) -> Option<Vec<Arc<LoggedEvent>>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let first = recent.events.front().filter(|_| recent.log_id == place.log_id)?.sequence;
        let skipped = usize::try_from(place.sequence.checked_add(1)?.checked_sub(first)?).ok()?;
        let page: Vec<_> = recent.events.iter().skip(skipped).take(PAGE_EVENTS).cloned().collect();
        (!page.is_empty()).then_some(page)
    }
}

/// A step that panics is one that failed.
async fn caught(step: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    let caught = AssertUnwindSafe(step).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(StoreError::Unusable("a step of the feed ended abnormally".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_panics_has_failed() {
        assert!(caught(async { Ok(()) }).await.is_ok());
        assert!(caught(async { panic!("as a test") }).await.is_err());
    }
}
