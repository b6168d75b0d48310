//! Delivering: the log is expanded for each webhook, and each webhook that has something to be sent has a task of its
//! own, so that a slow endpoint never holds up another.

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
    send::{ATTEMPT_TIMEOUT, Letter, Sender},
};
use crate::{
    clock::{Clock, random},
    domain::{
        webhook::{Attempt, Webhook, WebhookKey},
        window::Millis,
    },
    seldom::Seldom,
    store::{Errand, Lease, Next, Store, StoreError},
};

/// For how long a process has a webhook to itself: an attempt, and what comes before and after it.
const LEASE_MILLIS: Millis = 2 * 1_000 * ATTEMPT_TIMEOUT.as_secs().cast_signed();

/// What is left of that when something is sent, at least: an attempt, and what comes after it.
const LEFT_MIN_MILLIS: Millis = LEASE_MILLIS / 4 * 3;

/// After so many failures in a row the webhook is left alone until the next look.
const FAILURES_MAX: u32 = 5;

/// Of so many deliveries in a row one is the retry that is due longest, so that a long log does not keep it waiting.
const RETRY_TURN: u32 = 8;

/// Tasks that use the database at once: it has few connections, and administration needs them, too.
const DATABASE_TASKS: usize = 2;

/// Steps of the expansion that one look makes for a webhook.
const STEPS_MAX: u32 = 20;

/// What goes wrong with a webhook mostly goes wrong with each event: a line a minute for each webhook.
static FAILED: Seldom<i64> = Seldom::new();
static BROKEN_OFF: Seldom<i64> = Seldom::new();
static UNTOLD: Seldom<i64> = Seldom::new();

/// What a look at the webhooks did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Deliveries that were made of new events.
    pub deliveries: u64,
    /// Webhooks that are told now by this process.
    pub webhooks: u64,
}

/// Delivers events to webhooks.
#[derive(Debug)]
pub struct Deliverer {
    store: Store,
    clock: Clock,
    sender: Sender,
    rules: Rules,
    tracker: TaskTracker,
    /// Turns of the tasks at the database. An attempt holds none.
    turns: Semaphore,
    /// Nothing more is sent.
    stop: CancellationToken,
    /// What is being sent is given up.
    cut: CancellationToken,
    /// The leases of a process that was here before are void.
    fresh: AtomicBool,
    /// What the clock showed at the latest look: before the first one, a time from which it can only go back.
    latest: AtomicI64,
}

