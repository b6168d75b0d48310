//! Tope: a quota authority for AI token usage.
//!
//! A module uses only modules that are further up in this list:
//!
//! - [`domain`]: the rules, without a clock, random numbers and I/O.
//! - [`clock`]: time and random numbers.
//! - [`seldom`]: limits log lines to one a minute.
//! - [`traces`]: the spans of sampled calls, for a collector.
//! - [`metrics`]: the figures of one server, for Prometheus.
//! - [`store`]: SQL, connections, rows from and to the domain.
//! - [`access`]: who calls, by the key of the call.
//! - [`policy`]: resources and plans in memory.
//! - [`engine`]: lanes and batches, which decide operations; reads.
//! - [`events`]: delivers the log to watchers and webhooks.
//! - [`jobs`]: functions that run on a schedule.
//! - [`grpc`]: the services, from and to the domain.
//! - [`http`]: the HTTP listener for operators: metrics, liveness and readiness.
//! - [`config`], [`telemetry`]: settings and log, for `server` and `cli` only.
//! - [`server`]: starts all of these modules, and shuts them down in order.
//! - [`console`]: the parts that all commands share: errors, exit codes, the connection to a server.
//! - `bench`: the commands that load a server, `bench` and `replay`, behind the feature of this name.
//! - [`cli`]: the command line and all other commands, one file each.

pub mod access;
#[cfg(feature = "bench")]
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod domain;
pub mod engine;
pub mod events;
pub mod grpc;
pub mod http;
pub mod jobs;
pub mod metrics;
pub mod policy;
pub mod seldom;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod traces;
