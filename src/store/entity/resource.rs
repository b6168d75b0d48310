//! Resources. The row of a deleted resource stays, so that its usage can still be read.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `resources`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "resources")]
pub(in crate::store) struct Model {
    /// The revision that declared the resource.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) key: i32,
    /// The id as clients write it, unique among resources that are not deleted.
    pub(in crate::store) id: String,
    pub(in crate::store) display_name: String,
    /// What one unit is, for people.
    pub(in crate::store) unit: String,
    /// 1 when the resource was deleted, else 0.
    pub(in crate::store) deleted: i16,
    pub(in crate::store) created_at: Time,
    pub(in crate::store) updated_at: Time,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
