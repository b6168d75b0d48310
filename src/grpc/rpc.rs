//! What the door must know of an rpc before its request is read: by its path.

use super::layer::OWN_PATHS;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A kind of rpc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rpc {
    /// Its request and its reply are mostly small; it is answered at once, or by a batch.
    Small,
    /// Its reply may have about so many bytes. It is made only when there is room for it.
    Large(usize),
    /// It streams what it answers.
    Watch,
    /// It streams both ways.
    Talk,
}

/// Room that an rpc that streams both ways takes: as much as its client may send before the server reads.
pub(super) const TALK_BYTES: usize = MIB;

impl Rpc {
    /// That of a path. One that is not known is large, so that a new one is bounded before anybody thinks of it.
    pub(super) fn of(path: &str) -> Self {
        match path.strip_prefix(OWN_PATHS) {
            Some(
                "QuotaService/Reserve"
                | "QuotaService/Commit"
                | "QuotaService/Release"
                | "QuotaService/Extend"
                | "QuotaService/Record"
                | "QuotaService/Check",
            ) => Rpc::Small,
            Some("QuotaService/WatchUsage") => Rpc::Watch,
            Some("QuotaService/Batch" | "QuotaService/GetUsage") => Rpc::Large(MIB),
            Some(own) if own.contains("/List") => Rpc::Large(4 * MIB),
            Some(_) => Rpc::Large(256 * KIB),
            None => match path {
                "/grpc.health.v1.Health/Watch" => Rpc::Watch,
                _ if path.ends_with("/ServerReflectionInfo") => Rpc::Talk,
                _ => Rpc::Small,
            },
        }
    }

    /// Whether it streams what it answers.
    pub(super) fn streams(self) -> bool {
        matches!(self, Rpc::Watch | Rpc::Talk)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::descriptors, *};

    #[test]
    fn each_rpc_that_streams_is_known_as_one_that_does() {
        let mut seen = Vec::new();
        for file in descriptors().file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let rpc = Rpc::of(&path);
                    assert_eq!(rpc.streams(), method.server_streaming(), "{path}");
                    assert_eq!(rpc == Rpc::Talk, method.client_streaming(), "{path}");
                    seen.push(path);
                }
            }
        }
        assert!(seen.iter().any(|path| path == "/tope.v1.QuotaService/Reserve"), "{seen:?}");
        assert!(seen.len() > 30, "{seen:?}");
    }
}
