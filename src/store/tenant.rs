//! Tenants: rows ⇄ domain.

use super::{entity::tenant, error::StoreError, transaction::Row};
use crate::domain::{
    id::{PlanKey, TenantKey},
    tenant::{Tenant, TenantState},
};

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
