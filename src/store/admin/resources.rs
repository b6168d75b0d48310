//! Resources: declare, update, delete, read.

use std::sync::Arc;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{
    super::{
        audit::{By, Deed, Thing},
        connect::Store,
        entity::resource,
        error::{AdminError, StoreError},
        policy::resource_from_model,
        transaction::{Entities, Reading, Transaction},
    },
    Done, Page, changed_fields, changes, emit_change, lock_policy, next_revision, rows_to_read, set_if,
};
use crate::domain::{
    audit::ThingKind,
    etag::check_etag,
    event::ChangedKind,
    id::ResourceKey,
    plan::{Plan, Resource},
    refusal::Refusal,
    time::Time,
};

/// A resource to be declared.
#[derive(Clone, Debug)]
pub struct NewResource {
    /// The resource's id as clients write it.
    pub id: String,
    /// A name for people to read.
    pub display_name: String,
    /// What one unit is, for people.
    pub unit: String,
}

/// The fields of a resource to change; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct ResourceChange {
    /// A name for people to read.
    pub display_name: Option<String>,
    /// What one unit is, for people.
    pub unit: Option<String>,
    /// The etag that the resource must have. Empty: any.
    pub etag: String,
}

impl Store {
    /// Declares a resource. `by` says who makes the change, and when. This is true for all administrative functions.
    pub async fn create_resource(&self, by: By<'_>, new: &NewResource) -> Result<Resource, AdminError> {
        self.run("create resource", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            if find_row(&transaction, &new.id).await?.is_some() {
                return Err(Refusal::NameTaken { kind: "resource", id: new.id.clone() }.into());
            }
            let now = transaction.now(by.shown).await?;
            let row = resource::ActiveModel {
                key: Set(next_revision(&transaction, revision).await?),
                id: Set(new.id.clone()),
                display_name: Set(new.display_name.clone()),
                unit: Set(new.unit.clone()),
                deleted: Set(0),
                created_at: Set(now),
                updated_at: Set(now),
            };
            let made = resource_from_model(row.insert(transaction.connection()).await?);
            let deed = deed(now, revision, (None, Some(&made)));
            emit_change(&transaction, by, ChangedKind::Resource, deed, Done::Created).await?;
            Ok((transaction, made))
        })
        .await
    }

    /// Changes a resource. Has no effect if all given values are equal to the present values.
    pub async fn update_resource(
        &self,
        by: By<'_>,
        id: &str,
        change: &ResourceChange,
    ) -> Result<Resource, AdminError> {
        self.run("update resource", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            let found = get_row(&transaction, id).await?;
            let before = resource_from_model(found.clone());
            check_etag(&change.etag, || before.etag(), "resource", id)?;
            let fields = changed_fields([
                ("display_name", changes(&change.display_name, &found.display_name)),
                ("unit", changes(&change.unit, &found.unit)),
            ]);
            if fields.is_empty() {
                return Ok((transaction, before));
            }
            next_revision(&transaction, revision).await?;
            let now = transaction.now(by.shown).await?.max(found.updated_at);
            let row = resource::ActiveModel {
                key: Unchanged(found.key),
                display_name: set_if(change.display_name.clone()),
                unit: set_if(change.unit.clone()),
                updated_at: Set(now),
                ..Default::default()
            };
            let changed = resource_from_model(row.update(transaction.connection()).await?);
            let deed = deed(now, revision, (Some(&before), Some(&changed)));
            emit_change(&transaction, by, ChangedKind::Resource, deed, Done::Updated(fields)).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Marks a resource as deleted, unless a limit of a plan names it. Refuses if the resource has another etag than
    /// `etag`, unless that is empty.
    pub async fn delete_resource(&self, by: By<'_>, id: &str, etag: &str) -> Result<(), AdminError> {
        self.run("delete resource", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            let found = get_row(&transaction, id).await?;
            let before = resource_from_model(found.clone());
            check_etag(etag, || before.etag(), "resource", id)?;
            let policy = transaction.load_policy().await?;
            let key = ResourceKey(found.key);
            let limits_it = |plan: &&Arc<Plan>| plan.limits.iter().any(|limit| limit.shape.resource == key);
            if let Some(plan) = policy.plans.values().find(limits_it) {
                return Err(Refusal::ResourceInUse { id: id.to_owned(), plan: plan.id.clone() }.into());
            }
            next_revision(&transaction, revision).await?;
            let now = transaction.now(by.shown).await?.max(found.updated_at);
            let row = resource::ActiveModel {
                key: Unchanged(found.key),
                deleted: Set(1),
                updated_at: Set(now),
                ..Default::default()
            };
            row.update(transaction.connection()).await?;
            let deed = deed(now, revision, (Some(&before), None));
            emit_change(&transaction, by, ChangedKind::Resource, deed, Done::Deleted).await?;
            Ok((transaction, ()))
        })
        .await
    }
}

impl Transaction<Reading> {
    /// Returns the declared resource of an id, or the refusal RESOURCE_NOT_FOUND.
    pub async fn get_resource(&self, id: &str) -> Result<Resource, AdminError> {
        Ok(resource_from_model(get_row(self, id).await?))
    }

    /// Lists the declared resources after an id, or from the first resource on.
    pub async fn list_resources(
        &self,
        after: Option<&str>,
        size: usize,
    ) -> Result<Page<Resource>, StoreError> {
        let mut rows = resource::Entity::find().filter(resource::Column::Deleted.eq(0));
        if let Some(after) = after {
            rows = rows.filter(resource::Column::Id.gt(after));
        }
        let rows =
            rows.order_by_asc(resource::Column::Id).limit(rows_to_read(size)).all(self.connection()).await?;
        Ok(Page::of(rows.into_iter().map(resource_from_model).collect(), size))
    }
}

/// Makes the row of the audit of a change that raises the revision.
fn deed<'a>(
    at: Time,
    revision: i64,
    (before, after): (Option<&'a Resource>, Option<&'a Resource>),
) -> Deed<'a> {
    Deed {
        at,
        kind: ThingKind::Resource,
        thing: before.or(after).map_or("", |resource| &resource.id),
        tenant: "",
        before: before.map(Thing::Resource),
        after: after.map(Thing::Resource),
        revision: Some(revision + 1),
    }
}

async fn find_row(
    transaction: &Transaction<impl Entities>,
    id: &str,
) -> Result<Option<resource::Model>, StoreError> {
    let rows =
        resource::Entity::find().filter(resource::Column::Id.eq(id)).filter(resource::Column::Deleted.eq(0));
    Ok(rows.one(transaction.connection()).await?)
}

async fn get_row(transaction: &Transaction<impl Entities>, id: &str) -> Result<resource::Model, AdminError> {
    let found = find_row(transaction, id).await?;
    found.ok_or_else(|| Refusal::ResourceNotFound(id.to_owned()).into())
}
