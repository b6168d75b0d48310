//! The gRPC services. This module converts between messages and the domain, maps errors, and serves HTTP/2. In the
//! server, only this module uses tonic.
//!
//! [`http2`] accepts connections and calls, over [`tls`] if there are certificates. [`quota`] and [`admin`] are the two
//! services. Both services use the other modules: `wire` and `event` make messages; `faults`, `token` and `cursor`
//! parse fields; `status` maps every error.

mod access;
pub mod admin;
mod cursor;
mod event;
mod faults;
pub mod http2;
pub mod quota;
mod repeated;
mod status;
pub mod tls;
mod token;
mod wire;

use axum::{extract::Request, middleware::Next};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{metadata::MetadataMap, service::Routes};
use tonic_reflection::server::{Builder, v1 as reflection, v1alpha as reflection_old};

use crate::access::Access;

/// The descriptors of our own services, with all files that they import.
const OWN_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tope_descriptor.bin"));

/// The descriptors that reflection serves, including those of error details.
const DESCRIPTORS: [&[u8]; 5] = [
    OWN_DESCRIPTORS,
    tonic_types::pb::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// Returns the descriptors of all services that the server serves, with their messages.
fn descriptors() -> FileDescriptorSet {
    let sets = DESCRIPTORS.into_iter().map(FileDescriptorSet::decode);
    let files = sets.flat_map(|set| set.expect("the descriptors were compiled with this program").file);
    FileDescriptorSet { file: files.collect() }
}

fn reflection_builder() -> Builder<'static> {
    DESCRIPTORS.into_iter().fold(
        Builder::configure().include_reflection_service(false),
        Builder::register_encoded_file_descriptor_set,
    )
}

/// Returns the reflection service, in version v1.
pub fn reflection_v1() -> reflection::ServerReflectionServer<impl reflection::ServerReflection> {
    reflection_builder().build_v1().expect("the descriptors were compiled with this program")
}

/// Returns the reflection service in its version v1alpha, the only version that older clients know.
pub fn reflection_v1alpha() -> reflection_old::ServerReflectionServer<impl reflection_old::ServerReflection> {
    reflection_builder().build_v1alpha().expect("the descriptors were compiled with this program")
}

/// Returns the routes of a server on which calls of health and reflection need a key, too.
pub fn guard_health(routes: Routes, access: Access) -> Routes {
    let door = access::Door::new(access);
    let router = routes.prepare().into_axum_router();
    let check = move |request: Request, next: Next| {
        let door = door.clone();
        async move {
            // The handlers of our services compare each call with its rule.
            if !request.uri().path().starts_with(http2::OWN_PATHS) {
                let metadata = MetadataMap::from_headers(request.headers().clone());
                if let Err(status) = door.check_any_key(&metadata, request.extensions()).await {
                    return status.into_http();
                }
            }
            next.run(request).await
        }
    };
    Routes::from(router.layer(axum::middleware::from_fn(check)))
}

/// Code that is generated from `proto/tope/v1`.
#[expect(clippy::all, clippy::allow_attributes, clippy::too_many_lines, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("tope.v1");
}
