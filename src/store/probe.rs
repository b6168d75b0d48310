//! Finds out whether the database does what a batch needs: it answers, it is the one on which the server began, and
//! it takes a write durably.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use sea_orm::{
    Value,
    sea_query::ArrayType::{Bytes, Uuid as Id},
};
use uuid::Uuid;

use super::{
    bulk::Bulk,
    connect::Store,
    error::StoreError,
    place::unusable,
    transaction::Row,
    turn::Writer,
    wire::{Question, Wire},
};

/// Length of the body of a thorough probe on PostgreSQL, in bytes. The row takes a page of the table: a disk without
/// room for a new page may still take a small change of an old page.
const THOROUGH_BYTES: usize = 8_000;

/// The identity of a database on PostgreSQL: its log's id, which `tope migrate --new-log` changes, and the oid of a
/// table, which restoring a dump changes. If both have changed, it is another database.
const IDENTITY: &str = "SELECT log_id, 'event_log'::regclass::oid::bigint FROM event_log WHERE id = 1";

/// The probe on PostgreSQL, in a transaction of its own, which does not wait for the probe of another replica.
const PROBE: &str =
    "WITH earlier AS (DELETE FROM probes WHERE id IN (SELECT id FROM probes FOR UPDATE SKIP LOCKED))
     INSERT INTO probes (id, body) VALUES (gen_random_uuid(), $1)";

/// The probe on SQLite, where the table has one row.
static PUT_PROBE: Bulk = Bulk {
    columns: &[Id, Bytes],
    postgres: "",
    sqlite: "INSERT OR REPLACE INTO probes (id, body) VALUES (?1, ?2)",
};

/// What batches have shown of the database since the signs were last taken.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    /// A batch that wrote something was committed.
    pub written: bool,
    /// A batch was given up because the database was unavailable, and no batch has written since.
    pub failed: bool,
}

/// Where batches leave their signs.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    written: AtomicBool,
    failed: AtomicBool,
}

impl Pulse {
    /// Notes that a batch that wrote something was committed.
    pub(super) fn note_written(&self) {
        self.written.store(true, Ordering::Relaxed);
        self.failed.store(false, Ordering::Relaxed);
    }

    fn take(&self) -> Signs {
        let take = |sign: &AtomicBool| sign.swap(false, Ordering::Relaxed);
        Signs { written: take(&self.written), failed: take(&self.failed) }
    }
}

/// The log's id, and the oid of the table `event_log`.
pub(super) type Identity = (Uuid, i64);

impl Store {
    /// Notes that a batch was given up because the database was unavailable.
    pub fn note_failed(&self) {
        self.pulse().failed.store(true, Ordering::Relaxed);
    }

    /// Returns the signs since the last call, and clears them.
    pub fn take_signs(&self) -> Signs {
        self.pulse().take()
    }

    /// Checks that the database answers. On PostgreSQL, also that it is the one that the first look found.
    pub async fn look(&self) -> Result<(), StoreError> {
        let Some(wire) = self.wire() else {
            return self.ping().await;
        };
        match read_identity(wire).await {
            Ok(found) => recognize(self.identity(), found),
            Err(error @ StoreError::Unavailable(_)) => Err(self.diagnose(error).await),
            Err(error) => Err(error),
        }
    }

    /// Checks that the database takes a write as batches make it: on a lane's connection, and committed. If
    /// `thorough`, the write takes a new page on PostgreSQL.
    pub async fn try_write(&self, thorough: bool) -> Result<(), StoreError> {
        if let Some(wire) = self.wire() {
            let body = Value::from(vec![0_u8; if thorough { THOROUGH_BYTES } else { 0 }]);
            let written = wire.run(&Question::of_values(PROBE, &[body])).await;
            return match written {
                Ok(_) => Ok(()),
                Err(error @ StoreError::Unavailable(_)) => Err(self.diagnose(error).await),
                Err(error) => Err(error),
            };
        }
        let lane = self.lane().ok_or_else(|| unusable("the database was opened read-only"))?;
        let transaction = self.begin_in_thread_as(Writer::Batch, "probe").await?;
        let body = lane.connection.next_mark()?;
        let row = vec![vec![Value::from(Uuid::nil())], vec![Value::from(body)]];
        transaction.write(vec![(&PUT_PROBE, row)]).await?;
        transaction.commit().await
    }
}

async fn read_identity(wire: &Wire) -> Result<Identity, StoreError> {
    let row = wire.run(&Question::of_values(IDENTITY, &[])).await?.pop().map(Row::Wire);
    let row = row.ok_or_else(|| StoreError::Corrupt("the table event_log has no row".to_owned()))?;
    Ok((row.get(0)?, row.get(1)?))
}

fn recognize(first: &OnceLock<Identity>, found: Identity) -> Result<(), StoreError> {
    let (log, table) = *first.get_or_init(|| found);
    if log != found.0 && table != found.1 {
        return Err(unusable(
            "this is not the PostgreSQL database that the server started with; if that is intended, restart \
             the server",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_another_one_when_both_its_log_and_its_tables_are() {
        let first = OnceLock::new();
        let (here, there) = (Uuid::from_u128(1), Uuid::from_u128(2));
        recognize(&first, (here, 1)).expect("the first is remembered");
        recognize(&first, (there, 1)).expect("a new log");
        recognize(&first, (here, 2)).expect("a restored dump");
        let message = recognize(&first, (there, 2)).expect_err("neither").to_string();
        assert!(message.contains("not the PostgreSQL database"), "{message}");
    }
}
