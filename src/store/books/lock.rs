//! Locks the tenants of a batch, reads rows along with the lock, and finds tenants that another session has locked.
//!
//! On PostgreSQL, a statement that waits for a row's lock sees other tables as they were before the wait. So the
//! statement that locks tenants does nothing else, and later statements read everything else.

use std::time::Duration;

use sea_orm::{Value, sea_query::ArrayType::BigInt};

use super::{
    columns::Owned,
    find::{FIND_COUNTERS, FIND_HOLDS, counter_columns, reservation_columns},
    rows::{StoredCounter, counter_from_row, reservation_from_row},
    tenant::{tenant_columns, tenant_from_row},
};
use crate::{
    domain::{
        counter::CounterKey,
        id::{ReservationId, TenantKey},
        reservation::Reservation,
        tenant::Tenant,
    },
    store::{
        Batch, Dialect, Store, StoreError, Transaction, Writes,
        bulk::Bulk,
        clock::{Head, HeadTime, head_from_rows},
        connect::LaneWay,
        row::Row,
        transaction::Asked,
    },
};

static LOCK_TENANTS: Bulk = Bulk {
    columns: &[BigInt],
    postgres: concat!(
        "SELECT ",
        tenant_columns!(),
        " FROM tenants WHERE key = ANY($1) AND id IS NOT NULL ORDER BY key FOR UPDATE"
    ),
    sqlite: concat!("SELECT ", tenant_columns!(), " FROM tenants WHERE key = ? AND id IS NOT NULL"),
};

/// The rows to read in the same round trip as the lock.
#[derive(Debug, Default)]
pub struct Along {
    /// Whether the head contains the time. `None`: the head is not read.
    pub head: Option<HeadTime>,
    /// The holds to read, by their ids.
    pub holds: Vec<Owned<ReservationId>>,
    /// The counters to read, by their keys.
    pub counters: Vec<Owned<CounterKey>>,
}

/// Locked tenants, and the rows that were read along with the lock. Rows that do not exist are left out.
#[derive(Debug)]
pub struct Locked {
    /// The tenants that exist.
    pub tenants: Vec<Tenant>,
    /// The policy's revision and the time, if they were requested: see [`Transaction::read_head`].
    pub head: Option<Head>,
    /// The open holds that exist.
    pub holds: Vec<Owned<Reservation>>,
    /// The counters that exist, with their alerts.
    pub counters: Vec<Owned<(CounterKey, StoredCounter)>>,
}

/// The shortest possible wait for a row: `lock_timeout` counts milliseconds, and 0 means no bound.
const WAIT_MIN: Duration = Duration::from_millis(1);

impl Store {
    /// Finds the tenants whose rows another session has locked at the moment. Waits up to `patience` for the row of the
    /// first tenant, and a millisecond for each other row. Each row is locked for a moment, in a separate transaction
    /// that takes no other lock. On SQLite there are no row locks.
    pub async fn find_locked_tenants(
        &self,
        keys: &[TenantKey],
        patience: Duration,
    ) -> Result<Vec<TenantKey>, StoreError> {
        let LaneWay::Wire(wire) = self.lane_way() else { return Ok(Vec::new()) };
        let lock = |(number, key): (usize, &TenantKey)| {
            let wait_millis = if number == 0 { WAIT_MIN.max(patience) } else { WAIT_MIN }.as_millis();
            // This is the only statement whose text varies, so it is not prepared.
            format!(
                "SET LOCAL lock_timeout = {wait_millis}; SELECT key FROM tenants WHERE key = {} FOR UPDATE",
                key.0
            )
        };
        let tried = wire.try_out(keys.iter().enumerate().map(lock)).await?;
        let mut locked = Vec::new();
        for (key, outcome) in keys.iter().zip(tried) {
            match outcome {
                Ok(()) => {}
                Err(StoreError::Locked(_)) => locked.push(*key),
                Err(error) => return Err(error),
            }
        }
        Ok(locked)
    }
}

impl<W: Writes> Transaction<W> {
    /// Makes the rest of the transaction wait at most 100 milliseconds for a row, as batches do. Jobs that lock
    /// several tenants need this, because calls wait for all locked tenants meanwhile. On SQLite there are no row
    /// locks.
    pub async fn wait_briefly(&self) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            self.rows("SELECT set_config('lock_timeout', '100ms', true)", Vec::new()).await?;
        }
        Ok(())
    }

    /// Locks the tenants of these keys, which must be sorted, and returns those that exist.
    pub async fn lock_tenants(&self, keys: &[TenantKey]) -> Result<Vec<Tenant>, StoreError> {
        let rows = self.find(&LOCK_TENANTS, key_columns(keys)).await?;
        rows.iter().map(tenant_from_row).collect()
    }
}

impl Transaction<Batch> {
    /// Locks the tenants of these keys, which must be sorted, and then reads the rows that `along` names. On
    /// PostgreSQL this takes one round trip.
    pub async fn lock_and_read(&self, keys: &[TenantKey], along: &Along) -> Result<Locked, StoreError> {
        let mut asked = vec![
            Asked::Rows(&LOCK_TENANTS, key_columns(keys)),
            Asked::Rows(&FIND_HOLDS, reservation_columns(&along.holds)),
            Asked::Rows(&FIND_COUNTERS, counter_columns(&along.counters)),
        ];
        asked.extend(along.head.map(|time| Asked::One(self.head_text(time))));
        let mut answers = self.find_all(asked).await?.into_iter();
        let mut next = || answers.next().unwrap_or_default();
        let (tenants, holds, counters, head): (Vec<Row>, Vec<Row>, Vec<Row>, Vec<Row>) =
            (next(), next(), next(), next());
        Ok(Locked {
            tenants: tenants.iter().map(tenant_from_row).collect::<Result<_, _>>()?,
            head: along.head.map(|time| head_from_rows(&head, time)).transpose()?,
            holds: holds.iter().map(reservation_from_row).collect::<Result<_, _>>()?,
            counters: counters.iter().map(counter_from_row).collect::<Result<_, _>>()?,
        })
    }
}

fn key_columns(keys: &[TenantKey]) -> Vec<Vec<Value>> {
    vec![keys.iter().map(|key| Value::from(key.0)).collect()]
}
