//! The memory of a lane: the tenants' books as its batches left them, so that the lane need not read the rows that it
//! wrote. Remembered books are valid while the tenant's row has the same version. On SQLite the lane does not even read
//! the row: [`DataVersion`] shows whether another connection has changed the file.

use foldhash::HashMap;

use crate::{
    domain::{books::Remembered, id::TenantKey},
    store::DataVersion,
};

/// If `young` has more rows than this, it becomes `old`, and the previous `old` is forgotten. So the lane remembers at
/// most about twice as many rows. A row takes less than a kilobyte.
const ROWS_MAX: usize = 40_000;

/// Maximum number of tenant ids whose keys are remembered.
const KEYS_MAX: usize = 100_000;

/// Remembered tenants in two generations: the tenants that recent batches used (`young`), and the tenants that were
/// used before (`old`).
#[derive(Debug, Default)]
pub(super) struct Memory {
    young: HashMap<TenantKey, Entry>,
    old: HashMap<TenantKey, Entry>,
    young_rows: usize,
    /// The internal keys of tenants, by id. Each use is checked against the tenant's row, since another tenant may
    /// have got the id.
    keys: HashMap<String, TenantKey>,
}

/// What is remembered of one tenant.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) remembered: Remembered,
    /// The version of the data when the books were read or written. If it is unchanged, the remembered row is
    /// certainly current, and need not be read.
    pub(super) seen: DataVersion,
}

impl Memory {
    /// Takes the books of a tenant out of the memory. The caller puts them back if the batch succeeds; otherwise they
    /// are forgotten.
    pub(super) fn take(&mut self, tenant: TenantKey) -> Option<Entry> {
        match self.young.remove(&tenant) {
            Some(entry) => {
                self.young_rows = self.young_rows.saturating_sub(entry.remembered.rows());
                Some(entry)
            }
            None => self.old.remove(&tenant),
        }
    }

    /// Returns the books of a tenant, and leaves them in the memory.
    pub(super) fn peek(&self, tenant: TenantKey) -> Option<&Entry> {
        self.young.get(&tenant).or_else(|| self.old.get(&tenant))
    }

    /// Returns the remembered internal key of the tenant with this id. It may be out of date.
    pub(super) fn key_of(&self, id: &str) -> Option<TenantKey> {
        self.keys.get(id).copied()
    }

    /// Remembers the internal key of a tenant, which replaces an older key.
    pub(super) fn learn(&mut self, id: &str, key: TenantKey) {
        if self.keys.len() >= KEYS_MAX {
            self.keys.clear();
        }
        self.keys.entry(id.to_owned()).insert_entry(key);
    }

    /// Forgets the internal key of the tenant with this id.
    pub(super) fn unlearn(&mut self, id: &str) {
        self.keys.remove(id);
    }

    /// Remembers a tenant's books as a batch left them.
    pub(super) fn put(&mut self, remembered: Remembered, seen: DataVersion) {
        self.young_rows += remembered.rows();
        self.young.insert(remembered.tenant().key, Entry { remembered, seen });
        if self.young_rows > ROWS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_rows = 0;
        }
    }
}
