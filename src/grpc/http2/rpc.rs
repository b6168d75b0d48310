//! Kinds of rpcs. By the path of a call, the gate knows how much room the call needs before the request is read.

use std::sync::LazyLock;

use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};

use crate::grpc::descriptors;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The beginning of the paths of our services. The errors of the health and reflection services are not reworded.
pub(in crate::grpc) const OWN_PATHS: &str = "/tope.v1.";

/// Room for an rpc that streams in both directions, in bytes: as much as its client may send before the server reads.
pub(super) const TALK_BYTES: usize = MIB;

/// The paths of all rpcs that stream, from the descriptors of our services, health and reflection.
static STREAMING: LazyLock<Vec<(String, Rpc)>> = LazyLock::new(|| streaming(&descriptors()));

/// A kind of rpc, by the size of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rpc {
    /// The request and the reply are usually small. The call is answered at once or by a batch.
    Small,
    /// As [`Rpc::Small`], and the audit may have to show from where the call came.
    Correction,
    /// The reply may have about this number of bytes. The server makes the reply only if there is room for it.
    Large(usize),
    /// The reply is a stream of messages.
    Watch,
    /// The request is a stream of messages. The reply may be a stream, too.
    Talk,
}

impl Rpc {
    /// Returns the kind of the rpc with this path. An rpc of our services that is not listed here is large. So a new
    /// rpc has a bound from the beginning.
    pub(super) fn of(path: &str) -> Self {
        let own = path.strip_prefix(OWN_PATHS);
        // Operations are by far the most frequent calls, so they are recognized without a search.
        if let Some(
            "QuotaService/Reserve"
            | "QuotaService/Commit"
            | "QuotaService/Extend"
            | "QuotaService/Record"
            | "QuotaService/Check",
        ) = own
        {
            return Rpc::Small;
        }
        if let Some("QuotaService/Release" | "QuotaService/Amend") = own {
            return Rpc::Correction;
        }
        if let Some((_, rpc)) = STREAMING.iter().find(|(streaming, _)| streaming == path) {
            return *rpc;
        }
        match own {
            Some("QuotaService/Batch" | "QuotaService/GetUsage") => Rpc::Large(MIB),
            Some(own) if own.contains("/List") => Rpc::Large(4 * MIB),
            Some(own) if own.ends_with("Tenant") || own.ends_with("Resource") => Rpc::Large(16 * KIB),
            Some(_) => Rpc::Large(256 * KIB),
            None => Rpc::Small,
        }
    }

    /// Returns whether the request or the reply is a stream.
    pub(super) fn streams(self) -> bool {
        matches!(self, Rpc::Watch | Rpc::Talk)
    }
}

/// Lists the paths of all rpcs of these services.
pub(super) fn paths(descriptors: &FileDescriptorSet) -> impl Iterator<Item = String> {
    let services =
        descriptors.file.iter().flat_map(|file| file.service.iter().map(move |service| (file, service)));
    services.flat_map(|(file, service)| {
        let path = move |rpc: &MethodDescriptorProto| path(file, service, rpc);
        service.method.iter().map(path)
    })
}

fn path(file: &FileDescriptorProto, service: &ServiceDescriptorProto, rpc: &MethodDescriptorProto) -> String {
    format!("/{}.{}/{}", file.package(), service.name(), rpc.name())
}

fn streaming(descriptors: &FileDescriptorSet) -> Vec<(String, Rpc)> {
    let mut paths = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            for rpc in &service.method {
                let kind = match (rpc.client_streaming(), rpc.server_streaming()) {
                    (true, _) => Rpc::Talk,
                    (false, true) => Rpc::Watch,
                    (false, false) => continue,
                };
                paths.push((path(file, service, rpc), kind));
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rpc_has_its_kind() {
        let cases = [
            ("/tope.v1.QuotaService/Reserve", Rpc::Small),
            ("/tope.v1.QuotaService/Check", Rpc::Small),
            ("/tope.v1.QuotaService/Release", Rpc::Correction),
            ("/tope.v1.QuotaService/Amend", Rpc::Correction),
            ("/tope.v1.QuotaService/WatchUsage", Rpc::Watch),
            ("/tope.v1.QuotaService/Batch", Rpc::Large(MIB)),
            ("/tope.v1.QuotaService/ListReservations", Rpc::Large(4 * MIB)),
            ("/tope.v1.AdminService/ListEvents", Rpc::Large(4 * MIB)),
            ("/tope.v1.AdminService/CreateTenant", Rpc::Large(16 * KIB)),
            ("/tope.v1.AdminService/CreatePlan", Rpc::Large(256 * KIB)),
            ("/tope.v1.QuotaService/OfALaterVersion", Rpc::Large(256 * KIB)),
            ("/grpc.health.v1.Health/Check", Rpc::Small),
            ("/grpc.health.v1.Health/Watch", Rpc::Watch),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Rpc::Talk),
            ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Rpc::Talk),
        ];
        for (path, rpc) in cases {
            assert_eq!(Rpc::of(path), rpc, "{path}");
        }
        let known: Vec<_> = cases.into_iter().filter(|(_, rpc)| rpc.streams()).collect();
        assert_eq!(STREAMING.len(), known.len(), "and no other streams");
    }

    #[test]
    fn a_new_rpc_that_streams_is_found_by_its_descriptor() {
        let rpc = |name: &str, client, server| MethodDescriptorProto {
            name: Some(name.to_owned()),
            client_streaming: Some(client),
            server_streaming: Some(server),
            ..MethodDescriptorProto::default()
        };
        let method = vec![rpc("One", false, false), rpc("Down", false, true), rpc("Up", true, false)];
        let service = ServiceDescriptorProto { name: Some("S".to_owned()), method, ..Default::default() };
        let package = Some("some.v2".to_owned());
        let file = FileDescriptorProto { package, service: vec![service], ..Default::default() };
        let found = streaming(&FileDescriptorSet { file: vec![file] });
        let expected = [("/some.v2.S/Down".to_owned(), Rpc::Watch), ("/some.v2.S/Up".to_owned(), Rpc::Talk)];
        assert_eq!(found, expected);
    }
}