impl Deliverer {
    /// With nothing to do yet.
    pub fn new(store: Store, clock: Clock, rules: Rules) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            sender: Sender::new(rules),
            rules,
            tracker: TaskTracker::new(),
            turns: Semaphore::new(DATABASE_TASKS),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            fresh: AtomicBool::new(true),
            latest: AtomicI64::new(Millis::MAX),
        })
    }

    /// Where webhooks may be sent.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Looks for what is to be sent, and has it sent in the background. Replicas may do it at once: a webhook is told by
    /// one of them. What goes wrong with one webhook holds up no other.
    ///
    /// # Errors
    ///
    /// The first one, once all was tried.
    pub async fn begin(self: &Arc<Self>, now: Option<Millis>) -> Result<Begun, StoreError> {
        if self.fresh.load(Ordering::Acquire) {
            self.store.release_webhooks_of_file().await?;
            self.fresh.store(false, Ordering::Release);
        }
        let mut faults = Faults::default();
        let mut begun = Begun::default();
        // What is due goes first: a long log takes long to expand.
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

    /// Takes turns among those that are behind, so that each one gets on.
    async fn expand(&self, now: Option<Millis>, faults: &mut Faults) -> Result<u64, StoreError> {
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

    async fn claim_due(
        self: &Arc<Self>,
        now: Option<Millis>,
        faults: &mut Faults,
    ) -> Result<u64, StoreError> {
        let mut webhooks = 0;
        let mut due = self.store.list_webhooks_due(now, LEASE_MILLIS).await?;
        if due.now < self.latest.swap(due.now, Ordering::AcqRel) {
            self.store.mend_retries(due.now).await?;
            due = self.store.list_webhooks_due(now, LEASE_MILLIS).await?;
        }
        for key in due.keys {
            if self.stop.is_cancelled() {
                break;
            }
            match self.store.claim_webhook(key, now, LEASE_MILLIS).await {
                Ok(Some(lease)) => {
                    webhooks += 1;
                    self.tracker.spawn(Arc::clone(self).tell(key, lease));
                }
                Ok(None) => {}
                Err(error) => faults.note(key, error),
            }
        }
        Ok(webhooks)
    }

    /// Sends a test now.
    pub async fn test(&self, webhook: &Webhook, now: Millis) -> Attempt {
        let (id, body) = body::test(webhook, now);
        let letter = Letter { url: &webhook.url, id: &id, now, body: &body };
        self.sender.send(&letter, webhook.secrets(now)).await
    }

    async fn attempt(&self, errand: &Errand) -> Attempt {
        let (id, body) = body::event(errand.log_id, &errand.event);
        let letter = Letter { url: &errand.webhook.url, id: &id, now: errand.now, body: &body };
        self.sender.send(&letter, errand.webhook.secrets(errand.now)).await
    }

    /// Sends nothing more. What is being sent goes on.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Stops, and waits for what is being sent; what is being sent still then is given up, and sent again by who
    /// comes next.
    pub async fn end(&self, until: Instant) {
        self.stop();
        if timeout_at(until, self.tracker.wait()).await.is_err() {
            self.cut.cancel();
            self.tracker.wait().await;
        }
    }

    async fn tell(self: Arc<Self>, key: WebhookKey, lease: Lease) {
        let outcome = tokio::select! {
            outcome = self.tell_all(key, lease) => outcome,
            () = self.cut.cancelled() => return,
        };
        if let Err(error) = outcome
            && let Some(left_out) = BROKEN_OFF.due(key.0)
        {
            tracing::warn!(
                webhook.key = key.0,
                error = &error as &dyn std::error::Error,
                log.left_out = left_out,
                "delivering to a webhook was broken off; it goes on when its lease has ended"
            );
        }
    }

    /// Sends one after the other what is due.
    async fn tell_all(&self, key: WebhookKey, mut lease: Lease) -> Result<(), StoreError> {
        let (mut failures, mut errands) = (0, 0_u32);
        while failures < FAILURES_MAX && !self.stop.is_cancelled() {
            errands = errands.wrapping_add(1);
            let next = if errands.is_multiple_of(RETRY_TURN) { Next::Retry } else { Next::Fresh };
            let Some((errand, kept)) = self.prepare(key, lease, next).await? else { break };
            lease = kept;
            let attempt = self.attempt(&errand).await;
            if attempt.succeeded() {
                failures = 0;
            } else {
                failures += 1;
                log_failure(&errand, &attempt);
            }
            let kept = (LEASE_MILLIS, random());
            let _turn = self.turns.acquire().await;
            match self.store.record_attempt(&errand, &attempt, lease, self.clock.now(), kept).await? {
                Some(kept) => lease = kept,
                None => return Ok(()),
            }
        }
        let _turn = self.turns.acquire().await;
        self.store.release_webhook(key, lease).await
    }

    /// What is to be sent next, and a lease that is long enough for it.
    async fn prepare(
        &self,
        key: WebhookKey,
        lease: Lease,
        next: Next,
    ) -> Result<Option<(Errand, Lease)>, StoreError> {
        let _turn = self.turns.acquire().await;
        let Some(errand) = self.store.find_errand(key, lease, next, self.clock.now()).await? else {
            return Ok(None);
        };
        if (LEFT_MIN_MILLIS..=LEASE_MILLIS).contains(&(lease.until() - errand.now)) {
            return Ok(Some((errand, lease)));
        }
        let renewed = self.store.renew_webhook(key, lease, self.clock.now(), LEASE_MILLIS).await?;
        Ok(renewed.map(|lease| (errand, lease)))
    }
}

/// ListDeliveries has them all.
fn log_failure(errand: &Errand, attempt: &Attempt) {
    if let Some(left_out) = FAILED.due(errand.webhook.key.0) {
        tracing::info!(
            webhook.id = errand.webhook.id,
            event.sequence = errand.delivery.sequence,
            delivery.attempts = errand.delivery.attempts + 1,
            delivery.error = attempt.error,
            log.left_out = left_out,
            "a delivery failed"
        );
    }
}

/// What went wrong with webhooks, each of which is logged.
#[derive(Debug, Default)]
struct Faults {
    first: Option<StoreError>,
}

impl Faults {
    fn note(&mut self, key: WebhookKey, error: StoreError) {
        if let Some(left_out) = UNTOLD.due(key.0) {
            tracing::warn!(
                webhook.key = key.0,
                error = &error as &dyn std::error::Error,
                log.left_out = left_out,
                "a webhook cannot be told of events now"
            );
        }
        self.first.get_or_insert(error);
    }
}
