//! Aforo: a quota authority for AI token usage.

pub mod cli;
pub mod clock;
pub mod domain;
pub mod engine;
pub mod grpc;
pub mod policy;
pub mod store;
