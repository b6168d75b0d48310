//! Remembers the policy, which is all resources and plans at one revision, and the terms of tenants.

mod terms;

use std::sync::{Arc, PoisonError, RwLock};

use self::terms::TermsCache;
use crate::{
    domain::{plan::Policy, tenant::Tenant, terms::Terms},
    store::{Statements, StoreError, Transaction},
};

/// The policy that was loaded last, shared by lanes and readers. The valid revision is always read in the
/// transaction, so an acknowledged change binds every transaction that begins after it, on every replica (R4.7).
#[derive(Debug, Default)]
pub struct PolicyCache {
    /// Every batch reads the policy, and few batches replace it. The lock is taken only to copy the pointer.
    latest: RwLock<Arc<Policy>>,
    terms: TermsCache,
}

impl PolicyCache {
    /// Returns the policy that was loaded last, which may be out of date. Use it for hints, never for a decision.
    pub fn latest(&self) -> Arc<Policy> {
        Arc::clone(&self.latest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the terms of tenants by this policy, in their order. The transaction must have locked the tenants, or
    /// read them in its snapshot.
    ///
    /// # Errors
    ///
    /// Fails with [`StoreError::Corrupt`] if a plan does not exist.
    pub async fn terms(
        &self,
        transaction: &Transaction<impl Statements>,
        policy: &Policy,
        tenants: &[&Tenant],
    ) -> Result<Vec<Arc<Terms>>, StoreError> {
        self.terms.get(transaction, policy, tenants).await
    }

    /// Returns the terms of one tenant, see [`PolicyCache::terms`].
    pub async fn terms_of(
        &self,
        transaction: &Transaction<impl Statements>,
        policy: &Policy,
        tenant: &Tenant,
    ) -> Result<Arc<Terms>, StoreError> {
        let found = self.terms(transaction, policy, &[tenant]).await?;
        found.into_iter().next().ok_or_else(|| StoreError::Corrupt(format!("no terms of {:?}", tenant.id)))
    }

    /// Returns the terms of a tenant by this policy, unless the database must be read for them.
    pub fn known_terms(&self, policy: &Policy, tenant: &Tenant) -> Option<Arc<Terms>> {
        self.terms.find(policy, tenant)
    }

    /// Returns the policy of `revision`, which this transaction has read. Loads it if another revision is remembered.
    /// A transaction that may write must read the revision after it has locked the rows that it decides about.
    pub async fn get(
        &self,
        transaction: &Transaction<impl Statements>,
        revision: i64,
    ) -> Result<Arc<Policy>, StoreError> {
        let latest = self.latest();
        if latest.revision == revision {
            return Ok(latest);
        }
        let loaded = Arc::new(transaction.load_policy().await?);
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        // A transaction with an older snapshot must not replace a newer policy that other transactions use.
        if latest.revision < loaded.revision {
            *latest = Arc::clone(&loaded);
        }
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        NewResource, Reading,
        fixture::{by, databases},
    };

    #[tokio::test]
    async fn a_change_is_seen_by_the_next_transaction_and_an_old_reader_does_not_undo_it() {
        for fixture in databases().await {
            let cache = PolicyCache::default();
            let get = async |transaction: &Transaction<Reading>| {
                let revision = transaction.read_revision().await.expect("a revision");
                cache.get(transaction, revision).await.expect("a policy")
            };
            let old = fixture.store.begin_read("test").await.expect("begun");
            assert_eq!(get(&old).await.revision, 0);
            let new =
                NewResource { id: "tokens".to_owned(), display_name: String::new(), unit: String::new() };
            fixture.store.create_resource(by(None), &new).await.expect("declared");
            let young = fixture.store.begin_read("test").await.expect("begun");
            let first = get(&young).await;
            assert!(first.find_resource("tokens").is_some());
            assert!(get(&old).await.find_resource("tokens").is_none());
            let second = get(&young).await;
            assert!(Arc::ptr_eq(&first, &second), "it is loaded once");
        }
    }
}
