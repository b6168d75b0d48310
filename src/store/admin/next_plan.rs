//! Scheduled changes of plan: what administration does with them (R4.39). A batch writes the due change of its own
//! tenants. Administration first writes the due changes of the tenants that it is about.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{
    super::{
        books::tenant::tenant_from_model,
        connect::Store,
        entity::{plan, tenant},
        error::{AdminError, StoreError},
        policy::{Carried, carried_to_text, plan_from_model},
        transaction::{Entities, Reading, Transaction, Writing},
    },
    Done, PlannedTenant, emit_tenant_change, lock_policy, next_version,
};
use crate::domain::{
    id::{PlanKey, TenantKey},
    next_plan::{SCHEDULED_MAX, end_of_month},
    plan::Policy,
    refusal::{Fault, Refusal},
    tenant::{NextPlan, Tenant},
    time::Time,
    timing::TenantCalendar,
};

/// Maximum number of tenants whose due changes one transaction writes. Their operations wait meanwhile.
const CHANGED_MAX: u64 = 100;

/// Maximum number of tenants on one page of the list of due changes.
const PAGE_ROWS: usize = 2_000;

/// A place in the list of due changes: the instant of the change, and the tenant.
pub type PlanChangePlace = (Time, TenantKey);

/// A change of a tenant's next plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPlanChange {
    /// The tenant keeps its plan.
    Withdraw,
    /// The tenant gets another plan.
    Schedule {
        /// The id of the plan.
        plan: String,
        /// When the tenant gets the plan. `None`: when its month ends.
        at: Option<Time>,
    },
}

/// A plan that a tenant gets later, as replies show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedNext {
    /// The id of the plan.
    pub plan_id: String,
    /// When the tenant gets the plan.
    pub at: Time,
}

impl Store {
    /// Lists the tenants after a place whose scheduled changes of plan are due, one page of them. Returns the tenants,
    /// and the place after which the next page begins, if this is not the last page.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn list_due_plans(
        &self,
        shown: Option<Time>,
        after: PlanChangePlace,
    ) -> Result<(Vec<TenantKey>, Option<PlanChangePlace>), StoreError> {
        let transaction = self.begin_read("list due changes of plan").await?;
        let now = transaction.now(shown).await?;
        let text = "SELECT key, next_plan_at FROM tenants
              WHERE id IS NOT NULL AND next_plan_at IS NOT NULL AND next_plan_at <= $1 AND next_plan_at >= $2
                AND (next_plan_at, key) > ($2, $3) ORDER BY next_plan_at, key LIMIT $4";
        let limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
        let values = vec![now.into(), after.0.into(), after.1.0.into(), limit.into()];
        let rows = transaction.rows(text, values).await?;
        transaction.rollback().await?;
        let mut keys = Vec::with_capacity(rows.len());
        let mut last = None;
        for row in &rows {
            let key = TenantKey(row.get(0)?);
            keys.push(key);
            last = Some((row.get(1)?, key));
        }
        Ok((keys, last.filter(|_| rows.len() == PAGE_ROWS)))
    }

    /// Writes the due changes of plan of all tenants that have this plan or get it, in transactions of their own. So
    /// few are left for the transaction that then changes the plan.
    pub(super) async fn change_due_plans(&self, shown: Option<Time>, plan: &str) -> Result<(), AdminError> {
        loop {
            let changed = self
                .run("write due changes of plan", move |transaction| async move {
                    lock_policy(&transaction).await?;
                    let changed = match find_plan(&transaction, plan).await? {
                        Some(plan) => {
                            let now = transaction.now(shown).await?;
                            change_due(&transaction, now, plan.key, Some(CHANGED_MAX)).await?
                        }
                        None => 0,
                    };
                    Ok((transaction, changed))
                })
                .await?;
            if changed < CHANGED_MAX {
                return Ok(());
            }
        }
    }
}

