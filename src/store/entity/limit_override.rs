//! Overrides: exceptions from limits, for one tenant or one subject, for a time.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `overrides`. Columns that are `None` select or replace nothing.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "overrides")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// The override's id as clients write it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: String,
    pub(in crate::store) limit_id: String,
    pub(in crate::store) agent: Option<String>,
    pub(in crate::store) user_name: Option<String>,
    pub(in crate::store) model: Option<String>,
    /// JSON: the keys and values of the labels that the override selects.
    pub(in crate::store) labels: Option<String>,
    pub(in crate::store) quantity: Option<i64>,
    /// 1 HARD, 2 SOFT, 3 OBSERVE.
    pub(in crate::store) enforcement: Option<i16>,
    /// JSON: a list of percentages.
    pub(in crate::store) thresholds: Option<String>,
    pub(in crate::store) start_at: Option<Time>,
    /// [`Time::NEVER`] if the override has no end.
    pub(in crate::store) end_at: Time,
    pub(in crate::store) reason: String,
    pub(in crate::store) created_at: Time,
    pub(in crate::store) updated_at: Time,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
