//! Operations on a tenant's books, after parsing. Names, quantities and bounds are already checked.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{
    bounds::OCCURRED_AGE_MAX,
    id::ReservationId,
    refusal::Fault,
    reservation::OnExpiry,
    shape::{Labels, PerDimension, Subject},
    time::{Span, Time},
};

/// The first half of the SHA-256 of a request's parsed fields.
pub type Fingerprint = [u8; 16];

/// A `request_id` with its payload's fingerprint, which makes a retry safe (R4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The id that the client chose.
    pub id: String,
    /// The fingerprint of the payload that came with the id.
    pub fingerprint: Fingerprint,
}

/// A quantity that Reserve or Check asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The id of the resource.
    pub resource: String,
    /// Units, 0 or more.
    pub quantity: i64,
    /// The smallest grant that is useful: 1 to `quantity`, and `quantity` itself without `allow_partial`. It is 0 if
    /// `quantity` is 0.
    pub minimum: i64,
}

/// A quantity of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// The id of the resource.
    pub resource: String,
    /// Units. Each operation has its own bounds for them.
    pub quantity: i64,
}

/// How a client names a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The reservation with this id.
    Id(ReservationId),
    /// The reservation that a Reserve or Record with this `request_id` made.
    Request(String),
}

/// Reserve: holds quantities until a deadline.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// Makes a retry safe, if present.
    pub request: Option<RequestKey>,
    /// The agent, user and model that spend, with labels.
    pub subject: Subject,
    /// The quantities to hold.
    pub amounts: Vec<Ask>,
    /// Time to the deadline.
    pub ttl: Span,
    /// Whether a grant of less than `quantity` is accepted.
    pub allow_partial: bool,
    /// What happens to the hold at its deadline.
    pub on_expiry: OnExpiry,
}

/// Commit: settles a reservation with what was used.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The reservation to settle.
    pub target: Target,
    /// The quantities that were used, each 0 or more.
    pub amounts: Vec<Units>,
    /// The agent, user and model that served the call. `None`: the value of the Reserve.
    pub served: PerDimension<Option<String>>,
}

/// Extend: adds time or quantity to a hold.
#[derive(Clone, Debug)]
pub struct Extend {
    /// The hold to extend.
    pub target: Target,
    /// Makes a retry safe, if present.
    pub request: Option<RequestKey>,
    /// Time from now to the new deadline.
    pub ttl: Option<Span>,
    /// The quantities to add, each 0 or more.
    pub amounts: Vec<Units>,
}

/// Record: charges without a hold.
#[derive(Clone, Debug)]
pub struct Record {
    /// Makes a retry safe, if present.
    pub request: Option<RequestKey>,
    /// The agent, user and model that spend, with labels.
    pub subject: Subject,
    /// The quantities that were used. A negative quantity reduces the usage.
    pub amounts: Vec<Units>,
    /// When the usage occurred, if not now.
    pub occurred_at: Option<Time>,
}

impl Record {
    /// Returns the instant whose windows the Record charges. An instant that the Record must not have stands for `now`:
    /// the Record is refused.
    pub fn counts_at(&self, now: Time) -> Time {
        self.occurred_at.filter(|_| self.occurred_fault(now).is_none()).unwrap_or(now)
    }

    /// Returns the fault of `occurred_time`, if it has one.
    pub fn occurred_fault(&self, now: Time) -> Option<Fault> {
        let occurred_at = self.occurred_at?;
        let description = if occurred_at > now {
            "must not be in the future by the server's clock; leave it out for usage that occurs now"
        } else if now.saturating_since(occurred_at) > OCCURRED_AGE_MAX {
            "must be at most 35 days ago; leave it out to count older usage in the present windows"
        } else {
            return None;
        };
        Some(Fault::new("occurred_time", description))
    }
}

/// Amend: replaces what a Commit or Record charged.
#[derive(Clone, Debug)]
pub struct Amend {
    /// The reservation to correct.
    pub target: Target,
    /// The quantities that were really used, each 0 or more. A resource that is left out keeps its figure.
    pub amounts: Vec<Units>,
    /// The reason that the reservation records.
    pub reason: String,
    /// The operator that the reservation records.
    pub operator: String,
}

/// Check: decides what a Reserve would get, and changes nothing.
#[derive(Clone, Debug)]
pub struct Check {
    /// The agent, user and model that would spend.
    pub subject: Subject,
    /// The quantities that Reserve would ask for.
    pub amounts: Vec<Ask>,
    /// Whether a grant of less than `quantity` would be accepted.
    pub allow_partial: bool,
}

/// For each dimension, the value that a counter must have. `None`: any value. Each method defines whether a counter
/// passes if it counts all values of the dimension together.
pub type DimensionFilter = PerDimension<Option<String>>;

/// ResetUsage: sets `committed` of running windows to zero.
#[derive(Clone, Debug)]
pub struct Reset {
    /// Makes a retry safe, if present.
    pub request: Option<RequestKey>,
    /// The ids of the resources. Empty: all resources, but no meters.
    pub resources: Vec<String>,
    /// The ids of the limits whose counters are reset. Empty: all counters except those of LIFETIME limits.
    pub limits: Vec<String>,
    /// Selects counters by their dimensions. If a dimension has a value here, a counter must count that value
    /// separately.
    pub filter: DimensionFilter,
    /// Selects counters by their labels. A counter must count each of these labels separately, with this value.
    pub labels: Labels,
    /// The reason that the adjustments record.
    pub reason: String,
    /// The operator that the adjustments record.
    pub operator: String,
}