/// Writes the due changes of tenants that have a plan or get it, and returns their number. The caller has locked the
/// policy. `most`: at most this many.
pub(super) async fn change_due(
    transaction: &Transaction<Writing>,
    now: Time,
    plan: i32,
    most: Option<u64>,
) -> Result<u64, AdminError> {
    let due = tenant::Entity::find()
        .filter(tenant::Column::Id.is_not_null())
        .filter(tenant::Column::NextPlanAt.lte(now))
        .filter(has_or_gets(plan))
        .order_by_asc(tenant::Column::Key);
    let due = due.limit(most).lock_exclusive().all(transaction.connection()).await?;
    let count = due.len() as u64;
    if count > 0 {
        let policy = transaction.load_policy().await?;
        for row in due {
            change_row(transaction, row, &policy, now).await?;
        }
    }
    Ok(count)
}

/// Returns the condition that a tenant has a plan, or is to get it.
pub(super) fn has_or_gets(plan: i32) -> Condition {
    let gets = Condition::all()
        .add(tenant::Column::NextPlanAt.is_not_null())
        .add(tenant::Column::NextPlanKey.eq(plan));
    Condition::any().add(tenant::Column::PlanKey.eq(plan)).add(gets)
}

/// Returns the condition that a tenant has a plan at `now`.
pub(super) fn has_at(plan: i32, now: Time) -> Condition {
    let not_due =
        Condition::any().add(tenant::Column::NextPlanAt.is_null()).add(tenant::Column::NextPlanAt.gt(now));
    let has = Condition::all().add(tenant::Column::PlanKey.eq(plan)).add(not_due);
    let got =
        Condition::all().add(tenant::Column::NextPlanAt.lte(now)).add(tenant::Column::NextPlanKey.eq(plan));
    Condition::any().add(has).add(got)
}

/// Returns the next plan of a tenant, as replies show it.
pub(super) async fn planned_next(
    transaction: &Transaction<impl Entities>,
    tenant: &Tenant,
) -> Result<Option<PlannedNext>, StoreError> {
    let Some(NextPlan { plan, at }) = tenant.next_plan else { return Ok(None) };
    let found = plan::Entity::find_by_id(plan.0).one(transaction.connection()).await?;
    Ok(found.map(|plan| PlannedNext { plan_id: plan.id, at }))
}

/// Writes the change of plan of a tenant if it is due, and returns the tenant's row. The caller has locked the policy
/// and the tenant.
pub(super) async fn change_if_due(
    transaction: &Transaction<Writing>,
    row: tenant::Model,
    now: Time,
) -> Result<tenant::Model, StoreError> {
    if row.next_plan_at.is_none_or(|at| at > now) {
        return Ok(row);
    }
    let policy = transaction.load_policy().await?;
    change_row(transaction, row, &policy, now).await
}

async fn change_row(
    transaction: &Transaction<Writing>,
    row: tenant::Model,
    policy: &Policy,
    now: Time,
) -> Result<tenant::Model, StoreError> {
    let now = now.max(row.decided_at);
    let mut changed = tenant_from_model(row.clone())?;
    changed.change_plan_if_due(policy, now);
    let Some(unsaved) = changed.unsaved else { return Ok(row) };
    let model = tenant::ActiveModel {
        key: Unchanged(row.key),
        plan_key: Set(changed.plan.0),
        plan_since: Set(changed.plan_since.at),
        carried: Set(carried_column(&changed)?),
        next_plan_key: Set(None),
        next_plan_at: Set(None),
        decided_at: Set(now),
        updated_at: Set(changed.updated_at),
        version: Set(next_version(&row, now)),
        event_number: Set(row.event_number + 1),
        ..Default::default()
    };
    let row = model.update(transaction.connection()).await?;
    let written = tenant_from_model(row.clone())?;
    emit_tenant_change(transaction, &written, Done::Updated(unsaved.fields().to_vec())).await?;
    Ok(row)
}

