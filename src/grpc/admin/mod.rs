//! The control plane: AdminService, on the store and the log of events. Calls that change counters go through the
//! engine.
//!
//! Read `service` first: it takes each call. `parts` has what every call needs: the store, the engine, and the
//! statuses of errors. `convert` and `limits` parse resources, plans and tenants, and make their messages. `agents`,
//! `overrides`, `webhooks`, `keys`, `jobs` and `events` do the same for the things of their names. `lists` has the pages of
//! lists that are sorted by id. `author` and `describe` write changes down for the
//! audit, and `changes` lists it.

mod agents;
mod author;
mod changes;
mod convert;
mod describe;
mod events;
mod jobs;
mod keys;
mod limits;
mod lists;
mod overrides;
mod parts;
mod service;
mod warnings;
mod webhooks;

pub use self::{describe::SCRIBE, parts::Admin};
