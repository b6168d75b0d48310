//! The only file that reads the process's time of day (the store reads the database's).

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

use crate::domain::{id::ReservationId, window::Millis};

/// Where "now" comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// This machine's: SQLite.
    System,
    /// The database's, so that all replicas agree: PostgreSQL.
    Database,
    /// Set by hand: tests.
    Manual(ManualClock),
}

impl Clock {
    /// Now, unless the database has to be asked.
    pub fn now(&self) -> Option<Millis> {
        match self {
            Clock::System => Some(system_now()),
            Clock::Database => None,
            Clock::Manual(clock) => Some(clock.now()),
        }
    }
}

/// Bits of an id of version 7 that count, behind its milliseconds.
const COUNTER_BITS: u32 = 42;

/// How many ids were minted, from a random start on: so that ids of one instant are in the order of their making, also
/// when the instants of several lanes alternate.
static MINTED: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(u64::from(random()) << 9));

/// A new id of an instant, behind those of earlier instants and behind the earlier ones of its own, as far as this
/// process made them.
pub fn mint(now: Millis) -> ReservationId {
    let counter = MINTED.fetch_add(1, Ordering::Relaxed) % (1 << COUNTER_BITS);
    let millis = u64::try_from(now).unwrap_or(0);
    // 12 bits beside the version, 30 behind the variant, and chance, which keeps processes apart.
    let upper = (millis << 16) | 0x7000 | (counter >> 30);
    let lower = (0b10 << 62) | ((counter % (1 << 30)) << 32) | u64::from(random());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&upper.to_be_bytes());
    id[8..].copy_from_slice(&lower.to_be_bytes());
    ReservationId(id)
}

/// A number that nobody can guess before.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn random() -> u32 {
    let bytes = Uuid::new_v4().into_bytes();
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// A version that nothing had before, whatever a database may have forgotten since.
pub fn mint_version() -> i64 {
    (i64::from(random()) << 32) | i64::from(random())
}

/// Bytes that nobody can guess before.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| random().to_be_bytes()[0])
}

/// The id of a new log of events.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn new_log_id() -> [u8; 16] {
    Uuid::new_v4().into_bytes()
}

/// A clock that stands still until it is set.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at an instant.
    pub fn at(now: Millis) -> Self {
        Self(Arc::new(AtomicI64::new(now)))
    }

    /// What it shows.
    pub fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets it, backwards too.
    pub fn set(&self, now: Millis) {
        self.0.store(now, Ordering::SeqCst);
    }

    /// Moves it on.
    pub fn advance(&self, millis: Millis) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

/// The time of day of this machine, in unix milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn system_now() -> Millis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use uuid::{Variant, Version};

    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_instants_and_of_their_making() {
        let instants = [5, 5, 1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_001];
        let ids = instants.map(mint);
        assert!(ids.is_sorted_by(|a, b| a.0 < b.0), "{ids:?}");
        // Those of another instant in between do not matter.
        assert!(ids[1].0 < mint(5).0);
        let uuid = Uuid::from_bytes(mint(1_700_000_000_000).0);
        assert_eq!((uuid.get_version(), uuid.get_variant()), (Some(Version::SortRand), Variant::RFC4122));
        assert_eq!(uuid.get_timestamp().map(|time| time.to_unix()), Some((1_700_000_000, 0)));
    }
}
