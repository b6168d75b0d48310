//! The log: events that have places in it.

use sea_orm::entity::prelude::*;

/// A row of `events`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub(in crate::store) struct Model {
    /// The place in the log, dense from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) sequence: i64,
    /// 0 when the event is about no tenant.
    pub(in crate::store) tenant_key: i64,
    /// The event's number among its tenant's, dense from 1; 0 when it is about no tenant.
    pub(in crate::store) number: i64,
    /// The code of an event kind, see `EventKind::code`.
    pub(in crate::store) kind: i16,
    pub(in crate::store) occurred_at: i64,
    /// The rest of the event, see `log/body.rs`.
    pub(in crate::store) body: Vec<u8>,
}

/// None: the tenant is part of every key, and no constraint crosses tenants.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
