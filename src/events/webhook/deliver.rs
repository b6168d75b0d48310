//! Delivering: the log is expanded for each webhook, and each webhook that has something to be sent has a task of its
//! own, so that a slow endpoint never holds up another.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::{Instant, timeout_at};
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
    store::{Errand, Lease, Store, StoreError},
};

/// For how long a process has a webhook to itself: an attempt, and what comes before and after it.
const LEASE_MILLIS: Millis = 2 * 1_000 * ATTEMPT_TIMEOUT.as_secs().cast_signed();

/// After so many failures in a row the webhook is left alone until the next look.
const FAILURES_MAX: u32 = 5;

/// Steps of the expansion that one look makes for a webhook.
const STEPS_MAX: u32 = 20;

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
    /// Nothing more is sent.
    stop: CancellationToken,
    /// What is being sent is given up.
    cut: CancellationToken,
    /// The leases of a process that was here before are void.
    fresh: AtomicBool,
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
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            fresh: AtomicBool::new(true),
        })
    }

    /// Where webhooks may be sent.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Looks for what is to be sent, and has it sent in the background. Replicas may do it at once: a webhook is told by
    /// one of them.
    ///
    /// # Errors
    ///
    /// When the database does not do it.
    pub async fn begin(self: &Arc<Self>, now: Option<Millis>) -> Result<Begun, StoreError> {
        if self.fresh.swap(false, Ordering::AcqRel) {
            self.store.release_webhooks_of_file().await?;
        }
        let mut begun = Begun::default();
        for key in self.store.list_webhooks_behind().await? {
            for _ in 0..STEPS_MAX {
                let expanded = self.store.expand_webhook(key, now).await?;
                begun.deliveries += expanded.deliveries;
                if !expanded.more {
                    break;
                }
            }
        }
        for key in self.store.list_webhooks_due(now).await? {
            if self.stop.is_cancelled() {
                break;
            }
            if let Some(lease) = self.store.claim_webhook(key, now, LEASE_MILLIS).await? {
                begun.webhooks += 1;
                self.tracker.spawn(Arc::clone(self).tell(key, lease));
            }
        }
        Ok(begun)
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

    /// Sends nothing more, and waits for what is being sent; what is being sent still then is given up, and sent again by who
    /// comes next.
    pub async fn end(&self, until: Instant) {
        self.stop.cancel();
        self.tracker.close();
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
        if let Err(error) = outcome {
            tracing::warn!(
                webhook.key = key.0,
                error = &error as &dyn std::error::Error,
                "delivering to a webhook was broken off; it goes on when its lease has ended"
            );
        }
    }

    /// Sends one after the other what is due.
    async fn tell_all(&self, key: WebhookKey, mut lease: Lease) -> Result<(), StoreError> {
        let mut failures = 0;
        while failures < FAILURES_MAX && !self.stop.is_cancelled() {
            let Some(errand) = self.store.find_errand(key, self.clock.now()).await? else { break };
            let attempt = self.attempt(&errand).await;
            if attempt.succeeded() {
                failures = 0;
            } else {
                failures += 1;
                tracing::info!(
                    webhook.id = errand.webhook.id,
                    event.sequence = errand.delivery.sequence,
                    delivery.attempts = errand.delivery.attempts + 1,
                    delivery.error = attempt.error,
                    "a delivery failed"
                );
            }
            let kept = (LEASE_MILLIS, random());
            match self.store.record_attempt(&errand, &attempt, lease, self.clock.now(), kept).await? {
                Some(kept) => lease = kept,
                None => return Ok(()),
            }
        }
        self.store.release_webhook(key, lease).await
    }
}
