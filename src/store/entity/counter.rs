//! Counters: committed and reserved of one resource in one window, for a tenant or for certain agents, users or models.

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
    /// `None` if the counter counts all agents together. Likewise `user_name` and `model`.
    pub(in crate::store) agent: Option<String>,
    pub(in crate::store) user_name: Option<String>,
    pub(in crate::store) model: Option<String>,
    pub(in crate::store) committed: i64,
    pub(in crate::store) reserved: i64,
    /// The counter contains all that was spent since this instant.
    pub(in crate::store) counted_since: Time,
    /// The part of `committed` whose reservations were pruned.
    pub(in crate::store) pruned: i64,
    /// The encoding of `books/alerts.rs`; `None` if no threshold event was emitted and no refusal was counted.
    pub(in crate::store) alerts: Option<Vec<u8>>,
    /// 1 if WINDOW_CLOSED was emitted or need not be emitted, else 0.
    pub(in crate::store) closed: i16,
    /// The order of several changes at the instant `counted_since`. 0 if the order is unknown.
    pub(in crate::store) since_order: i64,
    /// Charges that were made at deadlines up to this instant no longer count. 0 if no charges were taken back.
    pub(in crate::store) forgiven_until: Time,
    /// JSON: the labels that the counter counts separately, with their values. `None` if there are none.
    pub(in crate::store) labels: Option<String>,
    /// When the job `prune` noted `idle_figures`. 0 if it never did.
    pub(in crate::store) idle_since: Time,
    /// The figures that the counter had then, see `books/old_counters.rs`. `None` if the counter was used since then.
    pub(in crate::store) idle_figures: Option<Vec<u8>>,
}

/// No relations: the database has no foreign keys.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::store) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
