//! Plans: create, update, delete, read.

use std::sync::Arc;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{
    super::{
        audit::{By, Deed, Thing},
        connect::Store,
        entity::{agent, plan, tenant},
        error::{AdminError, StoreError},
        policy::{limits_to_text, plan_from_model},
        transaction::{Entities, Reading, Transaction},
    },
    Done, Page, changed_fields, changes, emit_change, lock_policy,
    next_plan::{change_due, has_or_gets},
    next_revision, read_policy_row, rows_to_read, set_if,
};
use crate::domain::{
    audit::ThingKind,
    carry::replace_limits,
    etag::check_etag,
    event::ChangedKind,
    faults::Faults,
    lineage::Since,
    plan::{Limit, Plan, Policy, Uncovered},
    refusal::{Fault, Refusal},
    time::Time,
};

/// A plan to be created.
#[derive(Clone, Debug)]
pub struct NewPlan {
    /// The plan's id as clients write it.
    pub id: String,
    /// A name for people to read.
    pub display_name: String,
    /// Limits of declared resources. Their `since` is set when they are stored.
    pub limits: Vec<Limit>,
    /// What happens to resources that no limit covers.
    pub uncovered: Uncovered,
}

/// The fields of a plan to change; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct PlanChange {
    /// A name for people to read.
    pub display_name: Option<String>,
    /// The complete new list of limits. Their `since` is set when they are stored.
    pub limits: Option<Vec<Limit>>,
    /// What happens to resources that no limit covers.
    pub uncovered: Option<Uncovered>,
    /// The etag that the plan must have. Empty: any.
    pub etag: String,
}

/// The limits before a plan is created.
const NO_LIMITS: [Arc<Limit>; 0] = [];

impl Store {
    /// Creates a plan. Refuses if the id is taken, or if a limit's resource is not declared.
    pub async fn create_plan(&self, by: By<'_>, new: &NewPlan) -> Result<Plan, AdminError> {
        self.run("create plan", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            if find_row(&transaction, &new.id).await?.is_some() {
                return Err(Refusal::NameTaken { kind: "plan", id: new.id.clone() }.into());
            }
            let policy = transaction.load_policy().await?;
            refuse_undeclared(&policy, &new.limits)?;
            let now = transaction.now(by.shown).await?;
            let key = next_revision(&transaction, revision).await?;
            let since = Since::of_revision(now, i64::from(key));
            let row = plan::ActiveModel {
                key: Set(key),
                id: Set(new.id.clone()),
                display_name: Set(new.display_name.clone()),
                limits: Set(limits_to_text(&replace(&NO_LIMITS, &new.limits, since)?)?),
                created_at: Set(now),
                updated_at: Set(now),
                uncovered: Set(new.uncovered.code()),
            };
            let made = plan_from_model(row.insert(transaction.connection()).await?)?;
            let deed = deed(now, &policy, (None, Some(&made)));
            emit_change(&transaction, by, ChangedKind::Plan, deed, Done::Created).await?;
            Ok((transaction, made))
        })
        .await
    }

    /// Changes a plan. Has no effect if all given values are equal to the present values.
    pub async fn update_plan(&self, by: By<'_>, id: &str, change: &PlanChange) -> Result<Plan, AdminError> {
        self.change_due_plans(by.shown, id).await?;
        self.run("update plan", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            let before = plan_from_model(get_row(&transaction, id).await?)?;
            check_etag(&change.etag, || before.etag(), "plan", id)?;
            let now = transaction.now(by.shown).await?.max(before.updated_at);
            change_due(&transaction, now, before.key.0, None).await?;
            let policy = transaction.load_policy().await?;
            if let Some(limits) = &change.limits {
                refuse_undeclared(&policy, limits)?;
            }
            let since = Since::of_revision(now, revision + 1);
            let limits = change.limits.as_ref().map(|limits| replace(&before.limits, limits, since));
            let limits = limits.transpose()?;
            let fields = changed_fields([
                ("display_name", changes(&change.display_name, &before.display_name)),
                ("limits", changes(&limits, &before.limits)),
                ("uncovered", changes(&change.uncovered, &before.uncovered)),
            ]);
            if fields.is_empty() {
                return Ok((transaction, before));
            }
            next_revision(&transaction, revision).await?;
            let row = plan::ActiveModel {
                key: Unchanged(before.key.0),
                display_name: set_if(change.display_name.clone()),
                limits: set_if(limits.as_deref().map(limits_to_text).transpose()?),
                updated_at: Set(now),
                uncovered: set_if(change.uncovered.map(Uncovered::code)),
                ..Default::default()
            };
            let changed = plan_from_model(row.update(transaction.connection()).await?)?;
            let deed = deed(now, &policy, (Some(&before), Some(&changed)));
            emit_change(&transaction, by, ChangedKind::Plan, deed, Done::Updated(fields)).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Deletes a plan, unless a tenant or an agent has it, a tenant is to get it, or it is the default plan. Refuses if
    /// the plan has another etag than `etag`, unless that is empty.
    pub async fn delete_plan(&self, by: By<'_>, id: &str, etag: &str) -> Result<(), AdminError> {
        self.change_due_plans(by.shown, id).await?;
        self.run("delete plan", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            let found = plan_from_model(get_row(&transaction, id).await?)?;
            check_etag(etag, || found.etag(), "plan", id)?;
            let connection = transaction.connection();
            let now = transaction.now(by.shown).await?.max(found.updated_at);
            change_due(&transaction, now, found.key.0, None).await?;
            let having = tenant::Entity::find()
                .filter(has_or_gets(found.key.0))
                .filter(tenant::Column::Id.is_not_null());
            if let Some(first) = having.clone().order_by_asc(tenant::Column::Id).one(connection).await? {
                let tenants = having.count(connection).await?;
                let tenant = first.id.unwrap_or_default();
                return Err(Refusal::PlanInUse { id: id.to_owned(), tenant, tenants }.into());
            }
            refuse_agents(&transaction, &found).await?;
            if read_policy_row(&transaction).await?.default_plan_key == Some(found.key.0) {
                return Err(Refusal::PlanIsDefault(id.to_owned()).into());
            }
            let policy = transaction.load_policy().await?;
            next_revision(&transaction, revision).await?;
            plan::Entity::delete_by_id(found.key.0).exec(connection).await?;
            let deed = deed(now, &policy, (Some(&found), None));
            emit_change(&transaction, by, ChangedKind::Plan, deed, Done::Deleted).await?;
            Ok((transaction, ()))
        })
        .await
    }
}

