//! What a lane remembers of tenants' books from batch to batch, so that it need not read what it wrote. It is valid
//! while the tenant's row has the version that the lane wrote. On SQLite the lane does not even read the row:
//! `data_version` shows whether any other connection has changed the file.

use foldhash::HashMap;

use crate::domain::{books::Remembered, id::TenantKey};

/// Rows after which the younger half becomes the older half, and the older half is forgotten. So at most twice as
/// many are remembered. A row takes less than a kilobyte.
const ROWS_MAX: usize = 40_000;

/// Maximum number of tenant ids whose keys are remembered.
const KEYS_MAX: usize = 100_000;

/// Two generations of tenants: those used lately, and those used before.
#[derive(Debug, Default)]
pub(super) struct Memory {
    young: HashMap<TenantKey, Entry>,
    old: HashMap<TenantKey, Entry>,
    young_rows: usize,
    /// The keys of tenants by id. They are checked against the row, since an id may have passed to another tenant.
    keys: HashMap<String, TenantKey>,
}

/// What is remembered of one tenant.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) remembered: Remembered,
    /// [`crate::store::Transaction::data_version`] when it was read or written. `None` on PostgreSQL.
    pub(super) seen: Option<i64>,
}

impl Entry {
    /// Whether the remembered row is certainly current, so that it need not be read.
    pub(super) fn is_current(&self, data_version: Option<i64>) -> bool {
        data_version.is_some() && self.seen == data_version
    }
}

impl Memory {
    /// Takes out what is remembered. The caller puts it back when the batch succeeds; otherwise it is forgotten.
    pub(super) fn take(&mut self, tenant: TenantKey) -> Option<Entry> {
        match self.young.remove(&tenant) {
            Some(entry) => {
                self.young_rows = self.young_rows.saturating_sub(entry.remembered.rows());
                Some(entry)
            }
            None => self.old.remove(&tenant),
        }
    }

    /// What is remembered, without taking it out.
    pub(super) fn peek(&self, tenant: TenantKey) -> Option<&Entry> {
        self.young.get(&tenant).or_else(|| self.old.get(&tenant))
    }

    /// The key that the tenant with this id had when it was read.
    pub(super) fn key_of(&self, id: &str) -> Option<TenantKey> {
        self.keys.get(id).copied()
    }

    /// Remembers the key of a tenant, which replaces an older key.
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

    /// Remembers a tenant's books as a batch left them.
    pub(super) fn put(&mut self, remembered: Remembered, seen: Option<i64>) {
        self.young_rows += remembered.rows();
        self.young.insert(remembered.tenant().key, Entry { remembered, seen });
        if self.young_rows > ROWS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_rows = 0;
        }
    }
}
