//! One row: which log it is, and how far it goes. Numbering locks it.

use sea_orm::entity::prelude::*;

/// A row of `event_log`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_log")]
pub(in crate::store) struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: i32,
    /// Another one in a copy: its events may get other numbers than those of the original.
    pub(in crate::store) log_id: Uuid,
    /// The place of the last event; 0 before the first one.
    pub(in crate::store) last_sequence: i64,
    /// Events up to this place were removed.
    pub(in crate::store) pruned_through: i64,
}

/// None: the tenant is part of every key, and no constraint crosses tenants.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
