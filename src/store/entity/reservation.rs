//! Settled reservations, and Records.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `reservations`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "reservations")]
pub(in crate::store) struct Model {
    /// UUID of version 7, so ids are in the order of time.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// 2 COMMITTED, 3 RELEASED, 4 EXPIRED.
    pub(in crate::store) state: i16,
    pub(in crate::store) settled_at: Time,
    /// The rest of the reservation, see `body.rs`.
    pub(in crate::store) body: Vec<u8>,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
