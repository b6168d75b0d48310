//! Delivers events to webhooks. For each webhook, the deliverer creates a delivery for each event of the log that
//! matches, and a task sends the deliveries. Each webhook has its own task, so that a slow endpoint never delays
//! another endpoint.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    address::Rules,
    body,
    send::{ATTEMPT_TIMEOUT, Message, Sender},
};
use crate::{
    clock::{Clock, random},
    domain::{
        time::{Span, Time},
        webhook::{Attempt, Webhook, WebhookKey},
    },
    seldom::Seldom,
    store::{DueDelivery, Lease, Next, Store, StoreError},
};

/// Length of a lease, during which only one process sends to a webhook. It covers an attempt, and the steps before and
/// after the attempt.
const LEASE: Span = Span::seconds(2 * ATTEMPT_TIMEOUT.as_secs().cast_signed());

/// Minimum remaining time of a lease when an attempt begins: it covers the attempt and the steps after it.
const LEFT_MIN: Span = Span(LEASE.0 / 4 * 3);

/// Number of failed attempts in a row after which a task pauses the webhook until the next [`Deliverer::begin`].
const FAILURES_MAX: u32 = 5;

/// Among this number of deliveries, one is the most overdue retry. So retries do not wait until a long log is
/// delivered.
const RETRY_EVERY: u32 = 8;

/// Maximum number of tasks that use the database at the same time. The database has few connections, and
/// administration needs them, too.
const DATABASE_TASKS: usize = 2;

/// Maximum number of steps in which one [`Deliverer::begin`] creates deliveries for a webhook.
const STEPS_MAX: u32 = 20;

/// A webhook that fails mostly fails for each event, so each webhook is logged at most once a minute.
static FAILED: Seldom<i64> = Seldom::new();
static INTERRUPTED: Seldom<i64> = Seldom::new();
static DATABASE_FAILED: Seldom<i64> = Seldom::new();

/// The result of one [`Deliverer::begin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Number of deliveries that were created from new events.
    pub deliveries: u64,
    /// Number of webhooks for which this process started a task.
    pub webhooks: u64,
}

/// Delivers events to webhooks, for one process.
#[derive(Debug)]
pub struct Deliverer {
    store: Store,
    clock: Clock,
    sender: Sender,
    rules: Rules,
    tracker: TaskTracker,
    /// Permits of the tasks to use the database. During an attempt, a task has no permit.
    permits: Semaphore,
    /// When cancelled, no new attempt begins.
    stop: CancellationToken,
    /// When cancelled, attempts under way are abandoned.
    cut: CancellationToken,
    /// Whether the leases of an earlier process on a SQLite file are still to be released. The first `begin` releases
    /// them.
    fresh: AtomicBool,
    /// The time of the latest `begin`. Before the first `begin` it is `Time::NEVER`, so for the first `begin` the clock
    /// seems to have gone back.
    latest: AtomicI64,
}

