//! What applies to whom: the policy, remembered by its revision.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    domain::plan::Policy,
    store::{StoreError, Transaction},
};

/// The latest policy that was read. Lanes and reads share it.
#[derive(Debug, Default)]
pub struct PolicyCache {
    latest: RwLock<Arc<Policy>>,
}

impl PolicyCache {
    /// The policy of a revision that was read in this transaction; it is loaded when it is not the one remembered.
    pub async fn get(&self, transaction: &Transaction, revision: i64) -> Result<Arc<Policy>, StoreError> {
        let latest = Arc::clone(&self.latest.read().unwrap_or_else(PoisonError::into_inner));
        if latest.revision == revision && revision != 0 {
            return Ok(latest);
        }
        let loaded = Arc::new(transaction.load_policy().await?);
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        if latest.revision < loaded.revision {
            *latest = Arc::clone(&loaded);
        }
        Ok(loaded)
    }
}
