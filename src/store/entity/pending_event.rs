//! Events that have no place in the log yet.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `pending_events`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pending_events")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// The event's number among the events of its tenant: 1, 2, 3 and so on.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) number: i64,
    /// The code of an event kind, see `EventKind::code`.
    pub(in crate::store) kind: i16,
    pub(in crate::store) occurred_at: Time,
    /// The rest of the event, see `log/body.rs`.
    pub(in crate::store) body: Vec<u8>,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
