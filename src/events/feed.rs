//! The log as one process sees it: one task gives places to what has none and reads what is new, for all watchers.
//!
//! It is woken by commits of this process that wrote events, and on PostgreSQL by other replicas; without that it looks
//! now and then. The latest events are kept in memory, bounded, so that a thousand watchers who are up to date cost one
//! reading; who is behind them reads the database, at its own pace.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::event::LoggedEvent,
    engine::{Failure, Reader},
    store::{LogHead, Store, StoreError},
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

/// Most watchers of one process.
pub(super) const WATCHERS_MAX: usize = 10_000;

/// Watchers that read the database at once: the others wait, and leave connections to those who ask for balances.
const CATCHING_UP_MAX: usize = 2;

/// The log as one process sees it.
#[derive(Debug)]
pub struct Feed {
    pub(super) store: Store,
    pub(super) reader: Arc<Reader>,
    /// Consecutive, up to the head. Held for as long as it takes to copy a few pointers.
    recent: RwLock<VecDeque<Arc<LoggedEvent>>>,
    /// None until it was read for the first time.
    pub(super) head: watch::Sender<Option<LogHead>>,
    pub(super) watchers: Arc<Semaphore>,
    pub(super) catching_up: Semaphore,
    pub(super) stop: CancellationToken,
}

/// Why a place of the log cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// What comes behind it was removed.
    Expired(LogHead),
    /// The database does not answer.
    Failed(Failure),
}

impl From<StoreError> for Unreadable {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "reading the log of events failed");
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
            catching_up: Semaphore::new(CATCHING_UP_MAX),
            stop,
        })
    }

    /// Gives places to events and reads what is new, until it is stopped.
    pub async fn run(self: Arc<Self>) {
        let told = Arc::clone(self.store.told());
        loop {
            if self.store.is_available()
                && let Err(error) = self.step().await
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
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

    /// Gives places to all events that have none, and reads what is new.
    async fn step(&self) -> Result<(), StoreError> {
        let transaction = self.store.begin_read("look at the log").await?;
        let (_, pending) = transaction.look_at_log().await?;
        transaction.rollback().await?;
        let mut more = pending;
        while more {
            more = self.store.number_events(STEP_EVENTS).await?.events == STEP_EVENTS;
        }
        self.read_new().await
    }

    async fn read_new(&self) -> Result<(), StoreError> {
        let before = *self.head.borrow();
        let transaction = self.store.begin_read("read new events").await?;
        let head = transaction.read_log().await?;
        let known = before.filter(|before| before.log_id == head.log_id);
        if known == Some(head) {
            return transaction.rollback().await;
        }
        let kept = i64::try_from(RECENT_EVENTS_MAX).unwrap_or(i64::MAX);
        let known = known.map_or(head.last_sequence, |known| known.last_sequence);
        let from = known.max(head.last_sequence - kept);
        let events = transaction.list_events(None, from, RECENT_EVENTS_MAX).await?;
        transaction.rollback().await?;
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        if recent.back().is_some_and(|last| last.sequence != from) {
            recent.clear();
        }
        recent.extend(events.into_iter().filter(|event| event.sequence <= head.last_sequence).map(Arc::new));
        let surplus = recent.len().saturating_sub(RECENT_EVENTS_MAX);
        recent.drain(..surplus);
        drop(recent);
        self.head.send_replace(Some(head));
        Ok(())
    }

    /// Some events behind a place, in order; at least one when there are any up to the head.
    pub(super) async fn page(&self, after: i64) -> Result<Vec<Arc<LoggedEvent>>, Unreadable> {
        if let Some(page) = self.recent_page(after) {
            return Ok(page);
        }
        // Nothing closes it.
        let _permit = self.catching_up.acquire().await;
        let transaction = self.store.begin_read("read events").await?;
        let head = transaction.read_log().await?;
        let events = transaction.list_events(None, after, PAGE_EVENTS).await?;
        transaction.rollback().await?;
        if after < head.pruned_through {
            return Err(Unreadable::Expired(head));
        }
        Ok(events.into_iter().map(Arc::new).collect())
    }

    /// The same out of what is kept in memory.
    fn recent_page(&self, after: i64) -> Option<Vec<Arc<LoggedEvent>>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let first = recent.front()?.sequence;
        let skipped = usize::try_from(after.checked_add(1)?.checked_sub(first)?).ok()?;
        Some(recent.iter().skip(skipped).take(PAGE_EVENTS).cloned().collect())
    }
}
