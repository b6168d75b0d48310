//! Tenants: create, update, delete, read.

use std::{collections::BTreeSet, sync::Arc};

use chrono_tz::Tz;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{
    super::{
        audit::{By, Deed, Thing},
        books::tenant::tenant_from_model,
        connect::Store,
        entity::{agent, hold, limit_override, plan, tenant},
        error::{AdminError, StoreError},
        policy::{Carried, calendars_to_text, carried_to_text, plan_from_model},
        transaction::{Entities, Reading, Transaction, Writing},
    },
    Done, Page, changed_fields, changes, emit_of_tenant, lock_policy,
    next_plan::{NextPlanChange, PlannedNext, change_if_due, has_at, next_plan_after, planned_next},
    next_version, plans, rows_to_read, set_if,
};
use crate::domain::{
    audit::ThingKind,
    etag::check_etag,
    event::ChangedKind,
    id::TenantKey,
    lineage::Since,
    plan::Limit,
    refusal::{Fault, Refusal},
    tenant::{Tenant, TenantState},
    time::Time,
    timing::{TenantCalendar, changed_calendars},
};

/// A tenant to be created.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// The key that was minted for the id.
    pub key: TenantKey,
    /// The tenant's id as clients write it.
    pub id: String,
    /// A name for people to read.
    pub display_name: String,
    /// The id of the tenant's plan.
    pub plan: String,
    /// The time zone in which days and longer periods begin.
    pub zone: Tz,
    /// When the subscription began. `None`: when the tenant is created.
    pub anchor_time: Option<Time>,
    /// Whether the tenant may take new holds.
    pub state: TenantState,
}

/// The fields of a tenant to change; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct TenantChange {
    /// A name for people to read.
    pub display_name: Option<String>,
    /// The id of another plan.
    pub plan: Option<String>,
    /// Whether the tenant may take new holds.
    pub state: Option<TenantState>,
    /// The time zone in which days and longer periods begin.
    pub zone: Option<Tz>,
    /// When the subscription began.
    pub anchor_time: Option<AnchorTime>,
    /// The scheduled change of plan.
    pub next_plan: Option<NextPlanChange>,
    /// The etag that the tenant must have. Empty: any.
    pub etag: String,
}

/// A change of the start of a tenant's subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorTime {
    /// The subscription began when the tenant was created.
    Creation,
    /// The subscription began at this instant.
    At(Time),
}

/// A tenant, and the id of its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTenant {
    /// The tenant, as its database row describes it.
    pub tenant: Tenant,
    /// The id of the tenant's plan.
    pub plan_id: String,
    /// The plan that the tenant gets later, if a change is scheduled.
    pub next: Option<PlannedNext>,
}

impl Store {
    /// Creates a tenant. Refuses if the id is taken, or if the plan does not exist.
    pub async fn create_tenant(&self, by: By<'_>, new: &NewTenant) -> Result<PlannedTenant, AdminError> {
        self.run("create tenant", move |transaction| async move {
            lock_policy(&transaction).await?;
            if find_row(&transaction, &new.id, Lock::No).await?.is_some() {
                return Err(Refusal::NameTaken { kind: "tenant", id: new.id.clone() }.into());
            }
            let plan = plans::get_row(&transaction, &new.plan).await?;
            let tenant = insert(&transaction, by.shown, new, plan.key).await?;
            let made = PlannedTenant { tenant, plan_id: plan.id, next: None };
            emit(&transaction, by, (None, Some(&made)), &made.tenant, Done::Created).await?;
            Ok((transaction, made))
        })
        .await
    }

