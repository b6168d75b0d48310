//! What a lane remembers of the books from batch to batch, so that it need not read what it wrote itself. It is true as
//! long as the tenant's row, read under its lock, has the version that the lane wrote: nobody else has changed the books.
//! On SQLite the row itself is remembered too, since the database tells whether anybody else has changed anything.

use foldhash::HashMap;

use crate::domain::{books::Remembered, id::TenantKey};

/// Rows that are remembered before what was not used since is forgotten: twice this many at most. A row takes less than a
/// kilobyte.
const ROWS_MAX: usize = 40_000;

/// Most keys that are remembered by the ids of their tenants.
const KEYS_MAX: usize = 100_000;

/// Tenants used of late, and tenants used before.
#[derive(Debug, Default)]
pub(super) struct Memory {
    young: HashMap<TenantKey, Entry>,
    old: HashMap<TenantKey, Entry>,
    young_rows: usize,
    /// Keys of tenants by their ids, to be checked against the locked row: an id may have passed to another tenant.
    keys: HashMap<String, TenantKey>,
}

/// What is known of a tenant.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) remembered: Remembered,
    /// [`crate::store::Transaction::data_version`] when it was read or written.
    pub(super) seen: Option<i64>,
}

impl Entry {
    /// Whether nobody else can have changed even the tenant's row.
    pub(super) fn is_current(&self, data_version: Option<i64>) -> bool {
        data_version.is_some() && self.seen == data_version
    }
}

impl Memory {
    /// Takes out what is known. It must be put back to be remembered: what fails on the way is forgotten.
    pub(super) fn take(&mut self, tenant: TenantKey) -> Option<Entry> {
        match self.young.remove(&tenant) {
            Some(entry) => {
                self.young_rows = self.young_rows.saturating_sub(entry.remembered.rows());
                Some(entry)
            }
            None => self.old.remove(&tenant),
        }
    }

    /// What is known, left where it is.
    pub(super) fn peek(&self, tenant: TenantKey) -> Option<&Entry> {
        self.young.get(&tenant).or_else(|| self.old.get(&tenant))
    }

    /// The key that a tenant of this id had.
    pub(super) fn key_of(&self, id: &str) -> Option<TenantKey> {
        self.keys.get(id).copied()
    }

    /// Remembers the key of a tenant.
    pub(super) fn learn(&mut self, id: &str, key: TenantKey) {
        if self.keys.len() >= KEYS_MAX {
            self.keys.clear();
        }
        self.keys.entry(id.to_owned()).insert_entry(key);
    }

    /// Forgets the key of a tenant.
    pub(super) fn unlearn(&mut self, id: &str) {
        self.keys.remove(id);
    }

    /// Remembers.
    pub(super) fn put(&mut self, remembered: Remembered, seen: Option<i64>) {
        self.young_rows += remembered.rows();
        self.young.insert(remembered.tenant().key, Entry { remembered, seen });
        if self.young_rows > ROWS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_rows = 0;
        }
    }
}
