//! The memory that the allocator, mimalloc, has from the operating system.

use mimalloc::MiMalloc;
use prometheus::{IntGauge, Registry};
use serde::Deserialize;

use super::make::gauge;

/// The figures of the allocator.
#[derive(Debug)]
pub(super) struct Allocator {
    committed: IntGauge,
    reserved: IntGauge,
}

/// The part of mimalloc's statistics that is shown.
#[derive(Deserialize)]
struct Statistics {
    committed: Amount,
    reserved: Amount,
}

/// A number of bytes, as mimalloc's statistics have it.
#[derive(Deserialize)]
struct Amount {
    current: i64,
}

impl Allocator {
    pub(super) fn new(registry: &Registry) -> Self {
        let committed = "Memory that the allocator may use at present, in bytes.";
        let reserved = "Address space that the allocator has reserved, in bytes.";
        Self {
            committed: gauge(registry, "tope_allocator_committed_bytes", committed),
            reserved: gauge(registry, "tope_allocator_reserved_bytes", reserved),
        }
    }

    /// Reads the figures. If they cannot be read, they keep their values.
    pub(super) fn measure(&self) {
        if let Some(statistics) = statistics() {
            self.committed.set(statistics.committed.current);
            self.reserved.set(statistics.reserved.current);
        }
    }
}

fn statistics() -> Option<Statistics> {
    serde_json::from_slice(MiMalloc::stats_json().ok()?.to_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_of_the_allocator_can_be_read() {
        let statistics = statistics().expect("mimalloc writes the two figures");
        // The program of the tests has another allocator, but mimalloc allocates the text itself.
        assert!(statistics.committed.current > 0 && statistics.reserved.current > 0);
    }
}