    /// Changes a tenant. Has no effect if all given values are equal to the present values.
    pub async fn update_tenant(
        &self,
        by: By<'_>,
        id: &str,
        change: &TenantChange,
    ) -> Result<PlannedTenant, AdminError> {
        self.run("update tenant", move |transaction| async move {
            let revision = lock_policy(&transaction).await?;
            let found = get_row(&transaction, id, Lock::Yes).await?;
            let now = transaction.now(by.shown).await?.max(found.decided_at);
            let found = change_if_due(&transaction, found, now).await?;
            let before = tenant_from_model(found.clone())?;
            check_etag(&change.etag, || before.etag(), "tenant", id)?;
            let present = plan_of(&transaction, &found).await?;
            let plan = match &change.plan {
                Some(plan) => plans::get_row(&transaction, plan).await?,
                None => present.clone(),
            };
            let other_plan = plan.key != found.plan_key;
            let calendar = calendar_after(&before, change);
            let agents_limits = if calendar == *before.calendar() {
                Vec::new()
            } else {
                agents_limits(&transaction, found.key).await?
            };
            let calendars = calendars_after(&before, calendar, &plan, &agents_limits, now)?;
            let wanted = change.next_plan.as_ref();
            let running = calendars.as_deref().unwrap_or(&before.calendars);
            let next =
                next_plan_after(&transaction, &before, wanted, (&plan, other_plan), running, now).await?;
            let fields = changed_fields([
                ("anchor_time", calendar.anchor_time != before.calendar().anchor_time),
                ("display_name", changes(&change.display_name, &before.display_name)),
                ("next_plan", next != before.next_plan),
                ("plan", other_plan),
                ("state", changes(&change.state, &before.state)),
                ("zone", calendar.zone != before.calendar().zone),
            ]);
            let shown_before = PlannedTenant {
                next: planned_next(&transaction, &before).await?,
                plan_id: present.id.clone(),
                tenant: before.clone(),
            };
            if fields.is_empty() {
                return Ok((transaction, shown_before));
            }
            let calendars = calendars.as_deref().map(calendars_to_text).transpose()?;
            let carried =
                if other_plan { Some(carry(&before, present, &plan, now, revision)?) } else { None };
            let row = tenant::ActiveModel {
                key: Unchanged(found.key),
                carried: set_if(carried),
                display_name: set_if(change.display_name.clone()),
                plan_key: set_if(other_plan.then_some(plan.key)),
                plan_since: set_if(other_plan.then_some(now)),
                state: set_if(change.state.map(TenantState::code)),
                zone: set_if(calendars.is_some().then(|| calendar.zone.name().to_owned())),
                calendars: set_if(calendars.map(Some)),
                next_plan_key: Set(next.map(|next| next.plan.0)),
                next_plan_at: Set(next.map(|next| next.at)),
                decided_at: Set(now),
                updated_at: Set(now),
                version: Set(next_version(&found, now)),
                event_number: Set(found.event_number + 1),
                ..Default::default()
            };
            let tenant = tenant_from_model(row.update(transaction.connection()).await?)?;
            let next = planned_next(&transaction, &tenant).await?;
            let changed = PlannedTenant { tenant, plan_id: plan.id, next };
            let things = (Some(&shown_before), Some(&changed));
            emit(&transaction, by, things, &changed.tenant, Done::Updated(fields)).await?;
            Ok((transaction, changed))
        })
        .await
    }

    /// Deletes a tenant: the tenant loses its id, and its rows stay. Refuses while the tenant has open holds, unless
    /// `force` is given. A hold whose deadline has come is not open, even if it was not swept yet. Refuses if the
    /// tenant has another etag than `etag`, unless that is empty.
    pub async fn delete_tenant(
        &self,
        by: By<'_>,
        id: &str,
        force: bool,
        etag: &str,
    ) -> Result<(), AdminError> {
        self.run("delete tenant", move |transaction| async move {
            lock_policy(&transaction).await?;
            let found = get_row(&transaction, id, Lock::Yes).await?;
            let now = transaction.now(by.shown).await?.max(found.decided_at);
            let found = change_if_due(&transaction, found, now).await?;
            let before = tenant_from_model(found.clone())?;
            check_etag(etag, || before.etag(), "tenant", id)?;
            let open = hold::Entity::find()
                .filter(hold::Column::TenantKey.eq(found.key))
                .filter(hold::Column::Deadline.is_not_null())
                .filter(hold::Column::Deadline.gt(now));
            let holds = open.count(transaction.connection()).await?;
            if holds > 0 && !force {
                return Err(Refusal::TenantHasHolds { id: id.to_owned(), holds }.into());
            }
            let plan_id = plan_of(&transaction, &found).await?.id;
            let next = planned_next(&transaction, &before).await?;
            let before = PlannedTenant { tenant: before, plan_id, next };
            let (connection, key) = (transaction.connection(), found.key);
            agent::Entity::delete_many().filter(agent::Column::TenantKey.eq(key)).exec(connection).await?;
            let of_tenant = limit_override::Column::TenantKey.eq(key);
            limit_override::Entity::delete_many().filter(of_tenant).exec(connection).await?;
            let version = next_version(&found, now);
            let row = tenant::ActiveModel {
                key: Unchanged(found.key),
                id: Set(None),
                deleted_id: Set(found.id),
                next_plan_key: Set(None),
                next_plan_at: Set(None),
                decided_at: Set(now),
                updated_at: Set(now),
                version: Set(version),
                event_number: Set(found.event_number + 1),
                ..Default::default()
            };
            let tenant = tenant_from_model(row.update(transaction.connection()).await?)?;
            emit(&transaction, by, (Some(&before), None), &tenant, Done::Deleted).await?;
            Ok((transaction, ()))
        })
        .await
    }
}

