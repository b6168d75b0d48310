//! Writes events: those of batches, those of tenants that an operator changed, and those of no tenant.

use sea_orm::{ActiveValue::Set, EntityTrait, Value, sea_query::ArrayType};

use super::body::encode_event;
use crate::{
    domain::{
        event::{Event, NO_TENANT},
        id::TenantKey,
    },
    store::{
        StoreError, Transaction, Writes, Writing,
        bulk::{Bulk, push},
        entity::pending_event,
    },
};

use ArrayType::{BigInt, Bytes, SmallInt};

/// Writes the events of a batch, which have no places yet.
pub(in crate::store) static INSERT_EVENTS: Bulk = Bulk {
    columns: &[BigInt, BigInt, SmallInt, BigInt, Bytes],
    postgres: "INSERT INTO pending_events (tenant_key, number, kind, occurred_at, body)
     SELECT UNNEST($1), UNNEST($2), UNNEST($3), UNNEST($4), UNNEST($5)",
    sqlite: "INSERT OR FAIL INTO pending_events (tenant_key, number, kind, occurred_at, body)
     VALUES (?1, ?2, ?3, ?4, ?5)",
};

impl<W: Writes> Transaction<W> {
    /// Adds an event of no tenant to the log. It must be the last step of a transaction: until the transaction ends, no
    /// other transaction can change the log.
    pub async fn append_event(&self, event: &Event) -> Result<(), StoreError> {
        let sequence = self.lock_log().await?.last_sequence + 1;
        let text = "INSERT INTO events (sequence, tenant_key, number, kind, occurred_at, body)
             VALUES ($1, $2, 0, $3, $4, $5)";
        let values = vec![
            sequence.into(),
            NO_TENANT.0.into(),
            event.kind().code().into(),
            event.occurred_at.into(),
            encode_event(event).into(),
        ];
        self.rows(text, values).await?;
        self.set_last_sequence(sequence).await?;
        self.wake_replicas().await?;
        self.note_events(1);
        self.note_numbered(1);
        Ok(())
    }
}

impl Transaction<Writing> {
    /// Adds an event of a tenant, with the tenant's next number. The transaction has locked the tenant's row.
    pub(in crate::store) async fn insert_event(&self, event: &Event, number: i64) -> Result<(), StoreError> {
        let row = pending_event::ActiveModel {
            tenant_key: Set(event.tenant_key.0),
            number: Set(number),
            kind: Set(event.kind().code()),
            occurred_at: Set(event.occurred_at),
            body: Set(encode_event(event)),
        };
        pending_event::Entity::insert(row).exec_without_returning(self.connection()).await?;
        self.note_events(1);
        Ok(())
    }
}

/// Adds the rows of a tenant's events. `last_number` is the number of the last of these events.
pub(in crate::store) fn push_events(
    columns: &mut [Vec<Value>],
    tenant: TenantKey,
    events: &[Event],
    last_number: i64,
) {
    let first = last_number - i64::try_from(events.len()).unwrap_or(0) + 1;
    for (number, event) in (first..).zip(events) {
        let row = [
            tenant.0.into(),
            number.into(),
            event.kind().code().into(),
            event.occurred_at.into(),
            encode_event(event).into(),
        ];
        push(columns, row);
    }
}
