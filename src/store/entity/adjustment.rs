//! Adjustments: quantities that were added to counters, with reason and operator.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `adjustments`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "adjustments")]
pub(in crate::store) struct Model {
    /// UUID of version 7, so ids are in the order of time.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    pub(in crate::store) counter_key: Vec<u8>,
    /// Units added to `committed`. Negative if units were subtracted.
    pub(in crate::store) delta: i64,
    pub(in crate::store) reason: String,
    pub(in crate::store) operator: String,
    pub(in crate::store) created_at: Time,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
