//! Compiles the protos without a protoc on the machine, and keeps the descriptor set for reflection.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use protox::prost::Message;

const PROTOS: [&str; 9] = [
    "tope/v1/change.proto",
    "tope/v1/job.proto",
    "tope/v1/policy.proto",
    "tope/v1/terms.proto",
    "tope/v1/usage.proto",
    "tope/v1/event.proto",
    "tope/v1/quota_service.proto",
    "tope/v1/admin_service.proto",
    "tope/v1/webhook.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rustc-env=TOPE_VERSION={}", version());
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("tope_descriptor.bin"), descriptors.encode_to_vec())?;
    // The server finds messages in the descriptor set by their type names.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::grpc::http2::codec::MessageCodec")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// Returns the version, with the commit if the source is a git clone: `0.1.0 (a1b2c3d4e5f6)`.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let head = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists());
    match (head, git(&["rev-parse", "--short=12", "HEAD"])) {
        (Some(head), Some(commit)) => {
            println!("cargo:rerun-if-changed={head}");
            format!("{version} ({commit})")
        }
        (None, Some(commit)) => format!("{version} ({commit})"),
        _ => version.to_owned(),
    }
}
