//! Reads the keys of callers.

use std::collections::BTreeSet;

use super::{
    admin::{Page, rows_to_read},
    connect::Store,
    error::StoreError,
    policy::POLICY_ROW,
    row::Row,
    transaction::{Reading, Transaction},
};
use crate::{
    domain::{
        access::{Key, KeyState, Role},
        time::Time,
    },
    seldom::Seldom,
};

/// A query of keys, with this end. The columns are those of [`key_from_row`].
macro_rules! keys_query {
    ($end:literal) => {
        concat!(
            "SELECT id, hash, role, tenants, agents, display_name, state, expire_at, last_used_at, created_at, \
             updated_at, certificate_san FROM keys ",
            $end
        )
    };
}
pub(super) use keys_query;

/// All keys at a revision.
#[derive(Clone, Debug, Default)]
pub struct StoredKeys {
    /// The revision of the policy at the last change of keys.
    pub revision: i64,
    /// The keys. `None`: no key has changed since the revision that the caller knows.
    pub keys: Option<Vec<Key>>,
}

impl Store {
    /// Loads all keys, unless none has changed since the revision `known`.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn load_keys(&self, known: Option<i64>) -> Result<StoredKeys, StoreError> {
        let transaction = self.begin_read("load keys").await?;
        let text = "SELECT keys_revision FROM policy WHERE id = $1";
        let rows = transaction.rows(text, vec![POLICY_ROW.into()]).await?;
        let revision = rows.first().map(|row| row.get(0)).transpose()?.unwrap_or(0);
        let mut loaded = StoredKeys { revision, keys: None };
        if known != Some(revision) {
            let rows = transaction.rows(keys_query!(""), Vec::new()).await?;
            loaded.keys = Some(rows.iter().filter_map(readable).collect());
        }
        transaction.rollback().await?;
        Ok(loaded)
    }
}

impl Transaction<Reading> {
    /// Finds a key.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn find_key(&self, id: &str) -> Result<Option<Key>, StoreError> {
        self.rows(keys_query!("WHERE id = $1"), vec![id.into()]).await?.first().map(key_from_row).transpose()
    }

    /// Lists the keys after an id, at most `size` of them.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn list_keys(&self, after: Option<&str>, size: usize) -> Result<Page<Key>, StoreError> {
        let text = keys_query!("WHERE id > $1 ORDER BY id LIMIT $2");
        let most = i64::try_from(rows_to_read(size)).unwrap_or(i64::MAX);
        let rows = self.rows(text, vec![after.unwrap_or_default().into(), most.into()]).await?;
        Ok(Page::of(rows.iter().map(key_from_row).collect::<Result<_, _>>()?, size))
    }
}

/// Reads a key. A row that cannot be read, such as one of a later release, makes only its own key unknown.
fn readable(row: &Row) -> Option<Key> {
    static UNREADABLE: Seldom<()> = Seldom::new();
    match key_from_row(row) {
        Ok(key) => Some(key),
        Err(error) => {
            if let Some(left_out) = UNREADABLE.due(()) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    log.left_out = left_out,
                    "a key cannot be read, so its owner is refused"
                );
            }
            None
        }
    }
}

pub(super) fn key_from_row(row: &Row) -> Result<Key, StoreError> {
    let id: String = row.get(0)?;
    let corrupt = || StoreError::Corrupt(format!("key {id:?}"));
    let hash: Vec<u8> = row.get(1)?;
    let list = |text: String| serde_json::from_str(&text).map_err(|_| corrupt());
    let time = |at: Option<i64>| at.map(Time);
    Ok(Key {
        hash: hash.try_into().map_err(|_| corrupt())?,
        role: Role::from_code(row.get(2)?).ok_or_else(corrupt)?,
        tenants: list(row.get(3)?)?,
        agents: list(row.get(4)?)?,
        display_name: row.get(5)?,
        state: KeyState::from_code(row.get(6)?).ok_or_else(corrupt)?,
        expires_at: time(row.get(7)?),
        last_used_at: time(row.get(8)?),
        created_at: Time(row.get(9)?),
        updated_at: Time(row.get(10)?),
        certificate_san: row.get(11)?,
        id,
    })
}

pub(super) fn list_text(names: &BTreeSet<String>) -> Result<String, StoreError> {
    serde_json::to_string(names).map_err(|error| StoreError::Corrupt(format!("a list of names: {error}")))
}
