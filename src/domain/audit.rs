//! The audit: who made which change (R8).
//!
//! An administrative change or a correction leaves a [`Change`], in its own transaction. Administration writes the
//! texts of the thing itself. A batch notes what it corrected as a [`Correction`], from which the store makes the texts.

use std::sync::Arc;

use super::{
    codes::codes, counter::CounterKey, id::ReservationId, reservation::ReservationState, time::Time,
    window::Window,
};

/// The caller of a server that needs no keys.
pub const LOCAL: &str = "local";

/// The caller of a command that works on the database itself.
pub const COMMAND_LINE: &str = "command line";

/// Maximum length of a request id from the metadata of a call, in bytes. A longer one is not kept.
pub const REQUEST_ID_MAX_BYTES: usize = 128;

/// Who makes a change, and by which call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// The caller, as the method `caller` of a permit names it, or [`COMMAND_LINE`].
    pub caller: String,
    /// The IP address and port from which the call came. Empty: there was no call.
    pub address: String,
    /// The name of the rpc, such as `UpdatePlan`.
    pub rpc: &'static str,
    /// The id that the caller gave its request. Empty: none.
    pub request_id: String,
}

impl Author {
    /// Makes the author of a change that a command makes in the database itself, as the rpc would.
    pub fn command_line(rpc: &'static str) -> Self {
        Self { caller: COMMAND_LINE.to_owned(), rpc, ..Self::default() }
    }
}

/// The kind of thing that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThingKind {
    /// A resource of the policy.
    Resource,
    /// A plan of the policy.
    Plan,
    /// A tenant of the server.
    Tenant,
    /// An agent of a tenant.
    Agent,
    /// An override of a tenant.
    Override,
    /// The settings of the policy.
    Settings,
    /// A key of a caller.
    Key,
    /// A webhook, or its deliveries.
    Webhook,
    /// A job that was run by hand.
    Job,
    /// The usage of a tenant.
    Usage,
    /// A reservation of a tenant.
    Reservation,
}

codes!(
    ThingKind as i16:
    Resource = 1 "RESOURCE", Plan = 2 "PLAN", Tenant = 3 "TENANT", Agent = 4 "AGENT", Override = 5 "OVERRIDE",
    Settings = 6 "SETTINGS", Key = 7 "KEY", Webhook = 8 "WEBHOOK", Job = 9 "JOB", Usage = 10 "USAGE",
    Reservation = 11 "RESERVATION"
);

/// A change, as a row of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The id, which sorts changes by time.
    pub id: ChangeId,
    /// The caller. See [`Author::caller`].
    pub caller: String,
    /// The IP address and port of the caller. Empty: there was no call.
    pub address: String,
    /// The name of the rpc.
    pub rpc: String,
    /// What was changed. `None`: a kind of thing that only a later release knows.
    pub kind: Option<ThingKind>,
    /// The id of the thing. For usage: the id of the tenant.
    pub thing: String,
    /// The id of the tenant that has the thing. Empty: it belongs to no tenant.
    pub tenant: String,
    /// The thing before the change, as JSON. Empty: it did not exist.
    pub before: String,
    /// The thing after the change, as JSON. Empty: it does not exist.
    pub after: String,
    /// The id that the caller gave its request. Empty: none.
    pub request_id: String,
    /// The revision of the policy that the change made. `None`: it made none.
    pub revision: Option<i64>,
}

/// The id of a change: a UUID of version 7. Its order is that of time, on all servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeId(pub [u8; 16]);

impl ChangeId {
    /// Returns the instant of the change.
    pub fn at(self) -> Time {
        let [a, b, c, d, e, f, ..] = self.0;
        Time(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Returns the id before which there are exactly the changes before an instant.
    pub fn first_at(at: Time) -> Self {
        let mut id = [0; 16];
        let millis = u64::try_from(at.0).unwrap_or(0).min((1 << 48) - 1);
        id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        Self(id)
    }

    /// Returns an id that comes after all others.
    pub fn last() -> Self {
        Self([u8::MAX; 16])
    }
}

/// A correction that a batch made, and who asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The id of the operation, which is that of the change, too.
    pub id: ReservationId,
    /// Who made the correction.
    pub author: Author,
    /// The id of the tenant.
    pub tenant: Arc<str>,
    /// What the batch corrected.
    pub corrected: Corrected,
}

/// What a batch corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Corrected {
    /// A reservation was released or amended.
    Reservation {
        /// The name of the reservation.
        name: String,
        /// The reservation before the correction.
        before: Figures,
        /// The reservation after the correction.
        after: Figures,
        /// The reason and the operator of an Amend.
        note: Option<Note>,
    },
    /// Counters were set to zero.
    Usage {
        /// The counters, at most [`COUNTERS_MAX`] of them.
        counters: Vec<ResetCounter>,
        /// The number of all counters.
        count: usize,
        /// The reason and the operator.
        note: Note,
    },
}

/// Maximum number of counters that a change of usage names. The adjustments name all.
pub const COUNTERS_MAX: usize = 100;

/// What the operator of a correction said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Why the correction was made.
    pub reason: String,
    /// Who made the correction, in the words of the caller.
    pub operator: String,
}

/// The state of a reservation, and its amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The state of the reservation.
    pub state: ReservationState,
    /// For each resource: its id, the reserved units and the committed units.
    pub amounts: Vec<(String, i64, i64)>,
}

/// A counter that was set to zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetCounter {
    /// The id of the resource.
    pub resource: String,
    /// The key of the counter.
    pub key: CounterKey,
    /// The window of the counter.
    pub window: Window,
    /// The ids of the limits that read the counter.
    pub limits: Vec<String>,
    /// The committed units before the correction.
    pub before: i64,
    /// The committed units after the correction.
    pub after: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_change_contains_its_instant() {
        for millis in [0, 1, 1_795_694_650_123] {
            let id = ChangeId::first_at(Time(millis));
            assert_eq!(id.at(), Time(millis));
            assert!(id < ChangeId::first_at(Time(millis + 1)) && id < ChangeId::last());
        }
        assert_eq!(ChangeId::first_at(Time(-1)).at(), Time::EPOCH);
        assert_eq!(ChangeId::first_at(Time(i64::MAX)).at(), Time((1 << 48) - 1));
    }
}
