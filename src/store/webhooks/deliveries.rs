//! Deliveries: creates them from the log for each webhook, gives each webhook to one process that sends them, and
//! records the outcome of each attempt.
//!
//! A webhook belongs to one process at a time. The process writes the end of its lease into `claimed_until`, and
//! postpones it with each attempt. If a process dies, another process takes the webhook after the end of the lease. If
//! the dead process has sent deliveries and not recorded them, they are sent again.

use sea_orm::{Value, sea_query::ArrayType};

use super::admin::{webhook_columns, webhook_from_row};
use crate::{
    domain::{
        event::{Event, Fact, LoggedEvent},
        time::{Span, Time},
        webhook::{
            Attempt, Delivery, DeliveryState, Webhook, WebhookKey, WebhookState, after_failure, retry_at,
        },
    },
    store::{
        Dialect, Job, Reading, Store, StoreError, Transaction,
        bulk::{Bulk, empty_columns, push},
        row::Row,
    },
};

use ArrayType::BigInt;

/// Maximum number of events for which one step creates deliveries.
const EXPANDED_EVENTS: usize = 500;

/// The columns of a delivery, in the order of [`delivery_from_row`].
macro_rules! delivery_columns {
    () => {
        "d.sequence, d.state, d.attempts, d.next_attempt_at, d.attempted_at, d.response_status, d.error, d.created_at"
    };
}
pub(super) use delivery_columns;

/// The webhook's row is locked, so no other process makes the same deliveries.
static INSERT_DELIVERIES: Bulk = Bulk {
    columns: &[BigInt, BigInt, BigInt],
    postgres: "INSERT INTO deliveries (webhook_key, sequence, state, attempts, next_attempt_at, response_status, error,
                            created_at)
     SELECT a, b, 1, 0, 0, 0, '', c FROM UNNEST($1, $2, $3) AS w (a, b, c)",
    sqlite: "INSERT OR FAIL INTO deliveries (webhook_key, sequence, state, attempts, next_attempt_at, response_status,
                                     error, created_at)
     VALUES (?1, ?2, 1, 0, 0, 0, '', ?3)",
};

/// A process's right to a webhook. The lease is lost once `claimed_until` of the webhook's row has another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(Time);

impl Lease {
    /// Returns when the lease ends, unless it is renewed.
    pub fn until(self) -> Time {
        self.0
    }
}

/// The result of one step that creates deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// How many deliveries were made.
    pub deliveries: u64,
    /// Whether there may be more events that need deliveries.
    pub more: bool,
}

/// The webhooks that have deliveries to be sent now.
#[derive(Clone, Debug)]
pub struct DueWebhooks {
    /// The time of the query that found the webhooks.
    pub now: Time,
    /// The webhooks, in the order of keys.
    pub keys: Vec<WebhookKey>,
}

/// Which of the due deliveries is sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The first delivery in the order of the log that was not tried yet. If all were tried, the longest overdue retry.
    Fresh,
    /// The longest overdue retry. If no retry is due, the first delivery that was not tried yet.
    Retry,
}

/// A delivery to be sent next, with all that its attempt needs.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// The webhook that the delivery is sent to.
    pub webhook: Webhook,
    /// The delivery to be sent.
    pub delivery: Delivery,
    /// The event that is delivered.
    pub event: LoggedEvent,
    /// The id of the event's log.
    pub log_id: [u8; 16],
    /// The time of the query that found the delivery.
    pub now: Time,
}

impl Store {
    /// Lists the active webhooks for which deliveries are not created up to the end of the log.
    ///
    /// # Errors
    ///
    /// When the database does not answer. This is true for all functions below.
    pub async fn list_webhooks_behind(&self) -> Result<Vec<WebhookKey>, StoreError> {
        let text = "SELECT w.key FROM webhooks w, event_log l
              WHERE w.state = 1 AND w.cursor < l.last_sequence ORDER BY w.key";
        self.list_keys("list webhooks behind", text, Vec::new()).await
    }

    /// Lists the active webhooks that have due deliveries and no valid lease. A lease that ends more than `length`
    /// from now was taken before the clock was set back, and is not valid.
    pub async fn list_webhooks_due(
        &self,
        shown: Option<Time>,
        length: Span,
    ) -> Result<DueWebhooks, StoreError> {
        let transaction = self.begin_read("read the time").await?;
        let now = transaction.now(shown).await?;
        transaction.rollback().await?;
        let text = "SELECT w.key FROM webhooks w
              WHERE w.state = 1 AND (w.claimed_until <= $1 OR w.claimed_until > $2) AND EXISTS (
                SELECT 1 FROM deliveries d
                 WHERE d.webhook_key = w.key AND d.state = 1 AND d.next_attempt_at <= $1
            ) ORDER BY w.key";
        let values = vec![now.into(), now.saturating_add(length).into()];
        Ok(DueWebhooks { now, keys: self.list_keys("list webhooks due", text, values).await? })
    }