/// One operation on a tenant's books.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Holds quantities until a deadline.
    Reserve(Reserve),
    /// Settles a reservation with what was used.
    Commit(Commit),
    /// Settles a reservation without a charge.
    Release(Target),
    /// Adds time or quantity to a hold.
    Extend(Extend),
    /// Charges without a hold.
    Record(Record),
    /// Replaces what a Commit or Record charged.
    Amend(Box<Amend>),
    /// Decides what a Reserve would get.
    Check(Check),
    /// Sets `committed` of running windows to zero.
    Reset(Box<Reset>),
}

impl Operation {
    /// Returns the `request_id` of the operation, if it has one.
    pub fn request(&self) -> Option<&RequestKey> {
        match self {
            Operation::Reserve(reserve) => reserve.request.as_ref(),
            Operation::Extend(extend) => extend.request.as_ref(),
            Operation::Record(record) => record.request.as_ref(),
            Operation::Reset(reset) => reset.request.as_ref(),
            Operation::Commit(_) | Operation::Release(_) | Operation::Amend(_) | Operation::Check(_) => None,
        }
    }

    /// Returns the reservation that the operation names, if it names one.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Operation::Commit(commit) => Some(&commit.target),
            Operation::Release(target) => Some(target),
            Operation::Extend(extend) => Some(&extend.target),
            Operation::Amend(amend) => Some(&amend.target),
            Operation::Reserve(_) | Operation::Record(_) | Operation::Check(_) | Operation::Reset(_) => None,
        }
    }

    /// Returns whether the operation creates its tenant, if the tenant does not exist and the policy has a default plan
    /// (R4.38).
    pub fn may_create_tenant(&self) -> bool {
        match self {
            Operation::Reserve(_) | Operation::Record(_) | Operation::Check(_) => true,
            Operation::Commit(_)
            | Operation::Release(_)
            | Operation::Extend(_)
            | Operation::Amend(_)
            | Operation::Reset(_) => false,
        }
    }

    /// Returns whether the operation must take effect even if its client is gone (R4.10), because it reports something
    /// that has already happened.
    pub fn must_take_effect(&self) -> bool {
        match self {
            Operation::Commit(_)
            | Operation::Release(_)
            | Operation::Record(_)
            | Operation::Amend(_)
            | Operation::Reset(_) => true,
            Operation::Reserve(_) | Operation::Extend(_) | Operation::Check(_) => false,
        }
    }
}

/// Computes a fingerprint field by field. Each part has a fixed length or is preceded by its length, so two different
/// payloads never give the same bytes.
#[derive(Clone)]
pub struct Fingerprinter(Sha256);

impl Fingerprinter {
    /// Begins with the name of the method.
    pub fn new(method: &str) -> Self {
        Self(Sha256::new()).text(method)
    }

    /// Adds a text with its length.
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes with their length.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a number of fixed length.
    pub fn number(mut self, number: i64) -> Self {
        self.0.update(number.to_be_bytes());
        self
    }

    /// Adds the number of elements of a list, which must come before its elements.
    pub fn count(self, count: usize) -> Self {
        self.number(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Adds a text that may be absent.
    pub fn optional(self, text: Option<&str>) -> Self {
        self.number(i64::from(text.is_some())).text(text.unwrap_or_default())
    }

    /// Adds texts as a set: sorted, and each once.
    pub fn set(self, texts: &[String]) -> Self {
        let sorted: BTreeSet<&String> = texts.iter().collect();
        let counted = self.number(i64::try_from(sorted.len()).unwrap_or(i64::MAX));
        sorted.into_iter().fold(counted, |print, text| print.text(text))
    }

    /// Adds agent, user and model.
    pub fn subject(self, subject: &Subject) -> Self {
        self.text(&subject.agent).text(&subject.user).text(&subject.model)
    }

    /// Adds labels, which must be sorted.
    pub fn labels(self, labels: &[(String, String)]) -> Self {
        let counted = self.number(i64::try_from(labels.len()).unwrap_or(i64::MAX));
        labels.iter().fold(counted, |print, (key, value)| print.text(key).text(value))
    }

    /// Adds quantities, sorted by resource.
    pub fn units(self, amounts: &[Units]) -> Self {
        let mut sorted: Vec<&Units> = amounts.iter().collect();
        sorted.sort_by(|a, b| a.resource.cmp(&b.resource));
        let counted = self.number(i64::try_from(sorted.len()).unwrap_or(i64::MAX));
        sorted.into_iter().fold(counted, |print, units| print.text(&units.resource).number(units.quantity))
    }

    /// Adds quantities and minima, sorted by resource.
    pub fn asks(self, amounts: &[Ask]) -> Self {
        let mut sorted: Vec<&Ask> = amounts.iter().collect();
        sorted.sort_by(|a, b| a.resource.cmp(&b.resource));
        let counted = self.number(i64::try_from(sorted.len()).unwrap_or(i64::MAX));
        sorted
            .into_iter()
            .fold(counted, |print, ask| print.text(&ask.resource).number(ask.quantity).number(ask.minimum))
    }

    /// Returns the fingerprint of all added parts.
    pub fn finish(self) -> Fingerprint {
        let mut print = [0; 16];
        print.copy_from_slice(&self.0.finalize()[..16]);
        print
    }

    /// Returns the fingerprint of the parts added so far.
    pub fn fingerprint(&self) -> Fingerprint {
        self.clone().finish()
    }
}
