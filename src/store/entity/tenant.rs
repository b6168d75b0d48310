//! Tenants. A tenant's row is the lock of all its rows in other tables.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `tenants`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub(in crate::store) struct Model {
    /// A hash of the name and a random half.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) key: i64,
    /// The id as clients write it. `None` if the tenant was deleted.
    pub(in crate::store) id: Option<String>,
    /// The id before the deletion. `None` if the tenant was not deleted.
    pub(in crate::store) deleted_id: Option<String>,
    pub(in crate::store) display_name: String,
    pub(in crate::store) plan_key: i32,
    /// The IANA name of the present time zone.
    pub(in crate::store) zone: String,
    /// 1 ACTIVE, 2 SUSPENDED.
    pub(in crate::store) state: i16,
    /// The latest time of a batch that decided for the tenant.
    pub(in crate::store) decided_at: Time,
    /// A lower bound of the deadlines of open holds. [`Time::NEVER`] if there are no open holds.
    pub(in crate::store) next_due: Time,
    /// Changes with each change of the tenant's books.
    pub(in crate::store) version: i64,
    /// When the tenant got its plan.
    pub(in crate::store) plan_since: Time,
    pub(in crate::store) created_at: Time,
    /// When an operator last changed the tenant.
    pub(in crate::store) updated_at: Time,
    /// The number of the tenant's last event. It is 0 before the first event.
    pub(in crate::store) event_number: i64,
    /// JSON: when the tenant last changed its plan, and the shapes whose counters have been counted without a gap since
    /// before that change. `None` if the tenant has never changed its plan.
    pub(in crate::store) carried: Option<String>,
    /// JSON, see `CalendarRow` in `store/policy.rs`. `None` if the tenant has only the calendar of its zone, and
    /// `created_at` as the start of its subscription.
    pub(in crate::store) calendars: Option<String>,
    /// Changes with each change of the tenant's agents and overrides. 0 if the tenant never had any.
    pub(in crate::store) terms_version: i64,
    /// The plan that the tenant gets at `next_plan_at`. `None`: no change is scheduled.
    pub(in crate::store) next_plan_key: Option<i32>,
    /// When the tenant gets its next plan.
    pub(in crate::store) next_plan_at: Option<Time>,
    /// The number of the tenant's counters whose windows are an hour long or longer. Servers of an earlier release do not count, so it can be too low
    /// until the job `prune` counts again.
    pub(in crate::store) counters: i64,
    /// When the job `prune` last removed LIFETIME counters of the tenant. 0 if it never did.
    pub(in crate::store) forgotten_at: Time,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
