//! Tenants. The row is the lock of all of its rows in other tables.

use sea_orm::entity::prelude::*;

/// A row of `tenants`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub(in crate::store) struct Model {
    /// Hash of the name and a random half.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) key: i64,
    /// Plain id; none when deleted.
    pub(in crate::store) id: Option<String>,
    /// What the id was before the deletion.
    pub(in crate::store) deleted_id: Option<String>,
    /// For people.
    pub(in crate::store) display_name: String,
    /// Its plan.
    pub(in crate::store) plan_key: i32,
    /// IANA name of its time zone.
    pub(in crate::store) zone: String,
    /// 1 ACTIVE, 2 SUSPENDED.
    pub(in crate::store) state: i16,
    /// The latest instant at which something was decided for it.
    pub(in crate::store) decided_at: i64,
    /// No open hold is due before; `i64::MAX` when there is none.
    pub(in crate::store) next_due: i64,
    /// How many batches have changed its rows.
    pub(in crate::store) version: i64,
    /// When it got its plan.
    pub(in crate::store) plan_since: i64,
    /// When it was made.
    pub(in crate::store) created_at: i64,
    /// When it was changed last.
    pub(in crate::store) updated_at: i64,
    /// The number of its last event; 0 before the first one.
    pub(in crate::store) event_number: i64,
    /// What is counted on since before it got its plan, as JSON; none when nothing is.
    pub(in crate::store) carried: Option<String>,
}

/// None: the tenant is part of every key, and no constraint crosses tenants.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
