//! Aforo: a quota authority for AI token usage.

pub mod clock;
pub mod domain;
pub mod grpc;
