//! The gRPC door.

pub mod layer;
mod name;
mod parse;
pub mod quota;
mod reply;
pub mod serve;
mod status;
mod token;

/// Generated from `proto/aforo/v1`.
#[expect(clippy::all, clippy::allow_attributes, clippy::too_many_lines, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("aforo.v1");
}
