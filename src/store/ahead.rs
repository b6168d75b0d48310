//! Writing a batch that was decided without a lock.

use sea_orm::Value;

use super::{
    Dialect, Store, StoreError, Transaction,
    batch::known_request,
    bulk::join_checked,
    tenant::update_tenants,
    transaction::{Row, drop_empty},
    wire::{Question, Wire},
};
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
        if let Some(wire) = self.wire() {
            return self.commit_ahead_on(wire, changes, expected.revision).await.map(Some);
        }
        let transaction = self.begin_batch().await?;
        if transaction.data_version() != expected.data_version {
            transaction.rollback().await?;
            return Err(StoreError::Outdated);
        }
        transaction.save_and_commit(changes).await?;
        Ok(None)
    }

    /// On PostgreSQL, in one statement. What it sees is what there was when it began, and it waits for the locks of the tenants after
    /// that: a version that is still the one that is remembered then says that nothing of them has changed meanwhile. A change of
    /// the policy that is committed after it began comes after it.
    async fn commit_ahead_on(
        &self,
        wire: &Wire,
        changes: &[Changes],
        revision: i64,
    ) -> Result<Millis, StoreError> {
        // The tenants first, so that their locks are had in the order in which everybody takes them.
        let mut writes = Vec::from(update_tenants(Dialect::Postgres, changes));
        writes.extend(Transaction::writes_of_tenants(changes));
        drop_empty(&mut writes);
        let (text, revision) = (join_checked(&writes), Value::from(revision));
        let found = wire.run(&Question::of_writes(&text, &writes).and(&revision)).await;
        let mut rows = found.map_err(|error| match error {
            StoreError::Corrupt(_) => StoreError::Outdated,
            other => known_request(other),
        })?;
        if changes.iter().any(|change| !change.events.is_empty()) {
            self.told().notify_one();
        }
        self.pulse().note_written();
        let row = rows.pop().map(Row::Wire);
        row.ok_or_else(|| StoreError::Corrupt("the policy's row is missing".to_owned()))?.get(1)
    }
}
