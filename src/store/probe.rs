//! Checks whether the database works as a batch needs it: it answers, it is the database on which the server started,
//! and it accepts a durable write.

use sea_orm::{
    Value,
    sea_query::ArrayType::{Bytes, Uuid as Id},
};
use uuid::Uuid;

use super::{
    bulk::Bulk,
    connect::{LaneWay, Store},
    error::{StoreError, read_only},
    postgres::{
        identity::{read_identity, recognize},
        wire::Question,
    },
    pulse::Signs,
};

/// Length of the body of a thorough probe on PostgreSQL, in bytes. The row needs a page of its own in the table: a disk
/// that has no room for a new page may still accept a small change of an old page.
const THOROUGH_BYTES: usize = 8_000;

/// The statement of the probe on PostgreSQL. It is a transaction of its own, and does not wait for the probe of another
/// replica.
const PROBE: &str =
    "WITH earlier AS (DELETE FROM probes WHERE id IN (SELECT id FROM probes FOR UPDATE SKIP LOCKED))
     INSERT INTO probes (id, body) VALUES (gen_random_uuid(), $1)";

/// The statement of the probe on SQLite, where the table has one row.
static PUT_PROBE: Bulk = Bulk {
    columns: &[Id, Bytes],
    postgres: "",
    sqlite: "INSERT OR REPLACE INTO probes (id, body) VALUES (?1, ?2)",
};

impl Store {
    /// Notes that a batch was given up because the database was unavailable.
    pub fn note_failed(&self) {
        self.pulse().note_failed();
    }

    /// Returns the signs since the last call, and clears them.
    pub fn take_signs(&self) -> Signs {
        self.pulse().take()
    }

    /// Checks that the database answers. On PostgreSQL, also checks that it is still the database that the first call
    /// found.
    pub async fn try_read(&self) -> Result<(), StoreError> {
        let LaneWay::Wire(wire) = self.lane_way() else {
            return self.ping().await;
        };
        match read_identity(wire).await {
            Ok(found) => recognize(self.identity(), found),
            Err(error @ StoreError::Unavailable(_)) => Err(self.diagnose(error).await),
            Err(error) => Err(error),
        }
    }

    /// Checks that the database accepts a write as batches make it: on a lane's connection, with a commit. On
    /// PostgreSQL, a `thorough` write needs a new page.
    pub async fn try_write(&self, thorough: bool) -> Result<(), StoreError> {
        match self.lane_way() {
            LaneWay::Wire(wire) => {
                let body = Value::from(vec![0_u8; if thorough { THOROUGH_BYTES } else { 0 }]);
                match wire.run(&Question::of_values(PROBE, &[body])).await {
                    Ok(_) => Ok(()),
                    Err(error @ StoreError::Unavailable(_)) => Err(self.diagnose(error).await),
                    Err(error) => Err(error),
                }
            }
            LaneWay::Thread(lane) => {
                let transaction = self.begin_batch_as("probe").await?;
                let body = lane.connection.next_mark()?;
                let row = vec![vec![Value::from(Uuid::nil())], vec![Value::from(body)]];
                transaction.write(vec![(&PUT_PROBE, row)]).await?;
                transaction.commit().await
            }
            LaneWay::None => Err(read_only()),
        }
    }
}
