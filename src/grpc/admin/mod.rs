//! The control plane: AdminService, on the store and the log of events. What changes counters goes through the engine.
//!
//! Read `service` first: it takes each call. `parts` has what every call needs: the store, the engine, and the statuses
//! of errors. `convert` and `limits` parse resources, plans and tenants, and make their messages. `webhooks`, `jobs` and
//! `events` do the same for what their names say, and `lists` pages through what is sorted by id.

mod convert;
mod events;
mod jobs;
mod limits;
mod lists;
mod parts;
mod service;
mod webhooks;

pub use self::parts::Admin;