impl Deliverer {
    /// Creates a deliverer, which does nothing before the first `begin`.
    pub fn new(store: Store, clock: Clock, rules: Rules) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            sender: Sender::new(rules),
            rules,
            tracker: TaskTracker::new(),
            permits: Semaphore::new(DATABASE_TASKS),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            fresh: AtomicBool::new(true),
            latest: AtomicI64::new(Time::NEVER.0),
        })
    }

    /// Returns the rules that say where webhooks may be sent.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Creates deliveries for new events, and starts tasks that send the due deliveries in the background. Replicas may
    /// do this at the same time, because a lease gives each webhook to one replica. If one webhook fails, the other
    /// webhooks continue.
    ///
    /// # Errors
    ///
    /// The first error, after all webhooks were tried.
    pub async fn begin(self: &Arc<Self>, now: Option<Time>) -> Result<Begun, StoreError> {
        if self.fresh.load(Ordering::Acquire) {
            self.store.release_webhooks_of_file().await?;
            self.fresh.store(false, Ordering::Release);
        }
        let mut faults = Faults::default();
        let mut begun = Begun::default();
        // Deliveries that are due go first, because a long log takes long to expand.
        begun.webhooks += self.claim_due(now, &mut faults).await?;
        begun.deliveries = self.expand(now, &mut faults).await?;
        if begun.deliveries > 0 {
            begun.webhooks += self.claim_due(now, &mut faults).await?;
        }
        match faults.first {
            None => Ok(begun),
            Some(error) => Err(error),
        }
    }

    /// Creates deliveries for each webhook that is behind the log, one step at a time, so that all of these webhooks
    /// progress.
    async fn expand(&self, now: Option<Time>, faults: &mut Faults) -> Result<u64, StoreError> {
        let mut deliveries = 0;
        let mut behind = self.store.list_webhooks_behind().await?;
        for _ in 0..STEPS_MAX {
            let mut left = Vec::new();
            for key in behind {
                if self.stop.is_cancelled() {
                    return Ok(deliveries);
                }
                match self.store.expand_webhook(key, now).await {
                    Ok(expanded) => {
                        deliveries += expanded.deliveries;
                        left.extend(expanded.more.then_some(key));
                    }
                    Err(error) => faults.note(key, error),
                }
            }
            behind = left;
        }
        Ok(deliveries)
    }

    async fn claim_due(self: &Arc<Self>, now: Option<Time>, faults: &mut Faults) -> Result<u64, StoreError> {
        let mut webhooks = 0;
        let mut due = self.store.list_webhooks_due(now, LEASE).await?;
        if due.now < Time(self.latest.swap(due.now.0, Ordering::AcqRel)) {
            self.store.mend_retries(due.now).await?;
            due = self.store.list_webhooks_due(now, LEASE).await?;
        }
        for key in due.keys {
            if self.stop.is_cancelled() {
                break;
            }
            match self.store.claim_webhook(key, now, LEASE).await {
                Ok(Some(lease)) => {
                    webhooks += 1;
                    self.tracker.spawn(Arc::clone(self).deliver(key, lease));
                }
                Ok(None) => {}
                Err(error) => faults.note(key, error),
            }
        }
        Ok(webhooks)
    }

    /// Sends a test now, whatever the webhook's state.
    pub async fn test(&self, webhook: &Webhook, now: Time) -> Attempt {
        let (id, body) = body::test(webhook, now);
        let message = Message { url: &webhook.url, id: &id, now, body: &body };
        self.sender.send(&message, webhook.secrets(now)).await
    }

    async fn attempt(&self, due: &DueDelivery) -> Attempt {
        let (id, body) = body::event(due.log_id, &due.event);
        let message = Message { url: &due.webhook.url, id: &id, now: due.now, body: &body };
        self.sender.send(&message, due.webhook.secrets(due.now)).await
    }

    /// Begins no new attempt. Attempts under way continue.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Stops, and waits for attempts under way. At `until` it abandons them; the next process sends them again.
    pub async fn end(&self, until: Instant) {
        self.stop();
        if timeout_at(until, self.tracker.wait()).await.is_err() {
            self.cut.cancel();
            self.tracker.wait().await;
        }
    }

    async fn deliver(self: Arc<Self>, key: WebhookKey, lease: Lease) {
        let outcome = tokio::select! {
            outcome = self.deliver_due(key, lease) => outcome,
            () = self.cut.cancelled() => return,
        };
        if let Err(error) = outcome
            && let Some(left_out) = INTERRUPTED.due(key.0)
        {
            tracing::warn!(
                webhook.key = key.0,
                error = &error as &dyn std::error::Error,
                log.left_out = left_out,
                "sending to a webhook was interrupted; it continues after this server's lease on the webhook has ended"
            );
        }
    }

    /// Sends the deliveries that are due, one after the other.
    async fn deliver_due(&self, key: WebhookKey, mut lease: Lease) -> Result<(), StoreError> {
        let (mut failures, mut count) = (0, 0_u32);
        while failures < FAILURES_MAX && !self.stop.is_cancelled() {
            count = count.wrapping_add(1);
            let next = if count.is_multiple_of(RETRY_EVERY) { Next::Retry } else { Next::Fresh };
            let Some((due, kept)) = self.prepare(key, lease, next).await? else { break };
            lease = kept;
            let attempt = self.attempt(&due).await;
            self.store.metrics().deliveries.count(attempt.succeeded());
            if attempt.succeeded() {
                failures = 0;
            } else {
                failures += 1;
                log_failure(&due, &attempt);
            }
            let _permit = self.permits.acquire().await;
            let (shown, chance) = (self.clock.now(), random());
            match self.store.record_attempt(due, attempt, lease, shown, LEASE, chance).await? {
                Some(kept) => lease = kept,
                None => return Ok(()),
            }
        }
        let _permit = self.permits.acquire().await;
        self.store.release_webhook(key, lease).await
    }

    /// Returns the next delivery to send, and a lease that lasts long enough for it.
    async fn prepare(
        &self,
        key: WebhookKey,
        lease: Lease,
        next: Next,
    ) -> Result<Option<(DueDelivery, Lease)>, StoreError> {
        let _permit = self.permits.acquire().await;
        let Some(due) = self.store.find_due_delivery(key, lease, next, self.clock.now()).await? else {
            return Ok(None);
        };
        if (LEFT_MIN..=LEASE).contains(&(lease.until() - due.now)) {
            return Ok(Some((due, lease)));
        }
        let renewed = self.store.renew_webhook(key, lease, self.clock.now(), LEASE).await?;
        Ok(renewed.map(|lease| (due, lease)))
    }
}

/// Logs a failed attempt, but at most once a minute for one webhook, because ListDeliveries reports every attempt.
fn log_failure(due: &DueDelivery, attempt: &Attempt) {
    if let Some(left_out) = FAILED.due(due.webhook.key.0) {
        tracing::info!(
            webhook.id = due.webhook.id,
            event.sequence = due.delivery.sequence,
            delivery.attempts = due.delivery.attempts + 1,
            delivery.error = attempt.error,
            log.left_out = left_out,
            "a delivery to a webhook failed"
        );
    }
}

/// The first error of a `begin`. Errors are logged, but at most once a minute for one webhook.
#[derive(Debug, Default)]
struct Faults {
    first: Option<StoreError>,
}

impl Faults {
    fn note(&mut self, key: WebhookKey, error: StoreError) {
        if let Some(left_out) = DATABASE_FAILED.due(key.0) {
            tracing::warn!(
                webhook.key = key.0,
                error = &error as &dyn std::error::Error,
                log.left_out = left_out,
                "a webhook cannot be notified now, because of a database error"
            );
        }
        self.first.get_or_insert(error);
    }
}
