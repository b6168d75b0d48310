//! What a lane remembers of the books from batch to batch, so that it need not read what it wrote itself. It is true as
//! long as the tenant's row, read under its lock, has the version that the lane wrote: nobody else has changed the books.

use std::collections::HashMap;

use crate::domain::{books::Remembered, id::TenantKey};

/// Rows that are remembered before what was not used since is forgotten: twice this many at most. A row takes less than a
/// kilobyte.
const ROWS_MAX: usize = 40_000;

/// Tenants used of late, and tenants used before.
#[derive(Debug, Default)]
pub(super) struct Memory {
    young: HashMap<TenantKey, Remembered>,
    old: HashMap<TenantKey, Remembered>,
    young_rows: usize,
}

impl Memory {
    /// Takes out what is known. It must be put back to be remembered: what fails on the way is forgotten.
    pub(super) fn take(&mut self, tenant: TenantKey) -> Option<Remembered> {
        match self.young.remove(&tenant) {
            Some(remembered) => {
                self.young_rows = self.young_rows.saturating_sub(remembered.rows());
                Some(remembered)
            }
            None => self.old.remove(&tenant),
        }
    }

    /// Remembers.
    pub(super) fn put(&mut self, tenant: TenantKey, remembered: Remembered) {
        self.young_rows += remembered.rows();
        self.young.insert(tenant, remembered);
        if self.young_rows > ROWS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_rows = 0;
        }
    }
}