impl Transaction<Reading> {
    /// Returns the tenant of an id, or the refusal TENANT_NOT_FOUND. A change of plan that is due has taken place.
    pub async fn get_tenant(&self, shown: Option<Time>, id: &str) -> Result<PlannedTenant, AdminError> {
        let row = get_row(self, id, Lock::No).await?;
        let now = self.now(shown).await?;
        let tenant = self.tenants_at(vec![row], now).await?.pop();
        tenant.ok_or_else(|| Refusal::TenantNotFound(id.to_owned()).into())
    }

    /// Lists the tenants after an id, or from the first tenant on. With a plan, lists only the tenants of that plan.
    /// Changes of plan that are due have taken place.
    pub async fn list_tenants(
        &self,
        shown: Option<Time>,
        plan: Option<&str>,
        after: Option<&str>,
        size: usize,
    ) -> Result<Page<PlannedTenant>, AdminError> {
        let now = self.now(shown).await?;
        let mut rows = tenant::Entity::find().filter(tenant::Column::Id.is_not_null());
        if let Some(plan) = plan {
            rows = rows.filter(has_at(plans::get_row(self, plan).await?.key, now));
        }
        if let Some(after) = after {
            rows = rows.filter(tenant::Column::Id.gt(after));
        }
        let rows =
            rows.order_by_asc(tenant::Column::Id).limit(rows_to_read(size)).all(self.connection()).await?;
        Ok(Page::of(self.tenants_at(rows, now).await?, size))
    }
}

/// Writes a tenant with a plan of this key, without an event. The caller has locked the policy and checked that the id is free.
pub(super) async fn insert(
    transaction: &Transaction<Writing>,
    shown: Option<Time>,
    new: &NewTenant,
    plan: i32,
) -> Result<Tenant, AdminError> {
    let now = transaction.now(shown).await?;
    let calendars = new
        .anchor_time
        .map(|anchor_time| calendars_to_text(&[TenantCalendar { since: now, zone: new.zone, anchor_time }]));
    let calendars = calendars.transpose()?;
    let row = tenant::ActiveModel {
        key: Set(new.key.0),
        id: Set(Some(new.id.clone())),
        deleted_id: Set(None),
        display_name: Set(new.display_name.clone()),
        plan_key: Set(plan),
        zone: Set(new.zone.name().to_owned()),
        calendars: Set(calendars),
        state: Set(new.state.code()),
        decided_at: Set(now),
        next_due: Set(Time::NEVER),
        version: Set(0),
        plan_since: Set(now),
        created_at: Set(now),
        updated_at: Set(now),
        event_number: Set(1),
        carried: Set(None),
        terms_version: Set(0),
        next_plan_key: Set(None),
        next_plan_at: Set(None),
        counters: Set(0),
        forgotten_at: Set(Time::EPOCH),
    };
    Ok(tenant_from_model(row.insert(transaction.connection()).await?)?)
}

/// Writes a change of a tenant into the audit, and emits POLICY_CHANGED. `row` is the tenant as it was written.
async fn emit(
    transaction: &Transaction<Writing>,
    by: By<'_>,
    (before, after): (Option<&PlannedTenant>, Option<&PlannedTenant>),
    row: &Tenant,
    what: Done,
) -> Result<(), StoreError> {
    let id = before.or(after).map_or("", |planned| &*planned.tenant.id);
    let deed = Deed {
        at: row.decided_at,
        kind: ThingKind::Tenant,
        thing: id,
        tenant: id,
        before: before.map(Thing::Tenant),
        after: after.map(Thing::Tenant),
        revision: None,
    };
    emit_of_tenant(transaction, by, row, ChangedKind::Tenant, deed, what).await
}

