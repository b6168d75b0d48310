//! Counters: committed and reserved of one subject scope, resource and window.

use sea_orm::entity::prelude::*;

use crate::domain::time::Time;

/// A row of `counters`. The columns from `resource_key` to `window_start` and from `agent` to `model` repeat the key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "counters")]
pub(in crate::store) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) tenant_key: i64,
    /// The bytes of a counter key, see `docs/schema.md`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::store) key: Vec<u8>,
    pub(in crate::store) resource_key: i32,
    pub(in crate::store) period: i16,
    pub(in crate::store) window_start: Time,
    /// The first instant after the window.
    pub(in crate::store) window_end: Time,
    /// `None` when the shape does not count agents apart; likewise for users and models.
    pub(in crate::store) agent: Option<String>,
    pub(in crate::store) user_name: Option<String>,
    pub(in crate::store) model: Option<String>,
    pub(in crate::store) committed: i64,
    pub(in crate::store) reserved: i64,
    /// The counter contains all that was spent since this instant.
    pub(in crate::store) counted_since: Time,
    /// The part of `committed` whose reservations were pruned.
    pub(in crate::store) pruned: i64,
    /// The encoding of `books/alerts.rs`; `None` when nothing was emitted and no refusal was counted.
    pub(in crate::store) alerts: Option<Vec<u8>>,
    /// 1 once WINDOW_CLOSED was emitted, or need not be; else 0.
    pub(in crate::store) closed: i16,
    /// The order of several changes at the instant `counted_since`; 0 when unknown.
    pub(in crate::store) since_order: i64,
    /// Charges made at deadlines up to this instant were taken off; 0 when none were.
    pub(in crate::store) forgiven_until: Time,
}

/// None: the tenant is part of every key, and no constraint crosses tenants.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
