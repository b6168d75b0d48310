//! A hold on quantities, with a deadline: RESERVED → COMMITTED, RELEASED or EXPIRED.

use super::{
    amendment::{Amended, Amendment, FirstCharge},
    codes::codes,
    counter::{Counter, CounterKey},
    id::{ReservationId, ResourceKey},
    shape::{PerDimension, Subject},
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
    /// The part of `charged` that a reset, or the return of a limit, has subtracted from the counter. `charged` never
    /// falls below it, so that no correction subtracts this part again (R4.27).
    pub forgiven: i64,
    /// [`Counter::forgiven_until`] at the last change of `charged`. A later value means that the counter was set to
    /// zero since then.
    pub seen: Time,
    /// Which units of the resource a settlement charges to the counter.
    pub share: Share,
}

/// Which units a settlement charges to the counter of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// The units that were reserved in the counter, and those beyond all reserved units. If an Extend added the
    /// counter, these are not all units.
    #[default]
    Held,
    /// All units: a Commit added the counter, for the subject that served the call.
    Whole,
    /// No units: a Commit moved the charge to the counters of another subject.
    Nothing,
}

codes!(Share as i32: Held = 0, Whole = 1, Nothing = 2);

impl Line {
    /// Makes the line of a counter in which `held` units are reserved, and to which nothing is charged.
    pub fn new(key: CounterKey, held: i64) -> Self {
        Self { key, held, charged: 0, forgiven: 0, seen: Time::EPOCH, share: Share::Held }
    }

    /// Notes how much of the charge was subtracted by a reset of the counter since `charged_at`, the instant at which
    /// the reservation was settled.
    pub fn note_forgiven(&mut self, counter: &Counter, charged_at: Option<Time>) {
        let until = counter.forgiven_until;
        if until > self.seen && charged_at.is_some_and(|charged_at| until >= charged_at) {
            self.forgiven = self.charged;
        }
        self.seen = until;
    }
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
    /// When the usage of a Record occurred, if the Record says so. It is charged to the windows that contain this
    /// instant (R4.43).
    pub occurred_at: Option<Time>,
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
    /// The agent, user and model that the Commit charged. `None`: those of `subject`.
    pub served: Option<Box<PerDimension<String>>>,
    /// The corrections of its figures by Amend. `None`: there was no Amend.
    pub amended: Option<Box<Amended>>,
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
            served: None,
            amended: None,
            deadline: answer.deadline,
            amounts: answer.granted.iter().map(held).collect(),
            ..self.clone()
        }
    }

    /// Returns the reservation as it was when its Reserve or Record replied.
    pub fn as_first_answered(&self) -> Reservation {
        match &self.first {
            _ if self.record => self.as_first_charged(),
            Some(answer) => self.as_answered(answer),
            None => self.as_answered(&self.answer()),
        }
    }

    /// Returns the reservation as its Commit or Record left it, before it was amended.
    pub fn as_first_charged(&self) -> Reservation {
        let mut first = self.clone();
        let amended = first.amended.take();
        if let Some(FirstCharge { committed, charged }) = amended.and_then(|amended| amended.first) {
            first.amounts.truncate(committed.len());
            first.lines.truncate(charged.len());
            let amounts = first.amounts.iter_mut().zip(committed);
            amounts.for_each(|(amount, committed)| amount.committed = committed);
            first.lines.iter_mut().zip(charged).for_each(|(line, charged)| line.charged = charged);
        }
        first
    }

    /// Notes a correction of this reservation. `before` is the reservation before the correction.
    pub fn note_amendment(&mut self, before: &Reservation, amendment: Amendment) {
        let first = || FirstCharge {
            committed: before.amounts.iter().map(|amount| amount.committed).collect(),
            charged: before.lines.iter().map(|line| line.charged).collect(),
        };
        self.amended.get_or_insert_default().note(first, amendment);
    }

    /// Returns the corrections that are kept, the oldest one first.
    pub fn amendments(&self) -> &[Amendment] {
        self.amended.as_ref().map_or(&[], |amended| &amended.latest)
    }

    /// Returns the reservation for its event: with the correction that the event reports, and without earlier ones.
    pub fn for_event(&self, amendment: Option<&Amendment>) -> Reservation {
        let amended =
            amendment.map(|amendment| Amended { first: None, latest: vec![amendment.clone()] }).map(Box::new);
        Reservation { amended, ..self.clone() }
    }

    /// Returns the units that were charged of a resource. 0 if the reservation does not have the resource.
    pub fn committed_of(&self, resource: ResourceKey) -> i64 {
        self.amounts.iter().find(|amount| amount.resource == resource).map_or(0, |amount| amount.committed)
    }

    /// Returns the instant whose windows the reservation is charged to.
    pub fn counts_at(&self) -> Time {
        self.occurred_at.unwrap_or(self.created_at)
    }

    /// Returns the agent, user and model to which usage is charged, with the labels of the call.
    pub fn charged_subject(&self) -> Subject {
        let labels = self.subject.labels.clone();
        match self.served.as_deref().cloned() {
            Some(PerDimension { agent, user, model }) => Subject { agent, user, model, labels },
            None => self.subject.clone(),
        }
    }

    /// Returns the lines whose counters count this resource.
    pub fn lines_of(&self, resource: ResourceKey) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.key.resource() == resource)
    }
}
