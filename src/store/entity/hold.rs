//! Holds: reservations that are RESERVED.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `holds`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "holds")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// The id of the reservation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: Uuid,
    /// From this instant on the hold does not count.
    pub(in crate::store) deadline: Time,
    /// The rest of the reservation, see `body.rs`.
    pub(in crate::store) body: Vec<u8>,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
