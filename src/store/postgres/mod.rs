//! The parts of the store that only PostgreSQL needs. Batches run on the lanes' connections, with a driver that
//! pipelines: read `wire.rs` first. `access.rs` has the server's address and the errors of connecting, and `pool.rs`
//! has the settings of all connections. `tls.rs` has TLS. `listen.rs` receives wake-ups from other replicas, and `identity.rs` notices
//! another database.

pub(super) mod access;
pub(super) mod identity;
pub(super) mod listen;
pub(super) mod pool;
pub(super) mod tls;
pub(super) mod wire;

pub use listen::Listener;
