//! The tables as SeaORM sees them. They are visible in the store only. Migrations never import them. Times are
//! milliseconds since 1970-01-01 UTC.

pub(super) mod adjustment;
pub(super) mod agent;
pub(super) mod counter;
pub(super) mod event_log;
pub(super) mod hold;
pub(super) mod limit_override;
pub(super) mod pending_event;
pub(super) mod plan;
pub(super) mod policy;
pub(super) mod request;
pub(super) mod reservation;
pub(super) mod resource;
pub(super) mod tenant;
