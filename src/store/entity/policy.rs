//! The row of the policy: how often it was changed, and its settings.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `policy`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "policy")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) id: i32,
    /// Grows by one with each change of resources, plans or the columns below.
    pub(in crate::store) revision: i64,
    /// The plan of tenants that calls create. `None`: calls create no tenants.
    pub(in crate::store) default_plan_key: Option<i32>,
    /// The IANA name of the time zone of tenants that calls create. `None`: UTC.
    pub(in crate::store) default_zone: Option<String>,
    /// When the two columns above were last changed. `None`: never.
    pub(in crate::store) settings_at: Option<Time>,
    /// The revision at the last change of keys. 0: there never was a key.
    pub(in crate::store) keys_revision: i64,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
