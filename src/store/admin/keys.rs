//! Keys: create, update, delete. A change of keys raises the revision of the policy, so the next batch on every server
//! compares the keys of its callers again (R7.4).

use std::collections::BTreeSet;

use super::{
    super::{
        audit::{By, Deed, Thing},
        connect::Store,
        error::{AdminError, StoreError},
        keys::{key_from_row, keys_query, list_text},
        policy::POLICY_ROW,
        transaction::{Transaction, Writing},
    },
    Done, changed_fields, changes, emit_change, lock_policy, next_revision,
};
use crate::domain::{
    access::{Key, KeyState, Role},
    audit::ThingKind,
    bounds::KEYS_MAX,
    etag::check_etag,
    event::ChangedKind,
    refusal::Refusal,
    time::Time,
};

/// A key to be created.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The id of the key, from random letters.
    pub id: String,
    /// The SHA-256 of the secret.
    pub hash: [u8; 32],
    /// The name in the certificate of the client that stands for the key. `None`: the secret does.
    pub certificate_san: Option<String>,
    /// What the owner may do.
    pub role: Role,
    /// The tenants that the owner may name. Empty: all.
    pub tenants: BTreeSet<String>,
    /// The agents that the owner may name. Empty: all.
    pub agents: BTreeSet<String>,
    /// A name for people to read.
    pub display_name: String,
    /// When the key ends. `None`: never.
    pub expires_at: Option<Time>,
}

/// The fields of a key to change; `None` leaves a field as it is. A key never gets another role or other tenants: make
/// a new key.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// A name for people to read.
    pub display_name: Option<String>,
    /// Whether the key is valid.
    pub state: Option<KeyState>,
    /// When the key ends. Inner `None`: never.
    pub expires_at: Option<Option<Time>>,
    /// The etag that the key must have. Empty: any.
    pub etag: String,
}

impl Store {
    /// Creates a key. Refuses if the id or the name of the certificate is taken, or if there are too many keys.
    pub async fn create_key(&self, by: By<'_>, new: &NewKey) -> Result<Key, AdminError> {
        self.run("create key", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            if find(&transaction, &new.id).await?.is_some() {
                return Err(Refusal::NameTaken { kind: "key", id: new.id.clone() }.into());
            }
            if let Some(san) = &new.certificate_san {
                let text = "SELECT id FROM keys WHERE certificate_san = $1";
                if !transaction.rows(text, vec![san.as_str().into()]).await?.is_empty() {
                    return Err(Refusal::NameTaken { kind: "certificate_san", id: san.clone() }.into());
                }
            }
            let rows = transaction.rows("SELECT COUNT(*) FROM keys", Vec::new()).await?;
            let count: i64 = rows.first().map(|row| row.get(0)).transpose()?.unwrap_or(0);
            if u64::try_from(count).unwrap_or(0) >= KEYS_MAX {
                return Err(Refusal::TooManyKeys(KEYS_MAX).into());
            }
            let now = transaction.now(by.shown).await?;
            let text = "INSERT INTO keys (id, hash, role, tenants, agents, display_name, state, expire_at, created_at,
                                          updated_at, certificate_san)
                        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)";
            let values = vec![
                new.id.as_str().into(),
                new.hash.to_vec().into(),
                new.role.code().into(),
                list_text(&new.tenants)?.into(),
                list_text(&new.agents)?.into(),
                new.display_name.as_str().into(),
                KeyState::Active.code().into(),
                new.expires_at.map(|at| at.0).into(),
                now.into(),
                new.certificate_san.clone().into(),
            ];
            transaction.rows(text, values).await?;
            let made = get(&transaction, &new.id).await?;
            finish(&transaction, by, revision, now, (None, Some(&made)), Done::Created).await?;
            Ok((transaction, made))
        })
        .await
    }

    /// Changes a key. Has no effect if all given values are equal to the present values.
    pub async fn update_key(&self, by: By<'_>, id: &str, change: &KeyChange) -> Result<Key, AdminError> {
        self.run("update key", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            let found = get(&transaction, id).await?;
            check_etag(&change.etag, || found.etag(), "key", id)?;
            let KeyChange { display_name, state, expires_at, etag: _ } = change;
            let fields = changed_fields([
                ("display_name", changes(display_name, &found.display_name)),
                ("expire_time", changes(expires_at, &found.expires_at)),
                ("state", changes(state, &found.state)),
            ]);
            if fields.is_empty() {
                return Ok((transaction, found));
            }
            let now = transaction.now(by.shown).await?.max(found.updated_at);
            let text = "UPDATE keys SET display_name = $2, state = $3, expire_at = $4, updated_at = $5 WHERE id = $1";
            let values = vec![
                id.into(),
                display_name.as_deref().unwrap_or(&found.display_name).into(),
                state.unwrap_or(found.state).code().into(),
                expires_at.unwrap_or(found.expires_at).map(|at| at.0).into(),
                now.into(),
            ];
            transaction.rows(text, values).await?;
            let changed = get(&transaction, id).await?;
            let things = (Some(&found), Some(&changed));
            finish(&transaction, by, revision, now, things, Done::Updated(fields)).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Deletes a key. Refuses if there is none.
    pub async fn delete_key(&self, by: By<'_>, id: &str, etag: &str) -> Result<(), AdminError> {
        self.run("delete key", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            let found = get(&transaction, id).await?;
            check_etag(etag, || found.etag(), "key", id)?;
            let now = transaction.now(by.shown).await?;
            transaction.rows("DELETE FROM keys WHERE id = $1", vec![id.into()]).await?;
            finish(&transaction, by, revision, now, (Some(&found), None), Done::Deleted).await?;
            Ok((transaction, ()))
        })
        .await
    }

    /// Notes when keys were last used, at most 1,000 of them. A key that was used later already, or that was deleted,
    /// is left as it is.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn note_keys_used(&self, used: &[(String, Time)]) -> Result<(), StoreError> {
        let transaction = self.begin_write("note keys used").await?;
        for (id, at) in used {
            let text = "UPDATE keys SET last_used_at = $2
                        WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
            transaction.rows(text, vec![id.as_str().into(), (*at).into()]).await?;
        }
        transaction.commit().await
    }
}

/// Raises the revisions of the policy and of the keys, writes the change into the audit, and emits POLICY_CHANGED.
async fn finish(
    transaction: &Transaction<Writing>,
    by: By<'_>,
    revision: i64,
    at: Time,
    (before, after): (Option<&Key>, Option<&Key>),
    what: Done,
) -> Result<(), StoreError> {
    let next = next_revision(transaction, revision).await?;
    let text = "UPDATE policy SET keys_revision = $2 WHERE id = $1";
    transaction.rows(text, vec![POLICY_ROW.into(), i64::from(next).into()]).await?;
    let deed = Deed {
        at,
        kind: ThingKind::Key,
        thing: before.or(after).map_or("", |key| &key.id),
        tenant: "",
        before: before.map(Thing::Key),
        after: after.map(Thing::Key),
        revision: Some(next.into()),
    };
    emit_change(transaction, by, ChangedKind::Key, deed, what).await
}

async fn find(transaction: &Transaction<Writing>, id: &str) -> Result<Option<Key>, StoreError> {
    transaction
        .rows(keys_query!("WHERE id = $1"), vec![id.into()])
        .await?
        .first()
        .map(key_from_row)
        .transpose()
}

async fn get(transaction: &Transaction<Writing>, id: &str) -> Result<Key, AdminError> {
    find(transaction, id).await?.ok_or_else(|| Refusal::KeyNotFound(id.to_owned()).into())
}
