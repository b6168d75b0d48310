//! A hold on quantities, with a deadline: RESERVED → COMMITTED, RELEASED or EXPIRED.

use super::{
    counter::CounterKey,
    id::{ReservationId, ResourceKey},
    plan::Subject,
    window::Millis,
};

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservationState {
    /// The hold counts.
    Reserved,
    /// Settled with what was used.
    Committed,
    /// Given back.
    Released,
    /// The deadline came first.
    Expired,
}

impl ReservationState {
    /// Its name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            ReservationState::Reserved => "RESERVED",
            ReservationState::Committed => "COMMITTED",
            ReservationState::Released => "RELEASED",
            ReservationState::Expired => "EXPIRED",
        }
    }
}

/// What becomes of a hold at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnExpiry {
    /// It is given back.
    Release,
    /// It is charged in full.
    Charge,
}

/// One resource of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedAmount {
    /// Which.
    pub resource: ResourceKey,
    /// Units that were granted, Extends included.
    pub reserved: i64,
    /// Units that were charged.
    pub committed: i64,
}

impl ReservedAmount {
    /// Units that were charged beyond what was granted.
    pub fn overrun(&self) -> i64 {
        self.committed.saturating_sub(self.reserved).max(0)
    }
}

/// What a reservation did to one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The counter.
    pub key: CounterKey,
    /// Units that were held in it. Less than was reserved of the resource when the counter joined with an Extend.
    pub held: i64,
    /// Units that were added to its committed.
    pub charged: i64,
}

/// What an Extend would otherwise make the first reply forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstReply {
    /// What was granted at first: resource and units.
    pub granted: Vec<(ResourceKey, i64)>,
    /// The first deadline.
    pub deadline: Millis,
}

/// A reservation. A Record is one that is born COMMITTED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// Who spends.
    pub subject: Subject,
    /// Where it stands.
    pub state: ReservationState,
    /// It was committed after its deadline.
    pub late: bool,
    /// It is a Record: it never was a hold.
    pub record: bool,
    /// What becomes of it at the deadline.
    pub on_expiry: OnExpiry,
    /// When it was made: its windows are those that ran then.
    pub created_at: Millis,
    /// Exclusive: at this instant it no longer counts.
    pub deadline: Millis,
    /// When it was committed, released or expired; 0 while RESERVED.
    pub settled_at: Millis,
    /// Its resources.
    pub amounts: Vec<ReservedAmount>,
    /// Its counters.
    pub lines: Vec<Line>,
    /// As they were given, sorted by key.
    pub labels: Vec<(String, String)>,
    /// As it was given; empty where it was not.
    pub request_id: String,
    /// What Reserve answered, when an Extend has changed it since.
    pub first: Option<FirstReply>,
}

impl Reservation {
    /// Whether its deadline has come while it was held.
    pub fn is_due(&self, now: Millis) -> bool {
        self.state == ReservationState::Reserved && self.deadline <= now
    }

    /// The reservation as Reserve answered it.
    pub fn as_first_answered(&self) -> Reservation {
        let mut first = self.clone();
        if self.record {
            return first;
        }
        first.state = ReservationState::Reserved;
        first.late = false;
        first.settled_at = 0;
        if let Some(reply) = &self.first {
            first.deadline = reply.deadline;
            first.amounts = reply.granted.iter().map(|&(resource, reserved)| held(resource, reserved)).collect();
        } else {
            // What was committed without having been reserved was not in the first reply.
            first.amounts =
                self.amounts.iter().filter(|a| a.reserved > 0).map(|a| held(a.resource, a.reserved)).collect();
        }
        first
    }

    /// The lines of one resource.
    pub fn lines_of(&self, resource: ResourceKey) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.key.resource() == resource)
    }
}

fn held(resource: ResourceKey, reserved: i64) -> ReservedAmount {
    ReservedAmount { resource, reserved, committed: 0 }
}
