//! The row of the log: its id, and its first and last places. Numbering locks this row.

use sea_orm::entity::prelude::*;

/// A row of `event_log`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_log")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: i32,
    /// A copy of the database gets another id, because its next events differ from those of the original.
    pub(in crate::store) log_id: Uuid,
    /// The place of the last event. It is 0 before the first event.
    pub(in crate::store) last_sequence: i64,
    /// Events up to this place were pruned.
    pub(in crate::store) pruned_through: i64,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