    /// Makes deliveries due whose last attempt is in the future. The clock was ahead at that attempt, so the next
    /// attempt would come too late.
    pub async fn mend_retries(&self, now: Time) -> Result<(), StoreError> {
        let mend = move |transaction: Transaction<Job>| async move {
            let text = "UPDATE deliveries SET next_attempt_at = $1
                  WHERE webhook_key IN (SELECT key FROM webhooks) AND state = 1 AND next_attempt_at > $1
                    AND attempted_at > $1 RETURNING sequence";
            transaction.rows(text, vec![now.into()]).await?;
            transaction.commit().await
        };
        self.run_job("mend retries", mend).await
    }

    async fn list_keys(
        &self,
        name: &'static str,
        text: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<WebhookKey>, StoreError> {
        let transaction = self.begin_read(name).await?;
        let rows = transaction.rows(text, values).await?;
        transaction.rollback().await?;
        rows.iter().map(|row| Ok(WebhookKey(row.get(0)?))).collect()
    }

    /// Makes the deliveries of a webhook for the next events after its cursor.
    pub async fn expand_webhook(&self, key: WebhookKey, shown: Option<Time>) -> Result<Expanded, StoreError> {
        self.run_job("expand webhook", move |transaction| transaction.expand(key, shown)).await
    }

    /// Ends all leases on webhooks of a SQLite file. Only one process uses the file, so the processes that took the
    /// leases no longer run. On PostgreSQL other replicas may run, so this does nothing.
    pub async fn release_webhooks_of_file(&self) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            return Ok(());
        }
        let release = |transaction: Transaction<Job>| async move {
            let text = "UPDATE webhooks SET claimed_until = 0 WHERE claimed_until > 0 RETURNING key";
            transaction.rows(text, Vec::new()).await?;
            transaction.commit().await
        };
        self.run_job("release webhooks", release).await
    }

    /// Takes a webhook for this process, for a span of `length`. Returns `None` if another process was faster.
    pub async fn claim_webhook(
        &self,
        key: WebhookKey,
        shown: Option<Time>,
        length: Span,
    ) -> Result<Option<Lease>, StoreError> {
        self.run_job("claim webhook", move |transaction| transaction.claim(key, shown, length)).await
    }

    /// Ends a lease, if this process still has it.
    pub async fn release_webhook(&self, key: WebhookKey, lease: Lease) -> Result<(), StoreError> {
        let release = move |transaction: Transaction<Job>| async move {
            let text =
                "UPDATE webhooks SET claimed_until = 0 WHERE key = $1 AND claimed_until = $2 RETURNING key";
            transaction.rows(text, vec![key.0.into(), lease.0.into()]).await?;
            transaction.commit().await
        };
        self.run_job("release webhook", release).await
    }

    /// Renews a lease, to a `length` from now. Returns `None` if the lease was lost.
    pub async fn renew_webhook(
        &self,
        key: WebhookKey,
        lease: Lease,
        shown: Option<Time>,
        length: Span,
    ) -> Result<Option<Lease>, StoreError> {
        let renew = move |transaction: Transaction<Job>| async move {
            let kept = Lease(transaction.now(shown).await?.saturating_add(length));
            let text =
                "UPDATE webhooks SET claimed_until = $1 WHERE key = $2 AND claimed_until = $3 RETURNING key";
            let rows = transaction.rows(text, vec![kept.0.into(), key.0.into(), lease.0.into()]).await?;
            transaction.commit().await?;
            Ok((!rows.is_empty()).then_some(kept))
        };
        self.run_job("renew webhook", renew).await
    }

    /// Finds the next delivery of a webhook to be sent. Returns `None` if none is due, if the webhook is no longer
    /// active, or if the lease was lost.
    pub async fn find_due_delivery(
        &self,
        key: WebhookKey,
        lease: Lease,
        next: Next,
        shown: Option<Time>,
    ) -> Result<Option<DueDelivery>, StoreError> {
        let transaction = self.begin_read("find due delivery").await?;
        let now = transaction.now(shown).await?;
        let text = concat!(
            "SELECT ",
            webhook_columns!(),
            " FROM webhooks WHERE key = $1 AND state = 1 AND claimed_until = $2"
        );
        let rows = transaction.rows(text, vec![key.0.into(), lease.0.into()]).await?;
        let Some(webhook) = rows.first().map(webhook_from_row).transpose()? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let mut delivery = None;
        if next == Next::Retry {
            delivery = transaction.find_due(key, Time(1), now).await?;
        }
        if delivery.is_none() {
            delivery = transaction.find_due(key, Time::EPOCH, now).await?;
        }
        let Some(delivery) = delivery else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let event = transaction.list_events(None, delivery.sequence - 1, 1).await?.pop();
        let log_id = transaction.read_log().await?.log_id;
        transaction.rollback().await?;
        Ok(event.map(|event| DueDelivery { webhook, delivery, event, log_id, now }))
    }

    /// Records the outcome of an attempt, and renews the lease, to a `length` from now. `chance`, a random number,
    /// spreads retries. Returns `None` if the lease was lost, or the webhook is no longer active.
    pub async fn record_attempt(
        &self,
        due: DueDelivery,
        attempt: Attempt,
        lease: Lease,
        shown: Option<Time>,
        length: Span,
        chance: u32,
    ) -> Result<Option<Lease>, StoreError> {
        let record = move |transaction: Transaction<Job>| {
            transaction.record(due, attempt, lease, shown, length, chance)
        };
        self.run_job("record attempt", record).await
    }
}

