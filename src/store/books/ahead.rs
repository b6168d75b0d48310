//! Writes a batch that was decided ahead, without a lock.

use sea_orm::Value;

use super::{
    tenant::update_tenants,
    write::{known_request, writes_of_tenants},
};
use crate::{
    domain::{books::Changes, time::Time},
    metrics::Ending,
    store::{
        DataVersion, Dialect, Store, StoreError,
        bulk::join_checked,
        connect::LaneWay,
        postgres::wire::{Question, Wire},
        row::Row,
        transaction::drop_empty,
    },
};

/// The state on which a batch was decided ahead, and which must be unchanged when the batch is written.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The version of the data at that time.
    pub data_version: DataVersion,
    /// The policy's revision at that time.
    pub revision: i64,
}

impl Store {
    /// Saves and commits a batch that was decided ahead. Fails with [`StoreError::Outdated`] if the state on which the
    /// batch was decided has changed. Returns the database's time on PostgreSQL, and `None` on SQLite. After
    /// [`StoreError::Unavailable`] the outcome is unknown.
    pub async fn commit_ahead(
        &self,
        changes: &[Changes],
        expected: Expected,
    ) -> Result<Option<Time>, StoreError> {
        if let LaneWay::Wire(wire) = self.lane_way() {
            return self.commit_ahead_on(wire, changes, expected.revision).await.map(Some);
        }
        let transaction = self.begin_batch().await?;
        if !transaction.data_version().is_unchanged_since(expected.data_version) {
            transaction.rollback().await?;
            return Err(StoreError::Outdated);
        }
        transaction.save_and_commit(changes).await?;
        Ok(None)
    }

    /// Saves and commits the batch on PostgreSQL, in one statement. The statement waits for the tenants' locks, so its
    /// snapshot is older than the locks. But a tenant that still has the remembered version was not changed in
    /// between. A change of the policy that is committed after the snapshot takes effect after this batch.
    async fn commit_ahead_on(
        &self,
        wire: &Wire,
        changes: &[Changes],
        revision: i64,
    ) -> Result<Time, StoreError> {
        // The tenants come first, so that their rows are locked in the order in which all transactions lock them.
        let mut writes = Vec::from(update_tenants(Dialect::Postgres, changes)?);
        writes.extend(writes_of_tenants(changes));
        drop_empty(&mut writes);
        let (text, revision) = (join_checked(&writes), Value::from(revision));
        let mut timer = self.metrics().transactions.begin("batch", Ending::RolledBack);
        let found = wire.run_ahead(&Question::of_writes(&text, &writes).and(&revision)).await;
        timer.end(found.is_ok());
        let mut rows = found.map_err(known_request)?;
        let events: usize = changes.iter().map(|change| change.events.len()).sum();
        if events > 0 {
            self.numbering().notify_one();
            self.metrics().events.written.inc_by(events as u64);
        }
        self.pulse().note_written();
        let row = rows.pop().map(Row::Wire);
        row.ok_or_else(|| StoreError::Corrupt("the table policy has no row".to_owned()))?.get(1)
    }
}
