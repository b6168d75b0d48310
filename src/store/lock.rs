//! Locking the tenants of a batch, and what is read with the lock.
//!
//! On PostgreSQL a statement that waits for a row's lock and reads other tables returns what they were before the
//! wait. So the one that locks tenants does only that, and everything is read after it.

use sea_orm::{Value, sea_query::ArrayType::BigInt};

use super::{
    Owned, StoreError, StoredCounter, Transaction,
    batch::{
        FIND_COUNTERS, FIND_HOLDS, counter_columns, counter_from_row, reservation_columns,
        reservation_from_row,
    },
    bulk::Bulk,
    clock::{Head, HeadTime, head_from_rows},
    tenant::{tenant_columns, tenant_from_row},
    transaction::{Asked, Row},
};
use crate::domain::{
    counter::CounterKey,
    id::{ReservationId, TenantKey},
    reservation::Reservation,
    tenant::Tenant,
};

static LOCK_TENANTS: Bulk = Bulk {
    columns: &[BigInt],
    postgres: concat!(
        "SELECT ",
        tenant_columns!(),
        " FROM tenants WHERE key = ANY($1) AND id IS NOT NULL ORDER BY key FOR UPDATE"
    ),
    sqlite: concat!("SELECT ", tenant_columns!(), " FROM tenants WHERE key = ?1 AND id IS NOT NULL"),
};

/// What to read with the lock.
#[derive(Debug, Default)]
pub struct Along {
    /// The head, and which time it shall have.
    pub head: Option<HeadTime>,
    /// Holds.
    pub holds: Vec<Owned<ReservationId>>,
    /// Counters.
    pub counters: Vec<Owned<CounterKey>>,
}

/// Tenants that are locked, and what was read with the lock, as far as it exists.
#[derive(Debug)]
pub struct Locked {
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The head, if it was asked for: see [`Transaction::read_head`].
    pub head: Option<Head>,
    /// The open holds.
    pub holds: Vec<Owned<Reservation>>,
    /// The counters.
    pub counters: Vec<Owned<(CounterKey, StoredCounter)>>,
}

impl Transaction {
    /// Locks the tenants of these keys, which are sorted, and returns those that exist.
    pub async fn lock_tenants(&self, keys: &[TenantKey]) -> Result<Vec<Tenant>, StoreError> {
        let rows = self.find(&LOCK_TENANTS, key_columns(keys)).await?;
        rows.iter().map(tenant_from_row).collect()
    }

    /// Locks the tenants of these keys, which are sorted, and reads after that what is asked for; on PostgreSQL all of it in one
    /// round trip.
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
