//! Agents that operators declared.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `agents`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agents")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// The agent's id as clients write it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: String,
    pub(in crate::store) display_name: String,
    /// `None` if the agent has no plan of its own.
    pub(in crate::store) plan_key: Option<i32>,
    /// 1 ACTIVE, 2 SUSPENDED.
    pub(in crate::store) state: i16,
    /// JSON: when the agent got its plan, and the shapes whose counters have been counted without a gap since before
    /// that change.
    pub(in crate::store) carried: String,
    pub(in crate::store) created_at: Time,
    pub(in crate::store) updated_at: Time,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
