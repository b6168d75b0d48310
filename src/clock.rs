//! Time and random numbers: the only file that reads this machine's time of day and makes random numbers. (The store
//! reads the database's time, and the ids of spans come from their library.)

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

use crate::domain::{id::ReservationId, time::Time};

/// The source of the current time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The clock of this machine, for SQLite.
    System,
    /// The clock of the database, for PostgreSQL: all replicas agree on it.
    Database,
    /// A clock that tests set by hand.
    Manual(ManualClock),
}

impl Clock {
    /// Returns the current time. `None`: the database must be asked for it.
    pub fn now(&self) -> Option<Time> {
        match self {
            Clock::System => Some(system_now()),
            Clock::Database => None,
            Clock::Manual(clock) => Some(Time(clock.now())),
        }
    }
}

/// Width, in bits, of the counter that follows the milliseconds in a minted id.
const COUNTER_BITS: u32 = 42;

/// Counts the minted ids, from a random start. One counter for all lanes keeps the ids of one instant in the order in
/// which they were made, even if lanes alternately mint ids for different instants.
static MINTED: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(u64::from(random()) << 9));

/// Makes a UUID of version 7 for an instant. It sorts after all ids that this process made for earlier instants, and
/// after all earlier ids of this instant.
pub fn mint(now: Time) -> ReservationId {
    let counter = MINTED.fetch_add(1, Ordering::Relaxed) % (1 << COUNTER_BITS);
    let millis = u64::try_from(now.0).unwrap_or(0);
    // The counter's upper 12 bits follow the version, its lower 30 bits the variant. The last 32 bits are random, so
    // that two processes do not make the same id.
    let upper = (millis << 16) | 0x7000 | (counter >> 30);
    let lower = (0b10 << 62) | ((counter % (1 << 30)) << 32) | u64::from(random());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&upper.to_be_bytes());
    id[8..].copy_from_slice(&lower.to_be_bytes());
    ReservationId(id)
}

/// Returns a random number of 32 bits, from a cryptographic generator.
#[expect(clippy::disallowed_methods, reason = "only this file makes random numbers")]
pub fn random() -> u32 {
    let bytes = Uuid::new_v4().into_bytes();
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Returns a random version for a tenant's books. Versions are not counted up, since a restored database would then
/// repeat old versions.
pub fn mint_version() -> i64 {
    (i64::from(random()) << 32) | i64::from(random())
}

/// Returns random bytes, from a cryptographic generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| random().to_be_bytes()[0])
}

/// Returns a random id for a new log of events.
#[expect(clippy::disallowed_methods, reason = "only this file makes random numbers")]
pub fn new_log_id() -> [u8; 16] {
    Uuid::new_v4().into_bytes()
}

/// A clock for tests: it stands still until it is set. Clones share the same time. Its instants are plain numbers, as in
/// the tables of tests.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Makes a clock that stands at `now`, in milliseconds since 1970-01-01 UTC.
    pub fn at(now: i64) -> Self {
        Self(Arc::new(AtomicI64::new(now)))
    }

    /// Returns the time that the clock shows, in milliseconds since 1970-01-01 UTC.
    pub fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets the clock, forwards or backwards, to milliseconds since 1970-01-01 UTC.
    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }

    /// Moves the clock on by `millis`.
    pub fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

/// Returns the time of day of this machine, or [`Time::EPOCH`] if the clock is before 1970.
#[expect(clippy::disallowed_methods, reason = "only this file reads the time of day")]
pub fn system_now() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).map_or(Time::NEVER, Time)
}

/// Returns the time of day of an instant that has passed, for the spans of traces.
#[expect(clippy::disallowed_methods, reason = "only this file reads the time of day")]
pub fn wall_time(instant: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(instant.elapsed()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use uuid::{Variant, Version};

    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_instants_and_of_their_making() {
        let instants = [5, 5, 1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_001].map(Time);
        let ids = instants.map(mint);
        assert!(ids.is_sorted_by(|a, b| a.0 < b.0), "{ids:?}");
        // Ids of other instants that were made in between do not disturb the order.
        assert!(ids[1].0 < mint(Time(5)).0);
        let uuid = Uuid::from_bytes(mint(Time(1_700_000_000_000)).0);
        assert_eq!((uuid.get_version(), uuid.get_variant()), (Some(Version::SortRand), Variant::RFC4122));
        assert_eq!(uuid.get_timestamp().map(|time| time.to_unix()), Some((1_700_000_000, 0)));
    }
}
