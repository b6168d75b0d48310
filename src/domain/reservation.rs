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

/// What Reserve or Extend answered: kept where a later Extend would make the books forget it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldAnswer {
    /// What was granted by then: resource and units.
    pub granted: Vec<(ResourceKey, i64)>,
    /// The deadline by then.
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
    pub first: Option<HoldAnswer>,
}

impl Reservation {
    /// Whether its deadline has come while it was held.
    pub fn is_due(&self, now: Millis) -> bool {
        self.state == ReservationState::Reserved && self.deadline <= now
    }

    /// The reservation after its deadline has come.
    pub fn into_expired(mut self) -> Reservation {
        let charge = self.on_expiry == OnExpiry::Charge;
        for line in &mut self.lines {
            line.charged = if charge { line.held } else { 0 };
        }
        for amount in &mut self.amounts {
            amount.committed = if charge { amount.reserved } else { 0 };
        }
        self.state = ReservationState::Expired;
        self.settled_at = self.deadline;
        self
    }

    /// What Reserve answers for it.
    pub fn answer(&self) -> HoldAnswer {
        // What is committed without having been reserved is no part of it.
        let held = self.amounts.iter().filter(|amount| amount.reserved > 0);
        HoldAnswer {
            granted: held.map(|amount| (amount.resource, amount.reserved)).collect(),
            deadline: self.deadline,
        }
    }

    /// The reservation as it was when Reserve or Extend answered it so.
    pub fn as_answered(&self, answer: &HoldAnswer) -> Reservation {
        let held = |&(resource, reserved)| ReservedAmount { resource, reserved, committed: 0 };
        Reservation {
            state: ReservationState::Reserved,
            late: false,
            settled_at: 0,
            deadline: answer.deadline,
            amounts: answer.granted.iter().map(held).collect(),
            ..self.clone()
        }
    }

    /// The reservation as its Reserve or Record answered it.
    pub fn as_first_answered(&self) -> Reservation {
        match &self.first {
            _ if self.record => self.clone(),
            Some(answer) => self.as_answered(answer),
            None => self.as_answered(&self.answer()),
        }
    }

    /// The lines of one resource.
    pub fn lines_of(&self, resource: ResourceKey) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.key.resource() == resource)
    }
}
