//! Compiles the protos without a protoc on the machine, and keeps the descriptor set for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message;

const PROTOS: [&str; 7] = [
    "tope/v1/job.proto",
    "tope/v1/policy.proto",
    "tope/v1/usage.proto",
    "tope/v1/event.proto",
    "tope/v1/quota_service.proto",
    "tope/v1/admin_service.proto",
    "tope/v1/webhook.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("tope_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::grpc::codec::MessageCodec")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}