impl Transaction<Reading> {
    /// Finds the delivery that is due first, among those with `next_attempt_at` from `from` to `now`.
    async fn find_due(&self, key: WebhookKey, from: Time, now: Time) -> Result<Option<Delivery>, StoreError> {
        let text = concat!(
            "SELECT ",
            delivery_columns!(),
            " FROM deliveries d JOIN events e ON e.sequence = d.sequence
              WHERE d.webhook_key = $1 AND d.state = 1 AND d.next_attempt_at >= $2 AND d.next_attempt_at <= $3
              ORDER BY d.next_attempt_at, d.sequence LIMIT 1"
        );
        let rows = self.rows(text, vec![key.0.into(), from.into(), now.into()]).await?;
        rows.first().map(delivery_from_row).transpose()
    }
}

impl Transaction<Job> {
    async fn expand(self, key: WebhookKey, shown: Option<Time>) -> Result<Expanded, StoreError> {
        // The update locks the webhook, so that two replicas do not make the same deliveries.
        let text = concat!(
            "UPDATE webhooks SET cursor = cursor WHERE key = $1 AND state = 1 RETURNING ",
            webhook_columns!()
        );
        let rows = self.rows(text, vec![key.0.into()]).await?;
        let Some(webhook) = rows.first().map(webhook_from_row).transpose()? else {
            self.rollback().await?;
            return Ok(Expanded::default());
        };
        let now = self.now(shown).await?;
        let events = self.list_events(None, webhook.cursor, EXPANDED_EVENTS).await?;
        let mut columns = empty_columns(3);
        for LoggedEvent { sequence, event, .. } in &events {
            if webhook.wants(&event.tenant, event.kind()) {
                push(&mut columns, [key.0.into(), (*sequence).into(), now.into()]);
            }
        }
        let cursor = events.last().map_or(webhook.cursor, |last| last.sequence);
        let deliveries = columns[0].len() as u64;
        self.write(vec![(&INSERT_DELIVERIES, columns)]).await?;
        let text = "UPDATE webhooks SET cursor = $1 WHERE key = $2 RETURNING key";
        self.rows(text, vec![cursor.into(), key.0.into()]).await?;
        self.commit().await?;
        Ok(Expanded { deliveries, more: events.len() == EXPANDED_EVENTS })
    }

    async fn claim(
        self,
        key: WebhookKey,
        shown: Option<Time>,
        length: Span,
    ) -> Result<Option<Lease>, StoreError> {
        let now = self.now(shown).await?;
        let lease = Lease(now.saturating_add(length));
        // A lease that ends later than this one was taken before the clock was set back.
        let text = "UPDATE webhooks SET claimed_until = $1
              WHERE key = $2 AND state = 1 AND (claimed_until <= $3 OR claimed_until > $1) RETURNING key";
        let rows = self.rows(text, vec![lease.0.into(), key.0.into(), now.into()]).await?;
        self.commit().await?;
        Ok((!rows.is_empty()).then_some(lease))
    }

