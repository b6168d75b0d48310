//! The changes of operators to resources, plans, settings, tenants, agents and overrides. The changes to webhooks are
//! in
//! `webhooks/admin.rs`. This
//! file has the steps that all changes share. Read `resources.rs` first, whose changes are the shortest.
//!
//! Every change except a redelivery locks the policy's row first. So changes run one at a time, and no change relies
//! on a row that another change has just removed. A change of a tenant then locks the tenant's row, as decisions do.

mod agents;
mod keys;
mod next_plan;
mod overrides;
mod plans;
mod resources;
mod settings;
mod tenants;
mod terms;

pub use agents::{AgentChange, NewAgent, PlannedAgent};
pub use keys::{KeyChange, NewKey};
pub use next_plan::{NextPlanChange, PlanChangePlace, PlannedNext};
pub use overrides::{MadeOverride, OverrideChange};
pub use plans::{NewPlan, PlanChange};
pub use resources::{NewResource, ResourceChange};
pub use settings::SettingsChange;
pub use tenants::{AnchorTime, NewTenant, PlannedTenant, TenantChange};

use sea_orm::{ActiveModelTrait, ActiveValue, EntityTrait, QuerySelect};

use super::{
    audit::{By, Deed},
    entity::{policy, tenant},
    error::StoreError,
    policy::{POLICY_ROW, revision_of},
    transaction::{Transaction, Writing},
};
use crate::domain::{
    event::{ChangeAction, ChangedKind, Event, Fact},
    plan::Policy,
    tenant::Tenant,
    time::Time,
};

/// One page of a list, in the order of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// As many items as were requested, or fewer on the last page.
    pub items: Vec<T>,
    /// More items follow the last item of this page.
    pub more: bool,
}

impl<T> Page<T> {
    /// Makes a page from rows. The caller has read one row more than the page shows.
    pub(super) fn of(mut items: Vec<T>, size: usize) -> Self {
        let more = items.len() > size;
        items.truncate(size);
        Self { items, more }
    }
}

pub(super) fn rows_to_read(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX).saturating_add(1)
}

/// Locks the policy's row until the transaction ends, and returns the revision.
pub(super) async fn lock_policy(transaction: &Transaction<Writing>) -> Result<i64, StoreError> {
    let row = policy::Entity::find_by_id(POLICY_ROW).lock_exclusive().one(transaction.connection()).await?;
    revision_of(row)
}

/// Reads the policy's row, which the transaction has locked.
async fn read_policy_row(transaction: &Transaction<Writing>) -> Result<policy::Model, StoreError> {
    let row = policy::Entity::find_by_id(POLICY_ROW).one(transaction.connection()).await?;
    row.ok_or_else(|| StoreError::Corrupt("the table policy has no row".to_owned()))
}

/// Raises the revision after a change of resources, plans or settings, so that every engine loads them again. Returns
/// the new revision, which is also the key of the resource or plan that the change creates.
async fn next_revision(transaction: &Transaction<Writing>, revision: i64) -> Result<i32, StoreError> {
    let next = i32::try_from(revision + 1)
        .map_err(|_| StoreError::Corrupt("the policy's revision is above 2,147,483,647".to_owned()))?;
    let row = policy::ActiveModel {
        id: ActiveValue::Unchanged(POLICY_ROW),
        revision: ActiveValue::Set(i64::from(next)),
        ..Default::default()
    };
    // If no row is updated, SeaORM returns an error.
    row.update(transaction.connection()).await?;
    Ok(next)
}

/// Writes a change of a thing of no tenant into the audit, and emits POLICY_CHANGED. It must be the last step of a
/// transaction, because it locks the row of the log.
async fn emit_change(
    transaction: &Transaction<Writing>,
    by: By<'_>,
    kind: ChangedKind,
    deed: Deed<'_>,
    what: Done,
) -> Result<(), StoreError> {
    transaction.note_change(by, deed).await?;
    let fact = what.fact(kind, deed.thing, &by.author.caller);
    transaction.append_event(&Event::of_no_tenant(deed.at, fact)).await
}

/// What a change does to a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Created,
    /// The names of the fields that have another value now, see [`changed_fields`].
    Updated(Vec<&'static str>),
    Deleted,
}

impl Done {
    /// Returns the fact of the event POLICY_CHANGED.
    fn fact(&self, kind: ChangedKind, id: &str, caller: &str) -> Fact {
        let (action, fields) = match self {
            Done::Created => (ChangeAction::Created, &[][..]),
            Done::Updated(fields) => (ChangeAction::Updated, &fields[..]),
            Done::Deleted => (ChangeAction::Deleted, &[][..]),
        };
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        Fact::Changed { kind, id: id.to_owned(), action, fields, caller: caller.to_owned() }
    }
}

/// Returns the names of the fields that change, sorted. If there are none, the update must have no effect (R4.23).
fn changed_fields<const N: usize>(fields: [(&'static str, bool); N]) -> Vec<&'static str> {
    let mut changed: Vec<_> =
        fields.into_iter().filter(|(_, changes)| *changes).map(|(name, _)| name).collect();
    changed.sort_unstable();
    changed
}

/// Emits POLICY_CHANGED for a tenant that the server changed by itself. The tenant's row has been written and contains
/// the number of the event.
async fn emit_tenant_change(
    transaction: &Transaction<Writing>,
    tenant: &Tenant,
    what: Done,
) -> Result<(), StoreError> {
    let fact = what.fact(ChangedKind::Tenant, &tenant.id, "");
    let event = Event::of_tenant(tenant, &Policy::default(), fact);
    transaction.insert_event(&event, tenant.event_number).await
}

/// Writes a change of a tenant, or of something of the tenant, into the audit, and emits POLICY_CHANGED. The tenant's row
/// contains the number of the event.
async fn emit_of_tenant(
    transaction: &Transaction<Writing>,
    by: By<'_>,
    tenant: &Tenant,
    kind: ChangedKind,
    deed: Deed<'_>,
    what: Done,
) -> Result<(), StoreError> {
    transaction.note_change(by, deed).await?;
    let fact = what.fact(kind, deed.thing, &by.author.caller);
    let event = Event::of_tenant(tenant, &Policy::default(), fact);
    transaction.insert_event(&event, tenant.event_number).await
}

/// Returns a version that no lane has seen, even if a failover has lost changes. So the rows of the tenant that lanes
/// remember become invalid.
fn next_version(found: &tenant::Model, now: Time) -> i64 {
    found.version.wrapping_add(now.0)
}

/// Returns whether a value was given that differs from the present value. An update without any such value writes
/// nothing: the revision stays, no event is emitted, and no lane loads the policy again.
pub(super) fn changes<T: PartialEq>(given: &Option<T>, found: &T) -> bool {
    given.as_ref().is_some_and(|given| given != found)
}

/// Sets a column to a value. Without a value, the column stays as it is.
fn set_if<T: Into<sea_orm::Value>>(value: Option<T>) -> ActiveValue<T> {
    value.map_or(ActiveValue::NotSet, ActiveValue::Set)
}

#[cfg(test)]
mod tests;
