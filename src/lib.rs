//! Aforo: a quota authority for AI token usage.

pub mod domain;
pub mod grpc;
