//! What makes retries safe.

use sea_orm::entity::prelude::*;

/// A row of `requests`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "requests")]
pub(in crate::store) struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// Chosen by the client.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) request_id: String,
    /// 16 bytes of a hash of the payload.
    pub(in crate::store) fingerprint: Uuid,
    /// 1 Reserve, 2 Extend, 3 Record, 4 ResetUsage.
    pub(in crate::store) method: i16,
    /// The reservation that it made or changed; of ResetUsage, the id whose parts its adjustments have.
    pub(in crate::store) reservation_id: Uuid,
    /// What the reservation does not say of the first reply.
    pub(in crate::store) reply: Option<Vec<u8>>,
    /// When it came first.
    pub(in crate::store) created_at: i64,
}

/// None: the tenant is part of every key, and no constraint crosses tenants.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
