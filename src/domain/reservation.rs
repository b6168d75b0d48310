//! A hold on quantities, with a deadline: RESERVED → COMMITTED, RELEASED or EXPIRED.

use super::{
    codes::codes,
    counter::CounterKey,
    id::{ReservationId, ResourceKey},
    shape::Subject,
    time::Time,
};

/// The state of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservationState {
    /// The hold counts until its deadline.
    Reserved,
    /// The reservation was settled with the quantities that were used.
    Committed,
    /// The reservation was settled without a charge.
    Released,
    /// The deadline came before the reservation was settled.
    Expired,
}

codes! {
    ReservationState as i16:
        Reserved = 1 "RESERVED",
        Committed = 2 "COMMITTED",
        Released = 3 "RELEASED",
        Expired = 4 "EXPIRED",
}

/// What happens to a hold at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnExpiry {
    /// The reserved quantity becomes free.
    Release,
    /// The reserved quantity is charged in full.
    Charge,
}

/// One resource of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedAmount {
    /// The key of the resource.
    pub resource: ResourceKey,
    /// Units that were granted, including the units of Extends.
    pub reserved: i64,
    /// Units that were charged.
    pub committed: i64,
}

impl ReservedAmount {
    /// Returns the units that were charged beyond the granted units.
    pub fn overrun(&self) -> i64 {
        self.committed.saturating_sub(self.reserved).max(0)
    }
}

/// The units that a reservation has reserved in one counter, and the units that it has charged to the counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key of the counter.
    pub key: CounterKey,
    /// Units that are reserved in the counter. If an Extend added the counter, this is less than the units that were
    /// reserved of the resource.
    pub held: i64,
    /// Units that were added to the counter's `committed`.
    pub charged: i64,
}

/// The reply of a Reserve or Extend. It is stored for retries, because a later Extend changes the reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldAnswer {
    /// The resources, and the units that were granted in total.
    pub granted: Vec<(ResourceKey, i64)>,
    /// The deadline in the reply.
    pub deadline: Time,
}

/// A reservation in any state. A Record is a reservation that is born COMMITTED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// A UUID of version 7.
    pub id: ReservationId,
    /// The agent, user and model that spend.
    pub subject: Subject,
    /// The state of the reservation.
    pub state: ReservationState,
    /// Whether the reservation was committed after its deadline.
    pub late: bool,
    /// Whether the reservation is a Record, which was never a hold.
    pub record: bool,
    /// What happens to the hold at its deadline.
    pub on_expiry: OnExpiry,
    /// When the reservation was made. It is charged to the windows that contain this instant (R4.4).
    pub created_at: Time,
    /// From this instant on the hold does not count (R4.3).
    pub deadline: Time,
    /// When the reservation was committed, released or expired. `None`: it is RESERVED.
    pub settled_at: Option<Time>,
    /// The resources of which the reservation has reserved or charged units.
    pub amounts: Vec<ReservedAmount>,
    /// The counters in which the reservation has reserved units, or to which it has charged units.
    pub lines: Vec<Line>,
    /// The client's `request_id`, or empty.
    pub request_id: String,
    /// The reply of its Reserve, if an Extend has changed the reservation since, or if a Commit has settled a
    /// reservation that reserved 0 units of a resource.
    pub first: Option<HoldAnswer>,
}

impl Reservation {
    /// Returns whether the reservation is RESERVED although its deadline has come.
    pub fn is_due(&self, now: Time) -> bool {
        self.state == ReservationState::Reserved && self.deadline <= now
    }

    /// Returns the reservation as it is after its deadline, with its charge if `on_expiry` is CHARGE.
    pub fn into_expired(mut self) -> Reservation {
        let charge = self.on_expiry == OnExpiry::Charge;
        for line in &mut self.lines {
            line.charged = if charge { line.held } else { 0 };
        }
        for amount in &mut self.amounts {
            amount.committed = if charge { amount.reserved } else { 0 };
        }
        self.state = ReservationState::Expired;
        self.settled_at = Some(self.deadline);
        self
    }

    /// Returns the reply of a Reserve or Extend that leaves the reservation with its present figures.
    pub fn answer(&self) -> HoldAnswer {
        // A resource that was committed without being reserved is not part of a grant. A resource that was reserved
        // with a quantity of 0 is part of it: for such a reservation, Commit keeps the reply in `first`.
        let committed = self.state == ReservationState::Committed;
        let held = self.amounts.iter().filter(|amount| !committed || amount.reserved > 0);
        HoldAnswer {
            granted: held.map(|amount| (amount.resource, amount.reserved)).collect(),
            deadline: self.deadline,
        }
    }

    /// Returns the reservation as it was when Reserve or Extend gave this reply.
    pub fn as_answered(&self, answer: &HoldAnswer) -> Reservation {
        let held = |&(resource, reserved)| ReservedAmount { resource, reserved, committed: 0 };
        Reservation {
            state: ReservationState::Reserved,
            late: false,
            settled_at: None,
            deadline: answer.deadline,
            amounts: answer.granted.iter().map(held).collect(),
            ..self.clone()
        }
    }

    /// Returns the reservation as it was when its Reserve or Record replied.
    pub fn as_first_answered(&self) -> Reservation {
        match &self.first {
            _ if self.record => self.clone(),
            Some(answer) => self.as_answered(answer),
            None => self.as_answered(&self.answer()),
        }
    }

    /// Returns the lines whose counters count this resource.
    pub fn lines_of(&self, resource: ResourceKey) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.key.resource() == resource)
    }
}
