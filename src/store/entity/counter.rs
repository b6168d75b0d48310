//! What was spent and what is held, of one subject scope, resource and window.

use sea_orm::entity::prelude::*;

/// A row of `counters`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "counters")]
pub(in crate::store) struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// The bytes of a counter key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) key: Vec<u8>,
    /// Out of the key.
    pub(in crate::store) resource_key: i32,
    /// Out of the key.
    pub(in crate::store) period: i16,
    /// Out of the key.
    pub(in crate::store) window_start: i64,
    /// First instant after the window.
    pub(in crate::store) window_end: i64,
    /// Out of the key; none when agents are not counted apart.
    pub(in crate::store) agent: Option<String>,
    /// Likewise, the user.
    pub(in crate::store) user_name: Option<String>,
    /// Likewise, the model.
    pub(in crate::store) model: Option<String>,
    /// Units that were spent.
    pub(in crate::store) committed: i64,
    /// Units that are held.
    pub(in crate::store) reserved: i64,
    /// Since when it counts.
    pub(in crate::store) counted_since: i64,
    /// What reservations charged that were pruned since: a part of `committed`.
    pub(in crate::store) pruned: i64,
    /// What was told of it, see `event.rs`; none when nothing was.
    pub(in crate::store) alerts: Option<Vec<u8>>,
    /// 1 once the end of its window was told, or need not be; else 0.
    pub(in crate::store) closed: i16,
    /// Which change of the instant `counted_since` it counts since; 0 when that is not known.
    pub(in crate::store) since_order: i64,
    /// What was charged at deadlines up to this instant was taken off since; 0 when nothing was.
    pub(in crate::store) forgiven_until: i64,
}

/// None: the tenant is part of every key, and no constraint crosses tenants.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
