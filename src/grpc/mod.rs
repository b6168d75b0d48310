//! The gRPC door.

/// Generated from `proto/aforo/v1`.
#[expect(clippy::all, clippy::allow_attributes, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("aforo.v1");
}
