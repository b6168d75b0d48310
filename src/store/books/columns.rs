//! Values of many tenants, arranged in columns, as bulk statements take them.

use sea_orm::Value;
use uuid::Uuid;

use crate::domain::{
    books::Changes,
    id::{ReservationId, TenantKey},
};

/// A tenant's key, and something that belongs to the tenant.
pub type Owned<T> = (TenantKey, T);

/// Returns the rows of all `changes`, each with its tenant's key.
pub(super) fn owned<'a, T: 'a>(
    changes: &'a [Changes],
    rows: impl Fn(&'a Changes) -> &'a Vec<T>,
) -> impl Iterator<Item = Owned<&'a T>> {
    changes.iter().flat_map(move |change| rows(change).iter().map(|row| (change.tenant, row)))
}

/// Returns the column of the tenants' keys.
pub(super) fn tenants<T>(owned: &[Owned<T>]) -> Vec<Value> {
    owned.iter().map(|(tenant, _)| Value::from(tenant.0)).collect()
}

/// Returns the value of a reservation's id.
pub(super) fn uuid(id: ReservationId) -> Value {
    Value::from(Uuid::from_bytes(id.0))
}
