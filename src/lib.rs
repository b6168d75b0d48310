//! Aforo: a quota authority for AI token usage.

pub mod cli;
pub mod grpc;
