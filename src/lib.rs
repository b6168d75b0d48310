//! Aforo: a quota authority for AI token usage.

pub mod clock;
pub mod domain;
pub mod grpc;
pub mod policy;
pub mod store;