async fn find_plan(
    transaction: &Transaction<impl Entities>,
    id: &str,
) -> Result<Option<plan::Model>, StoreError> {
    Ok(plan::Entity::find().filter(plan::Column::Id.eq(id)).one(transaction.connection()).await?)
}

/// Returns the column `carried` of a tenant.
fn carried_column(tenant: &Tenant) -> Result<Option<String>, StoreError> {
    let carried = Carried { plan_since: tenant.plan_since, lineages: tenant.carried.clone() };
    carried_to_text(&carried).map(Some)
}

/// Returns the next plan of a tenant after a change, and the id of that plan. `plan` and `calendars` are those of the
/// tenant after the change; `other_plan` says whether the change replaces the plan.
pub(super) async fn next_plan_after(
    transaction: &Transaction<Writing>,
    before: &Tenant,
    change: Option<&NextPlanChange>,
    (plan, other_plan): (&plan::Model, bool),
    calendars: &[TenantCalendar],
    now: Time,
) -> Result<Option<NextPlan>, AdminError> {
    let (wanted, at) = match change {
        // A change of plan at once withdraws what was scheduled.
        None => return Ok(before.next_plan.filter(|_| !other_plan)),
        Some(NextPlanChange::Withdraw) => return Ok(None),
        Some(NextPlanChange::Schedule { plan, at }) => (plan, *at),
    };
    let next = find_plan(transaction, wanted).await?;
    let next = next.ok_or_else(|| Refusal::PlanNotFound(wanted.clone()))?;
    let refuse = |field: &str, text: &str| {
        Err(Refusal::Invalid(vec![Fault::new(format!("tenant.next_plan.{field}"), text)]).into())
    };
    if next.key == plan.key {
        return refuse("plan", "must be another plan than the tenant has");
    }
    let at = match at {
        Some(at) if at <= now => return refuse("effective_time", "must be in the future"),
        Some(at) if at > now.saturating_add(SCHEDULED_MAX) => {
            return refuse("effective_time", "must be at most 400 days from now");
        }
        Some(at) => at,
        None => end_of_month(&plan_from_model(plan.clone())?, calendars, now),
    };
    Ok(Some(NextPlan { plan: PlanKey(next.key), at }))
}

impl Transaction<Reading> {
    /// Returns tenants as they are at `now`: with their next plans if these are due. Also returns the ids of their
    /// plans, and of their next plans.
    pub(super) async fn tenants_at(
        &self,
        rows: Vec<tenant::Model>,
        now: Time,
    ) -> Result<Vec<PlannedTenant>, StoreError> {
        let mut tenants = rows.into_iter().map(tenant_from_model).collect::<Result<Vec<_>, _>>()?;
        if tenants.iter().any(|tenant| tenant.has_due_plan(now)) {
            let policy = self.load_policy().await?;
            tenants.iter_mut().for_each(|tenant| tenant.change_plan_if_due(&policy, now));
        }
        let used = tenants.iter().flat_map(|tenant| {
            std::iter::once(tenant.plan).chain(tenant.next_plan.map(|next| next.plan)).map(|key| key.0)
        });
        let used = plan::Entity::find().filter(plan::Column::Key.is_in(used)).all(self.connection()).await?;
        let id_of = |key: PlanKey| used.iter().find(|plan| plan.key == key.0).map(|plan| plan.id.clone());
        let planned = |tenant: Tenant| {
            let missing = || StoreError::Corrupt(format!("the plan of tenant {} is missing", tenant.key.0));
            let next = tenant.next_plan.and_then(|next| Some((id_of(next.plan)?, next.at)));
            let next = next.map(|(plan_id, at)| PlannedNext { plan_id, at });
            Ok(PlannedTenant { plan_id: id_of(tenant.plan).ok_or_else(missing)?, next, tenant })
        };
        tenants.into_iter().map(planned).collect()
    }
}
