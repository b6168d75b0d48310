//! Webhooks: create, update, delete, read, rotate secrets, redeliver.

use sea_orm::Value;

use crate::{
    domain::{
        audit::ThingKind,
        bounds::WEBHOOKS_MAX,
        etag::check_etag,
        event_kind::EventKind,
        refusal::Refusal,
        time::{Span, Time},
        webhook::{Secret, Webhook, WebhookKey, WebhookState},
    },
    store::{
        AdminError, By, Dialect, Reading, Statements, Store, StoreError, Thing, Transaction, Writing,
        admin::{Page, changes, lock_policy, rows_to_read},
        audit::Deed,
        row::Row,
    },
};

/// Maximum number of failed deliveries that one Redeliver sends again.
const REDELIVERED_ROWS: i64 = 10_000;

/// The columns of a webhook, in the order of [`webhook_from_row`].
macro_rules! webhook_columns {
    () => {
        "key, id, url, description, tenants, kinds, state, secret, old_secret, old_secret_until, cursor, \
         failing_since, created_at, updated_at"
    };
}
pub(super) use webhook_columns;

/// A webhook to be created.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// The random key of the webhook's rows.
    pub key: WebhookKey,
    /// The webhook's id as clients write it.
    pub id: String,
    /// The URL to which events are posted.
    pub url: String,
    /// A description for people to read.
    pub description: String,
    /// Only events of these tenants are sent. If empty, events of all tenants are sent.
    pub tenants: Vec<String>,
    /// Only events of these kinds are sent. If empty, events of all kinds are sent.
    pub kinds: Vec<EventKind>,
    /// Whether the webhook is notified of events.
    pub state: WebhookState,
    /// The secret with which events are signed.
    pub secret: Secret,
}

/// The fields of a webhook to change; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// The URL to which events are posted.
    pub url: Option<String>,
    /// A description for people to read.
    pub description: Option<String>,
    /// Only events of these tenants are sent. If empty, events of all tenants are sent.
    pub tenants: Option<Vec<String>>,
    /// Only events of these kinds are sent. If empty, events of all kinds are sent.
    pub kinds: Option<Vec<EventKind>>,
    /// Whether the webhook is notified of events.
    pub state: Option<WebhookState>,
    /// The etag that the webhook must have. Empty: any.
    pub etag: String,
}

impl WebhookChange {
    /// Returns whether any field would be different.
    fn alters(&self, found: &Webhook) -> bool {
        let Self { url, description, tenants, kinds, state, etag: _ } = self;
        changes(url, &found.url)
            || changes(description, &found.description)
            || changes(tenants, &found.tenants)
            || changes(kinds, &found.kinds)
            || changes(state, &found.state)
    }
}

