//! What operators change: resources, plans, tenants.
//!
//! Every change locks the policy's row first, so that there is one at a time and none is based on what another one just
//! took away. A change to a tenant then locks its row, as decisions do.

mod plans;
mod resources;
mod tenants;
mod webhooks;

pub use plans::{NewPlan, PlanChange};
pub use resources::{NewResource, ResourceChange};
pub use tenants::{NewTenant, PlannedTenant, TenantChange};
pub use webhooks::{NewWebhook, WebhookChange};
pub(super) use webhooks::{webhook_columns, webhook_from_row};

use sea_orm::{ActiveModelTrait, ActiveValue, EntityTrait, QuerySelect};

use super::{
    entity::policy,
    error::StoreError,
    policy::{POLICY_ROW, revision_of},
    transaction::Transaction,
};
use crate::domain::{
    event::{ChangeAction, ChangedKind, Event, Fact},
    window::Millis,
};

/// One page of a list, in the order of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// As many as were asked for, or fewer on the last page.
    pub items: Vec<T>,
    /// There are more behind the last one.
    pub more: bool,
}

impl<T> Page<T> {
    /// Out of rows of which one more was read than is shown.
    fn of(mut items: Vec<T>, size: usize) -> Self {
        let more = items.len() > size;
        items.truncate(size);
        Self { items, more }
    }
}

/// Rows to read for a page of this size.
fn rows_to_read(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX).saturating_add(1)
}

/// Waits for other changes to end, and returns the revision.
async fn lock_policy(transaction: &Transaction) -> Result<i64, StoreError> {
    let row = policy::Entity::find_by_id(POLICY_ROW).lock_exclusive().one(transaction.connection()?).await?;
    revision_of(row)
}

/// Counts a change to resources or plans, so that all who decide load them anew. Returns the new revision, which is also
/// the key of what the change makes.
async fn next_revision(transaction: &Transaction, revision: i64) -> Result<i32, StoreError> {
    let next = i32::try_from(revision + 1)
        .map_err(|_| StoreError::Corrupt("the policy's revision is above 2,147,483,647".to_owned()))?;
    let row = policy::ActiveModel {
        id: ActiveValue::Unchanged(POLICY_ROW),
        revision: ActiveValue::Set(i64::from(next)),
    };
    // An update that meets no row is an error.
    row.update(transaction.connection()?).await?;
    Ok(next)
}

/// Tells of a change to a resource or a plan. To be done last.
async fn tell(
    transaction: &Transaction,
    now: Millis,
    (kind, id, action): (ChangedKind, &str, ChangeAction),
) -> Result<(), StoreError> {
    let fact = Fact::Changed { kind, id: id.to_owned(), action };
    transaction.append_event(&Event::of_no_tenant(now, fact)).await
}

/// Whether a value was given that is another than the one that is there. An update that changes none writes nothing: the
/// revision stays, no event is emitted, and no lane loads anything anew.
fn changes<T: PartialEq>(given: &Option<T>, found: &T) -> bool {
    given.as_ref().is_some_and(|given| given != found)
}

/// The column keeps its value unless there is another one.
fn set_if<T: Into<sea_orm::Value>>(value: Option<T>) -> ActiveValue<T> {
    value.map_or(ActiveValue::NotSet, ActiveValue::Set)
}

#[cfg(test)]
mod tests;
