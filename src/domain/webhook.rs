//! Webhooks: who is told of which events, with which secret, and when a delivery that failed is tried again.

use std::fmt;

use data_encoding::BASE64;

use super::{
    bounds::{SECRET_MAX_BYTES, SECRET_MIN_BYTES},
    event::EventKind,
    window::Millis,
};

/// What a secret begins with, as Standard Webhooks have it.
const SECRET_PREFIX: &str = "whsec_";

/// Pauses after a failed attempt: the second after the first, and so on. After the last one it is given up, a day after
/// the event.
const RETRY_SECONDS: [i64; 10] = [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 28_800];

/// A webhook is disabled when all of its deliveries failed for so long.
const FAILING_MAX_MILLIS: Millis = 5 * 24 * 3_600 * 1_000;

/// The key of a webhook's rows. Random, and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WebhookKey(pub i64);

/// What a receiver can check signatures with: random bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Out of bytes that were checked before.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Reads `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let encoded = text.strip_prefix(SECRET_PREFIX);
        let bytes = encoded.and_then(|encoded| BASE64.decode(encoded.as_bytes()).ok());
        match bytes {
            None => Err("must be \"whsec_\" and 24-64 bytes in base64"),
            Some(bytes) if bytes.len() < SECRET_MIN_BYTES => Err("is too short: it must have 24-64 bytes"),
            Some(bytes) if bytes.len() > SECRET_MAX_BYTES => Err("is too long: it must have 24-64 bytes"),
            Some(bytes) => Ok(Self(bytes)),
        }
    }

    /// As people have it.
    pub fn text(&self) -> String {
        format!("{SECRET_PREFIX}{}", BASE64.encode(&self.0))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// It is not for logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Whether a webhook is told of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookState {
    /// It is.
    Active,
    /// An operator disabled it.
    Disabled,
    /// Its endpoint said that it is gone (410).
    Gone,
    /// All of its deliveries failed for days.
    Failed,
}

impl WebhookState {
    /// The number that stands for it in the row.
    pub fn code(self) -> i16 {
        match self {
            WebhookState::Active => 1,
            WebhookState::Disabled => 2,
            WebhookState::Gone => 3,
            WebhookState::Failed => 4,
        }
    }

    /// The state of a number.
    pub fn from_code(code: i16) -> Option<Self> {
        let all = [WebhookState::Active, WebhookState::Disabled, WebhookState::Gone, WebhookState::Failed];
        all.into_iter().find(|state| state.code() == code)
    }
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The key of its rows.
    pub key: WebhookKey,
    /// Its plain id.
    pub id: String,
    /// Where events are posted.
    pub url: String,
    /// For people.
    pub description: String,
    /// Only events of these tenants; empty: all, and those of no tenant.
    pub tenants: Vec<String>,
    /// Only events of these kinds; empty: all.
    pub kinds: Vec<EventKind>,
    /// Whether it is told.
    pub state: WebhookState,
    /// What events are signed with.
    pub secret: Secret,
    /// The secret before, and until when events are signed with it, too.
    pub old_secret: Option<(Secret, Millis)>,
    /// The sequence up to which the log was expanded into deliveries.
    pub cursor: i64,
    /// Since when every delivery failed.
    pub failing_since: Option<Millis>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was changed last.
    pub updated_at: Millis,
}

impl Webhook {
    /// Whether it is to be told of an event.
    pub fn wants(&self, tenant: &str, kind: EventKind) -> bool {
        (self.tenants.is_empty() || self.tenants.iter().any(|name| name == tenant))
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
    }

    /// As it is at an instant: without the secret before, once that is over.
    #[must_use]
    pub fn at(mut self, now: Millis) -> Self {
        self.old_secret = self.old_secret.filter(|(_, until)| now < *until);
        self
    }