impl Store {
    /// Creates a webhook, which is notified of the events that get their places from now on.
    pub async fn create_webhook(&self, by: By<'_>, new: &NewWebhook) -> Result<Webhook, AdminError> {
        self.run("create webhook", move |transaction| async move {
            lock_policy(&transaction).await?;
            if find(&transaction, &new.id).await?.is_some() {
                return Err(Refusal::NameTaken { kind: "webhook", id: new.id.clone() }.into());
            }
            let rows = transaction.rows("SELECT COUNT(*) FROM webhooks", Vec::new()).await?;
            let count: i64 = rows.first().map(|row| row.get(0)).transpose()?.unwrap_or(0);
            if u64::try_from(count).unwrap_or(0) >= WEBHOOKS_MAX {
                return Err(Refusal::TooManyWebhooks(WEBHOOKS_MAX).into());
            }
            let now = transaction.now(by.shown).await?;
            let text =
                "INSERT INTO webhooks (key, id, url, description, tenants, kinds, state, secret, cursor,
                                              claimed_until, created_at, updated_at)
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8, last_sequence, 0, $9, $9 FROM event_log WHERE id = 1
                 RETURNING key";
            let values = vec![
                new.key.0.into(),
                new.id.as_str().into(),
                new.url.as_str().into(),
                new.description.as_str().into(),
                json(&new.tenants)?,
                codes(&new.kinds)?,
                new.state.code().into(),
                new.secret.bytes().to_vec().into(),
                now.into(),
            ];
            transaction.rows(text, values).await?;
            let made = get(&transaction, &new.id).await?;
            transaction.note_change(by, deed(now, (None, Some(&made)))).await?;
            Ok((transaction, made))
        })
        .await
    }

    /// Changes a webhook. Has no effect if all given values are equal to the present values. If a webhook becomes
    /// active again, it resumes after its last event.
    pub async fn update_webhook(
        &self,
        by: By<'_>,
        id: &str,
        change: &WebhookChange,
    ) -> Result<Webhook, AdminError> {
        self.run("update webhook", move |transaction| async move {
            lock_policy(&transaction).await?;
            let found = get_locked(&transaction, id).await?;
            check_etag(&change.etag, || found.etag(), "webhook", id)?;
            let now = transaction.now(by.shown).await?;
            if !change.alters(&found) {
                return Ok((transaction, found.at(now)));
            }
            let (before, change) = (found.clone().at(now), change.clone());
            // The failures of the old endpoint say nothing about the new endpoint.
            let text =
                "UPDATE webhooks SET url = $2, description = $3, tenants = $4, kinds = $5, updated_at = $6,
                       failing_since = CASE WHEN url = $2 THEN failing_since END,
                       old_secret = CASE WHEN old_secret_until > $7 THEN old_secret END,
                       old_secret_until = CASE WHEN old_secret_until > $7 THEN old_secret_until END
                  WHERE key = $1 RETURNING key";
            let values = vec![
                found.key.0.into(),
                change.url.unwrap_or(found.url).into(),
                change.description.unwrap_or(found.description).into(),
                json(&change.tenants.unwrap_or(found.tenants))?,
                codes(&change.kinds.unwrap_or(found.kinds))?,
                now.max(found.updated_at).into(),
                now.into(),
            ];
            transaction.rows(text, values).await?;
            if let Some(state) = change.state {
                // An attempt that ended meanwhile may have changed the state.
                let text =
                    "UPDATE webhooks SET state = $2, failing_since = NULL WHERE key = $1 AND state <> $2
                      RETURNING key";
                transaction.rows(text, vec![found.key.0.into(), state.code().into()]).await?;
            }
            let changed = get(&transaction, id).await?;
            transaction.note_change(by, deed(now, (Some(&before), Some(&changed)))).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Gives a webhook another secret. The previous secret stays valid for the `overlap`. If the webhook has the given
    /// secret already, nothing changes: the call may be a retry.
    pub async fn rotate_webhook_secret(
        &self,
        by: By<'_>,
        id: &str,
        secret: &Secret,
        overlap: Span,
    ) -> Result<Webhook, AdminError> {
        self.run("rotate webhook secret", move |transaction| async move {
            lock_policy(&transaction).await?;
            let found = get(&transaction, id).await?;
            let now = transaction.now(by.shown).await?;
            if found.secret == *secret {
                return Ok((transaction, found.at(now)));
            }
            let text =
                "UPDATE webhooks SET old_secret = secret, old_secret_until = $3, secret = $2, updated_at = $4
                  WHERE key = $1 RETURNING key";
            let values = vec![
                found.key.0.into(),
                secret.bytes().to_vec().into(),
                now.saturating_add(overlap).into(),
                now.max(found.updated_at).into(),
            ];
            transaction.rows(text, values).await?;
            let changed = get(&transaction, id).await?.at(now);
            transaction.note_change(by, deed(now, (Some(&found.at(now)), Some(&changed)))).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Makes deliveries of a webhook due at once, so that they are sent again: the deliveries of the events at
    /// `sequences`, or the oldest FAILED deliveries if `sequences` is empty. Returns the number of these deliveries.
    pub async fn redeliver(&self, by: By<'_>, id: &str, sequences: &[i64]) -> Result<u64, AdminError> {
        self.run("redeliver", move |transaction| async move {
            let webhook = get(&transaction, id).await?;
            let mut count = sequences.len() as u64;
            if sequences.is_empty() {
                // A range up to a place, since PostgreSQL would search a list of places for each row.
                let text = "UPDATE deliveries SET state = 1, attempts = 0, next_attempt_at = 0
                      WHERE webhook_key = $1 AND state = 3 AND sequence <= (
                        SELECT MAX(sequence) FROM (
                            SELECT sequence FROM deliveries WHERE webhook_key = $1 AND state = 3
                             ORDER BY sequence LIMIT $2
                        ) AS next
                      ) RETURNING sequence";
                let values = vec![webhook.key.0.into(), REDELIVERED_ROWS.into()];
                count = transaction.rows(text, values).await?.len() as u64;
            }
            for &sequence in sequences {
                let text = "UPDATE deliveries SET state = 1, attempts = 0, next_attempt_at = 0
                      WHERE webhook_key = $1 AND sequence = $2 RETURNING sequence";
                if transaction.rows(text, vec![webhook.key.0.into(), sequence.into()]).await?.is_empty() {
                    return Err(Refusal::DeliveryNotFound { webhook: id.to_owned(), sequence }.into());
                }
            }
            if count > 0 {
                let at = transaction.now(by.shown).await?;
                let after = Some(Thing::Redelivery(sequences, count));
                let things = deed(at, (Some(&webhook), None));
                transaction.note_change(by, Deed { before: None, after, ..things }).await?;
            }
            Ok((transaction, count))
        })
        .await
    }

    /// Deletes a webhook. Its deliveries are pruned later. Refuses if the webhook has another etag than `etag`, unless
    /// that is empty.
    pub async fn delete_webhook(&self, by: By<'_>, id: &str, etag: &str) -> Result<(), AdminError> {
        self.run("delete webhook", move |transaction| async move {
            lock_policy(&transaction).await?;
            let found = get_locked(&transaction, id).await?;
            check_etag(etag, || found.etag(), "webhook", id)?;
            let text = "DELETE FROM webhooks WHERE key = $1 RETURNING key";
            transaction.rows(text, vec![found.key.0.into()]).await?;
            let now = transaction.now(by.shown).await?;
            transaction.note_change(by, deed(now, (Some(&found.at(now)), None))).await?;
            Ok((transaction, ()))
        })
        .await
    }
}

impl Transaction<Reading> {
    /// Returns the webhook of an id, or the refusal WEBHOOK_NOT_FOUND. Leaves out a previous secret that is no longer
    /// valid.
    pub async fn get_webhook(&self, shown: Option<Time>, id: &str) -> Result<Webhook, AdminError> {
        let now = self.now(shown).await?;
        Ok(get(self, id).await?.at(now))
    }

    /// Lists the webhooks after an id, or from the first webhook on. Leaves out previous secrets that are no longer
    /// valid.
    pub async fn list_webhooks(
        &self,
        shown: Option<Time>,
        after: Option<&str>,
        size: usize,
    ) -> Result<Page<Webhook>, StoreError> {
        let now = self.now(shown).await?;
        let text =
            concat!("SELECT ", webhook_columns!(), " FROM webhooks WHERE id > $1 ORDER BY id LIMIT $2");
        let limit = i64::try_from(rows_to_read(size)).unwrap_or(i64::MAX);
        let rows = self.rows(text, vec![after.unwrap_or("").into(), limit.into()]).await?;
        let found = rows.iter().map(|row| Ok(webhook_from_row(row)?.at(now)));
        Ok(Page::of(found.collect::<Result<_, StoreError>>()?, size))
    }
}

/// Makes the row of the audit of a change.
fn deed<'a>(at: Time, (before, after): (Option<&'a Webhook>, Option<&'a Webhook>)) -> Deed<'a> {
    Deed {
        at,
        kind: ThingKind::Webhook,
        thing: before.or(after).map_or("", |webhook| &webhook.id),
        tenant: "",
        before: before.map(Thing::Webhook),
        after: after.map(Thing::Webhook),
        revision: None,
    }
}

async fn find(transaction: &Transaction<impl Statements>, id: &str) -> Result<Option<Webhook>, StoreError> {
    let text = concat!("SELECT ", webhook_columns!(), " FROM webhooks WHERE id = $1");
    transaction.rows(text, vec![id.into()]).await?.first().map(webhook_from_row).transpose()
}

async fn get(transaction: &Transaction<impl Statements>, id: &str) -> Result<Webhook, AdminError> {
    let found = find(transaction, id).await?;
    found.ok_or_else(|| Refusal::WebhookNotFound(id.to_owned()).into())
}

/// Locks the row of a webhook, and returns the webhook. Without the lock, an attempt that ends meanwhile could change the
/// state after the etag was checked. SQLite has one writer and needs no lock.
async fn get_locked(transaction: &Transaction<Writing>, id: &str) -> Result<Webhook, AdminError> {
    if transaction.dialect() == Dialect::Postgres {
        transaction.rows("SELECT key FROM webhooks WHERE id = $1 FOR UPDATE", vec![id.into()]).await?;
    }
    get(transaction, id).await
}

/// Reads a webhook from the columns of [`webhook_columns`].
pub(super) fn webhook_from_row(row: &Row) -> Result<Webhook, StoreError> {
    let id: String = row.get(1)?;
    let corrupt = |what: &str| StoreError::Corrupt(format!("{what} of webhook {id:?}"));
    let tenants: String = row.get(4)?;
    let kinds: String = row.get(5)?;
    let old_secret: Option<Vec<u8>> = row.get(8)?;
    let old_secret_until: Option<Time> = row.get(9)?;
    Ok(Webhook {
        key: WebhookKey(row.get(0)?),
        url: row.get(2)?,
        description: row.get(3)?,
        tenants: serde_json::from_str(&tenants).map_err(|_| corrupt("tenants"))?,
        kinds: serde_json::from_str::<Vec<i16>>(&kinds)
            .ok()
            .and_then(|codes| codes.into_iter().map(EventKind::from_code).collect())
            .ok_or_else(|| corrupt("kinds"))?,
        state: WebhookState::from_code(row.get(6)?).ok_or_else(|| corrupt("state"))?,
        secret: Secret::from_bytes(row.get(7)?),
        old_secret: old_secret.map(Secret::from_bytes).zip(old_secret_until),
        cursor: row.get(10)?,
        failing_since: row.get(11)?,
        created_at: row.get(12)?,
        updated_at: row.get(13)?,
        id,
    })
}

fn codes(kinds: &[EventKind]) -> Result<Value, StoreError> {
    json(&kinds.iter().map(|kind| kind.code()).collect::<Vec<_>>())
}

fn json<T: serde::Serialize>(values: &[T]) -> Result<Value, StoreError> {
    let text = serde_json::to_string(values);
    text.map(Value::from).map_err(|error| {
        StoreError::Corrupt(format!("a webhook's filter cannot be written as JSON: {error}"))
    })
}
