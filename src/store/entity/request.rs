//! Request ids that took effect: they make retries safe.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `requests`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "requests")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// The id that the client chose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) request_id: String,
    /// 16 bytes of a hash of the payload.
    pub(in crate::store) fingerprint: Uuid,
    /// 1 Reserve, 2 Extend, 3 Record, 4 ResetUsage.
    pub(in crate::store) method: i16,
    /// The reservation that the request made or changed. For ResetUsage: the id that the ids of its adjustments
    /// derive from.
    pub(in crate::store) reservation_id: Uuid,
    /// The part of the first reply that the reservation no longer shows.
    pub(in crate::store) reply: Option<Vec<u8>>,
    /// When the request took effect.
    pub(in crate::store) created_at: Time,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