    /// The secrets that events are signed with at an instant.
    pub fn secrets(&self, now: Millis) -> impl Iterator<Item = &Secret> {
        let old = self.old_secret.iter().filter(move |(_, until)| now < *until).map(|(secret, _)| secret);
        std::iter::once(&self.secret).chain(old)
    }
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is to be sent, again or for the first time.
    Pending,
    /// It was answered with success.
    Delivered,
    /// It was given up.
    Failed,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 3] = [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Failed];

    /// The number that stands for it in the row.
    pub fn code(self) -> i16 {
        match self {
            DeliveryState::Pending => 1,
            DeliveryState::Delivered => 2,
            DeliveryState::Failed => 3,
        }
    }

    /// The state of a number.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// An event on its way to a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event's place in the log.
    pub sequence: i64,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was sent.
    pub attempts: i32,
    /// When it is sent next, if it is pending.
    pub next_attempt_at: Millis,
    /// When it was sent last.
    pub attempted_at: Option<Millis>,
    /// What the endpoint answered last: an HTTP status, or 0.
    pub response_status: i16,
    /// What was wrong with the last attempt, for people; empty when nothing was.
    pub error: String,
    /// When it was made.
    pub created_at: Millis,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What the endpoint answered: an HTTP status, or 0.
    pub response_status: i16,
    /// What was wrong, for people; empty when nothing was.
    pub error: String,
}

impl Attempt {
    /// Whether the endpoint took it.
    pub fn succeeded(&self) -> bool {
        self.error.is_empty()
    }

    /// Whether the endpoint wants no more.
    pub fn is_gone(&self) -> bool {
        self.response_status == 410
    }
}

/// When a delivery is tried again that failed for the `attempts`-th time at an instant; `None`: never. `chance` spreads
/// those of an outage: up to a quarter later.
pub fn retry_at(attempts: i32, now: Millis, chance: u32) -> Option<Millis> {
    let place = usize::try_from(attempts - 1).ok()?;
    let pause = RETRY_SECONDS.get(place)? * 1_000;
    let jitter = i128::from(pause / 4) * i128::from(chance) / i128::from(u32::MAX);
    now.checked_add(pause)?.checked_add(i64::try_from(jitter).ok()?)
}

/// The state of an active webhook after an attempt that failed, and since when it fails.
pub fn after_failure(
    attempt: &Attempt,
    failing_since: Option<Millis>,
    now: Millis,
) -> (WebhookState, Millis) {
    let since = failing_since.unwrap_or(now);
    let state = match attempt {
        attempt if attempt.is_gone() => WebhookState::Gone,
        _ if now - since >= FAILING_MAX_MILLIS => WebhookState::Failed,
        _ => WebhookState::Active,
    };
    (state, since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_go_on_for_a_day() {
        for (chance, hours) in [(0, 23..=24), (u32::MAX, 29..=30)] {
            let mut now = 0;
            let mut attempts = 1;
            while let Some(next) = retry_at(attempts, now, chance) {
                assert!(next > now, "{attempts}");
                (now, attempts) = (next, attempts + 1);
            }
            assert!(hours.contains(&(now / 3_600_000)), "{now}");
            assert_eq!(attempts, 11);
        }
        assert_eq!(retry_at(0, 0, 0), None);
        assert_eq!(retry_at(1, i64::MAX, 0), None);
    }

    #[test]
    fn a_secret_is_read_as_it_is_shown() {
        let secret = Secret::from_bytes(vec![7; 32]);
        assert_eq!(Secret::parse(&secret.text()), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "Secret");
        let long = |bytes: usize| Secret::from_bytes(vec![1; bytes]).text();
        for (text, fault) in [
            (long(23).as_str(), "is too short"),
            ("whsec_", "is too short"),
            (long(65).as_str(), "is too long"),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "must be \"whsec_\""),
            ("whsec_!!!", "must be \"whsec_\""),
            ("", "must be \"whsec_\""),
        ] {
            let said = Secret::parse(text).expect_err(text);
            assert!(said.starts_with(fault), "{text}: {said}");
        }
        assert!(Secret::parse(&long(24)).is_ok() && Secret::parse(&long(64)).is_ok());
    }

    #[test]
    fn a_webhook_that_fails_for_five_days_is_given_up() {
        let day = 24 * 3_600 * 1_000;
        let failed = Attempt { response_status: 500, error: "no".into() };
        let gone = Attempt { response_status: 410, error: "gone".into() };
        assert_eq!(after_failure(&failed, None, day), (WebhookState::Active, day));
        assert_eq!(after_failure(&failed, Some(0), 5 * day - 1), (WebhookState::Active, 0));
        assert_eq!(after_failure(&failed, Some(0), 5 * day), (WebhookState::Failed, 0));
        assert_eq!(after_failure(&gone, None, day), (WebhookState::Gone, day));
    }
}
