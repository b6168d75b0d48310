//! Tope: a quota authority for AI token usage. docs/ARCHITECTURE.md shows how these modules depend on each other.

pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod engine;
pub mod events;
pub mod grpc;
pub mod jobs;
pub mod policy;
pub mod seldom;
pub mod server;
pub mod store;
pub mod telemetry;
