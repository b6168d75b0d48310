//! Tenants: rows ⇄ domain.

use sea_orm::sea_query::ArrayType::BigInt;

use super::{
    batch::{empty_columns, push},
    bulk::{Bulk, Write},
    entity::tenant,
    error::StoreError,
    transaction::Row,
};
use crate::domain::{
    books::Changes,
    id::{PlanKey, TenantKey},
    tenant::{Tenant, TenantState},
};

/// The columns of a tenant, in the order of [`tenant_from_row`].
macro_rules! tenant_columns {
    () => {
        "key, id, display_name, plan_key, zone, state, decided_at, next_due, plan_since, created_at, updated_at, version, event_number"
    };
}
pub(super) use tenant_columns;

/// The version is the one that was locked; when there was no lock, that shows whether the books are what they were.
static UPDATE_TENANTS: Bulk = Bulk {
    columns: &[BigInt, BigInt, BigInt, BigInt, BigInt, BigInt],
    postgres: "UPDATE tenants t SET decided_at = w.decided_at, next_due = w.next_due, version = w.version,
            event_number = w.event_number
       FROM (SELECT UNNEST($1) AS key, UNNEST($2) AS decided_at, UNNEST($3) AS next_due, UNNEST($4) AS version,
                    UNNEST($5) AS event_number, UNNEST($6) AS seen) AS w
      WHERE t.key = w.key AND t.version = w.seen AND t.id IS NOT NULL",
    sqlite: "UPDATE OR FAIL tenants SET decided_at = ?2, next_due = ?3, version = ?4, event_number = ?5
      WHERE key = ?1 AND version = ?6",
};

/// Writes the tenants' own rows.
pub(super) fn update_tenants(changes: &[Changes]) -> Write {
    let mut columns = empty_columns(6);
    for change in changes {
        let row = [
            change.tenant.0.into(),
            change.decided_at.into(),
            change.next_due.into(),
            change.version.into(),
            change.event_number.into(),
            change.seen.into(),
        ];
        push(&mut columns, row);
    }
    (&UPDATE_TENANTS, columns)
}

/// A tenant out of the columns key, id, display_name, plan_key, zone, state, decided_at, next_due, plan_since,
/// created_at, updated_at, version, event_number, in this order.
pub(super) fn tenant_from_row(row: &Row) -> Result<Tenant, StoreError> {
    tenant_from_model(tenant::Model {
        key: row.get(0)?,
        id: row.get(1)?,
        deleted_id: None,
        display_name: row.get(2)?,
        plan_key: row.get(3)?,
        zone: row.get(4)?,
        state: row.get(5)?,
        decided_at: row.get(6)?,
        next_due: row.get(7)?,
        plan_since: row.get(8)?,
        created_at: row.get(9)?,
        updated_at: row.get(10)?,
        version: row.get(11)?,
        event_number: row.get(12)?,
    })
}

/// A tenant out of its row. The id of one that was deleted is what it was.
pub(super) fn tenant_from_model(row: tenant::Model) -> Result<Tenant, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("{what} of tenant {}", row.key));
    Ok(Tenant {
        key: TenantKey(row.key),
        zone: row.zone.parse().map_err(|_| corrupt("time zone"))?,
        state: state_from_code(row.state).ok_or_else(|| corrupt("state"))?,
        id: row.id.or(row.deleted_id).unwrap_or_default().into(),
        display_name: row.display_name,
        plan: PlanKey(row.plan_key),
        decided_at: row.decided_at,
        next_due: row.next_due,
        plan_since: row.plan_since,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: row.version,
        event_number: row.event_number,
    })
}

/// The number that stands for a state in the row.
pub(super) fn state_code(state: TenantState) -> i16 {
    match state {
        TenantState::Active => 1,
        TenantState::Suspended => 2,
    }
}

fn state_from_code(code: i16) -> Option<TenantState> {
    match code {
        1 => Some(TenantState::Active),
        2 => Some(TenantState::Suspended),
        _ => None,
    }
}
