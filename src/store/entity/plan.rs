//! Plans: named sets of limits.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `plans`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "plans")]
pub(in crate::store) struct Model {
    /// The revision that created the plan.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) key: i32,
    /// The plan's id as clients write it.
    pub(in crate::store) id: String,
    pub(in crate::store) display_name: String,
    /// JSON, see `LimitRow` in `store/policy.rs`.
    pub(in crate::store) limits: String,
    pub(in crate::store) created_at: Time,
    pub(in crate::store) updated_at: Time,
    /// 1 METER, 2 REFUSE.
    pub(in crate::store) uncovered: i16,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
