//! Events that have no place in the log yet.

use sea_orm::entity::prelude::*;

/// A row of `pending_events`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pending_events")]
pub(in crate::store) struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// Place among the tenant's events: 1, 2, 3 and so on.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) number: i64,
    /// See `event.rs`.
    pub(in crate::store) kind: i16,
    /// When.
    pub(in crate::store) occurred_at: i64,
    /// The rest of the event.
    pub(in crate::store) body: Vec<u8>,
}

/// None: the tenant is part of every key, and no constraint crosses tenants.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
