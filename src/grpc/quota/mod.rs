//! The data plane: QuotaService, whose operations the engine decides.
//!
//! Read `service` first: it takes each call. `parse` makes an operation of a request, and `reply` makes the message of
//! the engine's answer. `abridge` shortens large replies of Batch, and `watch` is the stream of WatchUsage.

mod abridge;
mod parse;
mod reply;
mod service;
mod watch;

pub use self::service::Quota;
