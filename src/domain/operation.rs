//! What is asked of a tenant's books, parsed: quantities, names and bounds were checked at the border.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{id::ReservationId, plan::Subject, reservation::OnExpiry, window::Millis};

/// The first half of the SHA-256 of a request's parsed fields.
pub type Fingerprint = [u8; 16];

/// What makes a retry safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Chosen by the client.
    pub id: String,
    /// Of the payload that came with it.
    pub fingerprint: Fingerprint,
}

/// Units of a resource that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Name of the resource.
    pub resource: String,
    /// Units, 1 or more.
    pub quantity: i64,
    /// The least that is of use, 1 to `quantity`; `quantity` unless a partial grant is allowed.
    pub minimum: i64,
}

/// Units of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// Name of the resource.
    pub resource: String,
    /// Units.
    pub quantity: i64,
}

/// Which reservation is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one of this id.
    Id(ReservationId),
    /// The one that the Reserve or Record of this request_id made.
    Request(String),
}

/// Hold quantities.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// For retries.
    pub request: Option<RequestKey>,
    /// Who spends.
    pub subject: Subject,
    /// What is asked for.
    pub amounts: Vec<Ask>,
    /// Time to the deadline.
    pub ttl: Millis,
    /// Less than `quantity` is of use.
    pub allow_partial: bool,
    /// What becomes of it at the deadline.
    pub on_expiry: OnExpiry,
    /// Sorted by key.
    pub labels: Vec<(String, String)>,
}

/// Settle a hold with what was used.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which.
    pub target: Target,
    /// What was used, 0 or more each.
    pub amounts: Vec<Units>,
}

/// Add time or quantity to a hold.
#[derive(Clone, Debug)]
pub struct Extend {
    /// Which.
    pub target: Target,
    /// For retries.
    pub request: Option<RequestKey>,
    /// Time from now.
    pub ttl: Option<Millis>,
    /// What is added, 1 or more each.
    pub amounts: Vec<Units>,
}

/// Charge in one step.
#[derive(Clone, Debug)]
pub struct Record {
    /// For retries.
    pub request: Option<RequestKey>,
    /// Who spends.
    pub subject: Subject,
    /// What was used; negative gives back.
    pub amounts: Vec<Units>,
    /// Sorted by key.
    pub labels: Vec<(String, String)>,
}

/// Would this pass?
#[derive(Clone, Debug)]
pub struct Check {
    /// Who would spend.
    pub subject: Subject,
    /// What would be asked for.
    pub amounts: Vec<Ask>,
    /// Less than `quantity` is of use.
    pub allow_partial: bool,
}

/// Only counters that count these values apart; `None` is every value. In the order of
/// [`super::plan::Dimension`].
pub type DimensionFilter = [Option<String>; 3];

/// Set what was committed in the running windows to zero.
#[derive(Clone, Debug)]
pub struct Reset {
    /// For retries.
    pub request: Option<RequestKey>,
    /// Names; empty: all.
    pub resources: Vec<String>,
    /// Which counters.
    pub filter: DimensionFilter,
    /// For the record.
    pub reason: String,
    /// For the record.
    pub operator: String,
}

/// One thing that is asked of a tenant's books.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Hold quantities.
    Reserve(Reserve),
    /// Settle a hold with what was used.
    Commit(Commit),
    /// Give a hold back.
    Release(Target),
    /// Add time or quantity to a hold.
    Extend(Extend),
    /// Charge in one step.
    Record(Record),
    /// Would this pass?
    Check(Check),
    /// Set what was committed to zero.
    Reset(Reset),
}

impl Operation {
    /// The request id that it brings, if any.
    pub fn request(&self) -> Option<&RequestKey> {
        match self {
            Operation::Reserve(reserve) => reserve.request.as_ref(),
            Operation::Extend(extend) => extend.request.as_ref(),
            Operation::Record(record) => record.request.as_ref(),
            Operation::Reset(reset) => reset.request.as_ref(),
            Operation::Commit(_) | Operation::Release(_) | Operation::Check(_) => None,
        }
    }

    /// The reservation that it is about, if any.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Operation::Commit(commit) => Some(&commit.target),
            Operation::Release(target) => Some(target),
            Operation::Extend(extend) => Some(&extend.target),
            Operation::Reserve(_) | Operation::Record(_) | Operation::Check(_) | Operation::Reset(_) => None,
        }
    }

    /// Whether it is carried out whatever becomes of its client: what was spent is spent.
    pub fn is_owed(&self) -> bool {
        match self {
            Operation::Commit(_) | Operation::Release(_) | Operation::Record(_) | Operation::Reset(_) => true,
            Operation::Reserve(_) | Operation::Extend(_) | Operation::Check(_) => false,
        }
    }
}

/// Takes a fingerprint, field by field. Each part is followed by its length or has a fixed one, so that no two
/// payloads read alike.
#[derive(Clone)]
pub struct Fingerprinter(Sha256);

impl Fingerprinter {
    /// For one method.
    pub fn new(method: &str) -> Self {
        Self(Sha256::new()).text(method)
    }

    /// Adds a text.
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes of any number.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a number.
    pub fn number(mut self, number: i64) -> Self {
        self.0.update(number.to_be_bytes());
        self
    }

    /// Adds a text that may be absent.
    pub fn optional(self, text: Option<&str>) -> Self {
        self.number(i64::from(text.is_some())).text(text.unwrap_or_default())
    }

    /// Adds texts as a set.
    pub fn set(self, texts: &[String]) -> Self {
        let sorted: BTreeSet<&String> = texts.iter().collect();
        let counted = self.number(i64::try_from(sorted.len()).unwrap_or(i64::MAX));
        sorted.into_iter().fold(counted, |print, text| print.text(text))
    }

    /// Adds who spends.
    pub fn subject(self, subject: &Subject) -> Self {
        self.text(&subject.agent).text(&subject.user).text(&subject.model)
    }

    /// Adds labels, which are sorted.
    pub fn labels(self, labels: &[(String, String)]) -> Self {
        let counted = self.number(i64::try_from(labels.len()).unwrap_or(i64::MAX));
        labels.iter().fold(counted, |print, (key, value)| print.text(key).text(value))
    }

    /// Adds units, in the order of their resources.
    pub fn units(self, amounts: &[Units]) -> Self {
        let mut sorted: Vec<&Units> = amounts.iter().collect();
        sorted.sort_by(|a, b| a.resource.cmp(&b.resource));
        let counted = self.number(i64::try_from(sorted.len()).unwrap_or(i64::MAX));
        sorted.into_iter().fold(counted, |print, units| print.text(&units.resource).number(units.quantity))
    }

    /// Adds what is asked for, in the order of the resources.
    pub fn asks(self, amounts: &[Ask]) -> Self {
        let mut sorted: Vec<&Ask> = amounts.iter().collect();
        sorted.sort_by(|a, b| a.resource.cmp(&b.resource));
        let counted = self.number(i64::try_from(sorted.len()).unwrap_or(i64::MAX));
        sorted
            .into_iter()
            .fold(counted, |print, ask| print.text(&ask.resource).number(ask.quantity).number(ask.minimum))
    }

    /// The fingerprint.
    pub fn finish(self) -> Fingerprint {
        let mut print = [0; 16];
        print.copy_from_slice(&self.0.finalize()[..16]);
        print
    }

    /// The fingerprint so far.
    pub fn fingerprint(&self) -> Fingerprint {
        self.clone().finish()
    }
}