impl Transaction<Reading> {
    /// Returns the plan of an id, or the refusal PLAN_NOT_FOUND.
    pub async fn get_plan(&self, id: &str) -> Result<Plan, AdminError> {
        Ok(plan_from_model(get_row(self, id).await?)?)
    }

    /// Lists the plans after an id, or from the first plan on.
    pub async fn list_plans(&self, after: Option<&str>, size: usize) -> Result<Page<Plan>, StoreError> {
        let mut rows = plan::Entity::find();
        if let Some(after) = after {
            rows = rows.filter(plan::Column::Id.gt(after));
        }
        let rows =
            rows.order_by_asc(plan::Column::Id).limit(rows_to_read(size)).all(self.connection()).await?;
        Ok(Page::of(rows.into_iter().map(plan_from_model).collect::<Result<_, _>>()?, size))
    }
}

/// Makes the row of the audit of a change. `policy` is the policy before the change, which has the names of resources.
fn deed<'a>(at: Time, policy: &'a Policy, (before, after): (Option<&'a Plan>, Option<&'a Plan>)) -> Deed<'a> {
    Deed {
        at,
        kind: ThingKind::Plan,
        thing: before.or(after).map_or("", |plan| &plan.id),
        tenant: "",
        before: before.map(|plan| Thing::Plan(plan, policy)),
        after: after.map(|plan| Thing::Plan(plan, policy)),
        revision: Some(policy.revision + 1),
    }
}

/// Makes the new limits of a plan. Refuses limits whose anchors cannot change now.
fn replace(before: &[Arc<Limit>], limits: &[Limit], since: Since) -> Result<Vec<Arc<Limit>>, Refusal> {
    replace_limits(before, limits, since).map_err(|full| {
        let fault = |(place, full)| Fault::new(format!("plan.limits[{place}]"), format!("{full}"));
        Refusal::Invalid(full.into_iter().map(fault).collect())
    })
}

/// Refuses limits of undeclared resources. The transaction checks this again, since a resource may have been deleted
/// since the request was parsed.
fn refuse_undeclared(policy: &Policy, limits: &[Limit]) -> Result<(), Refusal> {
    let declared =
        |limit: &Limit| policy.resources.get(&limit.shape.resource).is_some_and(|found| !found.deleted);
    let mut faults = Faults::default();
    for (place, _) in limits.iter().enumerate().filter(|(_, limit)| !declared(limit)) {
        faults.add(format_args!("plan.limits[{place}].resource"), "must be a declared resource");
    }
    faults.into_result(())
}

pub(super) async fn find_row(
    transaction: &Transaction<impl Entities>,
    id: &str,
) -> Result<Option<plan::Model>, StoreError> {
    Ok(plan::Entity::find().filter(plan::Column::Id.eq(id)).one(transaction.connection()).await?)
}

pub(super) async fn get_row(
    transaction: &Transaction<impl Entities>,
    id: &str,
) -> Result<plan::Model, AdminError> {
    find_row(transaction, id).await?.ok_or_else(|| Refusal::PlanNotFound(id.to_owned()).into())
}

/// Refuses to delete a plan that agents have.
async fn refuse_agents(transaction: &Transaction<impl Entities>, found: &Plan) -> Result<(), AdminError> {
    let having = agent::Entity::find().filter(agent::Column::PlanKey.eq(found.key.0));
    let first = having.clone().order_by_asc(agent::Column::TenantKey).order_by_asc(agent::Column::Id);
    let Some(first) = first.one(transaction.connection()).await? else { return Ok(()) };
    let agents = having.count(transaction.connection()).await?;
    let tenant = tenant::Entity::find_by_id(first.tenant_key).one(transaction.connection()).await?;
    let tenant = tenant.and_then(|tenant| tenant.id).unwrap_or_default();
    Err(Refusal::PlanOfAgents { id: found.id.clone(), tenant, agent: first.id, agents }.into())
}
