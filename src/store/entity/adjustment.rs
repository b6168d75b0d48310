//! Corrections of counters, on the record.

use sea_orm::entity::prelude::*;

/// A row of `adjustments`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "adjustments")]
pub(in crate::store) struct Model {
    /// Of version 7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: Uuid,
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// Of which counter.
    pub(in crate::store) counter_key: Vec<u8>,
    /// What was added to committed.
    pub(in crate::store) delta: i64,
    /// Why.
    pub(in crate::store) reason: String,
    /// Who.
    pub(in crate::store) operator: String,
    /// When.
    pub(in crate::store) created_at: i64,
}

/// None: the tenant is part of every key, and no constraint crosses tenants.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