/// Returns the column `carried` for a change of plan at `now`: that instant, and the shapes that both plans count.
fn carry(
    tenant: &Tenant,
    from: plan::Model,
    to: &plan::Model,
    now: Time,
    revision: i64,
) -> Result<Option<String>, StoreError> {
    let (from, to) = (plan_from_model(from)?, plan_from_model(to.clone())?);
    let plan_since = Since::of_tenant(now, revision, tenant.plan_since);
    carried_to_text(&Carried { plan_since, lineages: tenant.carry_to(&from, &to, now) }).map(Some)
}

/// Returns the limits of the plans that the agents of a tenant have.
async fn agents_limits(
    transaction: &Transaction<impl Entities>,
    tenant: i64,
) -> Result<Vec<Arc<Limit>>, StoreError> {
    let agents = agent::Entity::find().filter(agent::Column::TenantKey.eq(tenant));
    let agents = agents.all(transaction.connection()).await?;
    let keys: BTreeSet<i32> = agents.into_iter().filter_map(|agent| agent.plan_key).collect();
    let plans = plan::Entity::find().filter(plan::Column::Key.is_in(keys));
    let plans = plans.all(transaction.connection()).await?.into_iter().map(plan_from_model);
    Ok(plans.collect::<Result<Vec<_>, _>>()?.into_iter().flat_map(|plan| plan.limits).collect())
}

/// Returns the calendar that a tenant has after a change.
fn calendar_after(tenant: &Tenant, change: &TenantChange) -> TenantCalendar {
    let present = *tenant.calendar();
    let anchor_time = change.anchor_time.map(|given| match given {
        AnchorTime::Creation => tenant.created_at,
        AnchorTime::At(instant) => instant,
    });
    TenantCalendar {
        zone: change.zone.unwrap_or(present.zone),
        anchor_time: anchor_time.unwrap_or(present.anchor_time),
        ..present
    }
}

/// Returns the calendars after a change of zone or of the start of the subscription. `None`: neither changes.
fn calendars_after(
    tenant: &Tenant,
    next: TenantCalendar,
    plan: &plan::Model,
    agents_limits: &[Arc<Limit>],
    now: Time,
) -> Result<Option<Vec<TenantCalendar>>, AdminError> {
    let present = *tenant.calendar();
    if next == present {
        return Ok(None);
    }
    let plan = plan_from_model(plan.clone())?;
    let limits = plan.limits.iter().chain(agents_limits).map(|limit| &limit.shape.timing);
    let calendars = changed_calendars(&tenant.calendars, next, limits, now).map_err(|full| {
        let field = if next.zone == present.zone { "tenant.anchor_time" } else { "tenant.zone" };
        Refusal::Invalid(vec![Fault::new(field, full.to_string())])
    })?;
    Ok(Some(calendars))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    No,
    /// Locks the row, as decisions do. SQLite has one writer and needs no lock.
    Yes,
}

pub(super) async fn find_row(
    transaction: &Transaction<impl Entities>,
    id: &str,
    lock: Lock,
) -> Result<Option<tenant::Model>, StoreError> {
    let mut rows = tenant::Entity::find().filter(tenant::Column::Id.eq(id));
    if lock == Lock::Yes {
        rows = rows.lock_exclusive();
    }
    Ok(rows.one(transaction.connection()).await?)
}

pub(super) async fn get_row(
    transaction: &Transaction<impl Entities>,
    id: &str,
    lock: Lock,
) -> Result<tenant::Model, AdminError> {
    let found = find_row(transaction, id, lock).await?;
    found.ok_or_else(|| Refusal::TenantNotFound(id.to_owned()).into())
}

async fn plan_of(
    transaction: &Transaction<impl Entities>,
    row: &tenant::Model,
) -> Result<plan::Model, StoreError> {
    let found = plan::Entity::find_by_id(row.plan_key).one(transaction.connection()).await?;
    found.ok_or_else(|| missing_plan(row))
}

fn missing_plan(row: &tenant::Model) -> StoreError {
    StoreError::Corrupt(format!("the plan of tenant {} is missing", row.key))
}