    async fn record(
        self,
        due: DueDelivery,
        attempt: Attempt,
        lease: Lease,
        shown: Option<Time>,
        length: Span,
        chance: u32,
    ) -> Result<Option<Lease>, StoreError> {
        let now = self.now(shown).await?;
        let kept = Lease(now.saturating_add(length));
        let key = due.webhook.key;
        let text = "UPDATE webhooks SET claimed_until = $1 WHERE key = $2 AND claimed_until = $3
              RETURNING state, failing_since, url";
        let rows = self.rows(text, vec![kept.0.into(), key.0.into(), lease.0.into()]).await?;
        let Some(row) = rows.first() else {
            self.rollback().await?;
            return Ok(None);
        };
        self.save_attempt(&due, &attempt, now, chance).await?;
        let active = row.get::<i16>(0)? == WebhookState::Active.code();
        let failing_since: Option<Time> = row.get(1)?;
        // The answer of another URL says nothing about this URL, and failures of a webhook that is not active do not
        // count.
        let concerned = active && row.get::<String>(2)? == due.webhook.url;
        let (state, since) = if !concerned {
            (WebhookState::Active, failing_since)
        } else if attempt.succeeded() {
            (WebhookState::Active, None)
        } else {
            let (state, since) = after_failure(&attempt, failing_since, now);
            (state, Some(since))
        };
        if since != failing_since {
            let text = "UPDATE webhooks SET failing_since = $1 WHERE key = $2 RETURNING key";
            self.rows(text, vec![since.into(), key.0.into()]).await?;
        }
        if active && state == WebhookState::Active {
            self.commit().await?;
            return Ok(Some(kept));
        }
        let text = "UPDATE webhooks SET claimed_until = 0 WHERE key = $1 RETURNING key";
        self.rows(text, vec![key.0.into()]).await?;
        if active {
            let text = "UPDATE webhooks SET state = $1 WHERE key = $2 RETURNING key";
            self.rows(text, vec![state.code().into(), key.0.into()]).await?;
            let fact = Fact::WebhookDisabled { id: due.webhook.id.clone(), state };
            self.append_event(&Event::of_no_tenant(now, fact)).await?;
        }
        self.commit().await?;
        Ok(None)
    }

    async fn save_attempt(
        &self,
        due: &DueDelivery,
        attempt: &Attempt,
        now: Time,
        chance: u32,
    ) -> Result<(), StoreError> {
        let attempts = due.delivery.attempts.saturating_add(1);
        let (state, next_attempt_at) = if attempt.succeeded() {
            (DeliveryState::Delivered, Time::EPOCH)
        } else {
            match retry_at(attempts, now, chance) {
                Some(next) => (DeliveryState::Pending, next),
                None => (DeliveryState::Failed, Time::EPOCH),
            }
        };
        let text = "UPDATE deliveries SET state = $1, attempts = $2, next_attempt_at = $3, attempted_at = $4,
                   response_status = $5, error = $6
              WHERE webhook_key = $7 AND sequence = $8 AND state = 1 AND attempts = $9 AND next_attempt_at = $10
              RETURNING sequence";
        let outcome: [Value; 3] = [now.into(), attempt.response_status.into(), attempt.error.as_str().into()];
        let place: [Value; 2] = [due.webhook.key.0.into(), due.delivery.sequence.into()];
        let mut values: Vec<Value> = vec![state.code().into(), attempts.into(), next_attempt_at.into()];
        values.extend(outcome.clone());
        values.extend(place.clone());
        values.extend([due.delivery.attempts.into(), due.delivery.next_attempt_at.into()]);
        if self.rows(text, values).await?.is_empty() {
            // Redeliver was called meanwhile, so the delivery must still be sent.
            let text = "UPDATE deliveries SET attempted_at = $1, response_status = $2, error = $3
                  WHERE webhook_key = $4 AND sequence = $5 RETURNING sequence";
            self.rows(text, outcome.into_iter().chain(place).collect()).await?;
        }
        Ok(())
    }
}

/// Reads a delivery from the columns of [`delivery_columns`].
pub(super) fn delivery_from_row(row: &Row) -> Result<Delivery, StoreError> {
    let state = DeliveryState::from_code(row.get(1)?);
    Ok(Delivery {
        sequence: row.get(0)?,
        state: state.ok_or_else(|| StoreError::Corrupt("state of a delivery".to_owned()))?,
        attempts: row.get(2)?,
        next_attempt_at: row.get(3)?,
        attempted_at: row.get(4)?,
        response_status: row.get(5)?,
        error: row.get(6)?,
        created_at: row.get(7)?,
    })
}
