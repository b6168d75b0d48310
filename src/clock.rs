//! The only file that reads the process's time of day (the store reads the database's).

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
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

/// A new id of an instant, behind those of earlier instants, and most often behind the earlier ones of its own.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn mint(now: Millis) -> ReservationId {
    // The lower part is a counter within the millisecond, and chance.
    let mut chance = [0; 10];
    chance.copy_from_slice(&Uuid::now_v7().as_bytes()[6..]);
    let millis = u64::try_from(now).unwrap_or(0);
    ReservationId(uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid().into_bytes())
}

/// A number that nobody can guess before.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn random() -> u32 {
    let bytes = Uuid::new_v4().into_bytes();
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
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
