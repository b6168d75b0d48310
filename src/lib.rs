//! Tope: a quota authority for AI token usage.

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
