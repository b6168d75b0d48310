//! Writing a batch that was decided without a lock.

use super::{Store, StoreError, Transaction, batch::known_request, tenant::update_tenants};
use crate::domain::{books::Changes, window::Millis};

/// What has to be as it was when a batch was decided without a lock.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// [`Transaction::data_version`].
    pub data_version: Option<i64>,
    /// The revision of the policy.
    pub revision: i64,
}

impl Store {
    /// Writes what a batch changed that was decided without a lock, and makes it last, unless somebody else has changed
    /// what it was decided on: then [`StoreError::Outdated`]. Returns the database's time, where it is the one that counts.
    /// After [`StoreError::Unavailable`] it is not known whether it lasts.
    pub async fn commit_ahead(
        &self,
        changes: &[Changes],
        expected: Expected,
    ) -> Result<Option<Millis>, StoreError> {
        let transaction = self.begin_batch().await?;
        if transaction.data_version() != expected.data_version {
            transaction.rollback().await?;
            return Err(StoreError::Outdated);
        }
        if transaction.data_version().is_some() {
            transaction.save_and_commit(changes).await?;
            return Ok(None);
        }
        transaction.tells_if(changes);
        // The tenants first: what is written and read after that is theirs until COMMIT.
        let tenants = [update_tenants(changes)];
        let writes = Transaction::writes_of_tenants(changes);
        let now = transaction.check_and_commit(&tenants, expected.revision, writes).await;
        now.map(Some).map_err(|error| match error {
            StoreError::Corrupt(_) => StoreError::Outdated,
            other => known_request(other),
        })
    }
}
