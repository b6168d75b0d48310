//! A session: the books, the policy and the time of a batch, from the lock of its tenants to its changes.

use std::sync::Arc;

use foldhash::HashMap;

use super::super::ask::TenantRef;
use crate::{
    clock::mint_version,
    domain::{
        books::{Books, Changes, Origin, Remembered},
        counter::CounterKey,
        id::TenantKey,
        plan::Policy,
        reservation::Reservation,
        time::Time,
    },
    store::{Batch, Owned, StoredCounter, Transaction},
};

/// The state of a batch whose tenants are locked.
pub(super) struct Session<'a> {
    pub(super) transaction: &'a Transaction<Batch>,
    pub(super) policy: Arc<Policy>,
    pub(super) now: Time,
    pub(super) books: HashMap<TenantKey, Books>,
    /// Internal keys of the tenants that the operations name by id.
    pub(super) keys: HashMap<&'a str, TenantKey>,
}

impl Session<'_> {
    /// Returns the internal key of the tenant that an operation names. `None`: there is no such tenant.
    pub(super) fn find_tenant(&self, tenant: &TenantRef) -> Option<TenantKey> {
        find_key(&self.keys, tenant).filter(|key| self.books.contains_key(key))
    }

    /// Takes the rows to write out of the books. Also returns the books that the lane remembers once the rows are
    /// written.
    pub(super) fn take_changes(&mut self) -> (Vec<Changes>, Vec<Remembered>) {
        let (now, policy, version) = (self.now, Arc::clone(&self.policy), mint_version());
        let books = std::mem::take(&mut self.books);
        let mut all = Vec::with_capacity(books.len());
        let mut remembered = Vec::with_capacity(books.len());
        for mut books in books.into_values() {
            books.tenant.decided_at = books.tenant.decided_at.max(now);
            let (changes, known) = books.into_changes(&policy, version);
            remembered.push(known);
            all.push(changes);
        }
        all.retain(|changes| !changes.is_empty());
        (all, remembered)
    }

    /// Enters reservations that were found in the database.
    pub(super) fn enter_reservations(&mut self, reservations: Vec<Owned<Reservation>>, origin: Origin) {
        for (tenant, reservation) in reservations {
            if let Some(books) = self.books.get_mut(&tenant) {
                books.load_reservation(reservation, origin);
            }
        }
    }

    /// Enters counters that were read from the database. A counter in `asked` that was not found does not exist.
    pub(super) fn enter_counters(
        &mut self,
        asked: Vec<Owned<CounterKey>>,
        found: Vec<Owned<(CounterKey, StoredCounter)>>,
    ) {
        for (tenant, (key, counter)) in found {
            if let Some(books) = self.books.get_mut(&tenant) {
                books.load_counter(key, Some(counter));
            }
        }
        for (tenant, key) in asked {
            if let Some(books) = self.books.get_mut(&tenant) {
                books.load_counter(key, None);
            }
        }
    }
}

/// Returns the internal key of the tenant that an operation names by id or by key.
pub(super) fn find_key(named: &HashMap<&str, TenantKey>, tenant: &TenantRef) -> Option<TenantKey> {
    match tenant {
        TenantRef::Id(id) => named.get(id.as_str()).copied(),
        TenantRef::Key(key) => Some(*key),
    }
}
