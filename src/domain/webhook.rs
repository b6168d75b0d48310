//! Webhooks: which events they are notified of, their secrets, and the retries of deliveries.

use std::fmt;

use data_encoding::BASE64;

use super::{
    bounds::{SECRET_MAX_BYTES, SECRET_MIN_BYTES},
    codes::codes,
    event_kind::EventKind,
    time::{Span, Time},
};

/// The prefix of a secret's text, from Standard Webhooks.
const SECRET_PREFIX: &str = "whsec_";

/// Pauses after failed attempts: the first pause follows the first attempt. After the last pause one more attempt is
/// made, about a day after the event, and then the delivery is FAILED.
const RETRY_SECONDS: [i64; 10] = [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 28_800];

/// A webhook is disabled if all its deliveries failed for this time.
const FAILING_MAX: Span = Span::days(5);

/// The internal key of a webhook: random, and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WebhookKey(pub i64);

/// The random bytes with which receivers check signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Makes a secret of bytes that were checked before.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Parses the text of a secret: `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// The fault of the text.
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

    /// Returns the text of the secret: `whsec_` and base64.
    pub fn text(&self) -> String {
        format!("{SECRET_PREFIX}{}", BASE64.encode(&self.0))
    }

    /// Returns the bytes with which events are signed.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Keeps the bytes out of the log.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Whether a webhook is notified of events, and if not, the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookState {
    /// The webhook is notified of events.
    Active,
    /// An operator disabled it.
    Disabled,
    /// Its endpoint answered 410.
    Gone,
    /// All its deliveries failed for days.
    Failed,
}

codes!(WebhookState as i16: Active = 1 "ACTIVE", Disabled = 2 "DISABLED", Gone = 3 "GONE", Failed = 4 "FAILED");

/// A webhook, as its database row describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The internal key of the webhook, by which rows refer to it.
    pub key: WebhookKey,
    /// The id that people chose.
    pub id: String,
    /// The URL to which events are posted.
    pub url: String,
    /// A description for people to read.
    pub description: String,
    /// The ids of tenants whose events are sent. Empty: the events of all tenants, and events without a tenant.
    pub tenants: Vec<String>,
    /// The kinds of events that are sent. Empty: all kinds.
    pub kinds: Vec<EventKind>,
    /// Whether the webhook is notified, and why not.
    pub state: WebhookState,
    /// The secret with which events are signed.
    pub secret: Secret,
    /// The previous secret, and the instant until which events are signed with it, too.
    pub old_secret: Option<(Secret, Time)>,
    /// The place in the log up to which the webhook's deliveries were created.
    pub cursor: i64,
    /// Since when every delivery has failed. `None`: the last attempt succeeded, or there was none.
    pub failing_since: Option<Time>,
    /// When the webhook was created.
    pub created_at: Time,
    /// When the webhook was last changed.
    pub updated_at: Time,
}

impl Webhook {
    /// Returns whether the webhook must be notified of an event. `tenant` is empty for an event of no tenant.
    pub fn wants(&self, tenant: &str, kind: EventKind) -> bool {
        (self.tenants.is_empty() || self.tenants.iter().any(|name| name == tenant))
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
    }

    /// Returns the webhook as it is at `now`: without the previous secret if that is no longer valid.
    #[must_use]
    pub fn at(mut self, now: Time) -> Self {
        self.old_secret = self.old_secret.filter(|(_, until)| now < *until);
        self
    }

    /// Returns the secrets with which events are signed at `now`.
    pub fn secrets(&self, now: Time) -> impl Iterator<Item = &Secret> {
        let old = self.old_secret.iter().filter(move |(_, until)| now < *until).map(|(secret, _)| secret);
        std::iter::once(&self.secret).chain(old)
    }
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// An attempt is still to come.
    Pending,
    /// The endpoint answered with success.
    Delivered,
    /// The last attempt failed, and no other attempt follows.
    Failed,
}

codes!(DeliveryState as i16: Pending = 1, Delivered = 2, Failed = 3);

/// One event on its way to one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event's place in the log.
    pub sequence: i64,
    /// The state of the delivery.
    pub state: DeliveryState,
    /// The number of attempts so far.
    pub attempts: i32,
    /// When the next attempt is due, if the delivery is PENDING.
    pub next_attempt_at: Time,
    /// When the last attempt was made.
    pub attempted_at: Option<Time>,
    /// HTTP status of the last answer; 0 if there was none.
    pub response_status: i16,
    /// The fault of the last attempt, for people; empty if it succeeded.
    pub error: String,
    /// When the delivery was created.
    pub created_at: Time,
}

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// HTTP status of the answer; 0 if there was none.
    pub response_status: i16,
    /// The fault of the attempt, for people; empty if it succeeded.
    pub error: String,
}

impl Attempt {
    /// Returns whether the endpoint answered with success.
    pub fn succeeded(&self) -> bool {
        self.error.is_empty()
    }

    /// Returns whether the endpoint answered 410. The server then disables the webhook.
    pub fn is_gone(&self) -> bool {
        self.response_status == 410
    }
}

/// Returns the instant of the next attempt of a delivery, after its `attempts`-th attempt failed at `now`. `None`:
/// there is no next attempt. `chance`, a random number, delays the attempt by up to a quarter of the pause, so that the
/// retries after an outage do not come all at once.
pub fn retry_at(attempts: i32, now: Time, chance: u32) -> Option<Time> {
    let place = usize::try_from(attempts - 1).ok()?;
    let pause = Span::seconds(*RETRY_SECONDS.get(place)?);
    let jitter = i128::from(pause.0 / 4) * i128::from(chance) / i128::from(u32::MAX);
    now.checked_add(pause)?.checked_add(Span(i64::try_from(jitter).ok()?))
}

/// Returns the state of an active webhook after a failed attempt, and since when its deliveries have failed.
pub fn after_failure(attempt: &Attempt, failing_since: Option<Time>, now: Time) -> (WebhookState, Time) {
    let since = failing_since.unwrap_or(now);
    let state = match attempt {
        attempt if attempt.is_gone() => WebhookState::Gone,
        _ if now - since >= FAILING_MAX => WebhookState::Failed,
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
            let mut now = Time::EPOCH;
            let mut attempts = 1;
            while let Some(next) = retry_at(attempts, now, chance) {
                assert!(next > now, "{attempts}");
                (now, attempts) = (next, attempts + 1);
            }
            assert!(hours.contains(&(now.0 / 3_600_000)), "{now:?}");
            assert_eq!(attempts, 11);
        }
        assert_eq!(retry_at(0, Time::EPOCH, 0), None);
        assert_eq!(retry_at(1, Time::NEVER, 0), None);
    }

    #[test]
    fn the_text_of_a_secret_is_parsed_to_the_same_secret() {
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
    fn a_webhook_that_fails_for_five_days_is_disabled() {
        let days = |count| Time::EPOCH + Span::days(count);
        let before = days(5).saturating_sub(Span::MILLISECOND);
        let failed = Attempt { response_status: 500, error: "no".into() };
        let gone = Attempt { response_status: 410, error: "gone".into() };
        assert_eq!(after_failure(&failed, None, days(1)), (WebhookState::Active, days(1)));
        assert_eq!(after_failure(&failed, Some(days(0)), before), (WebhookState::Active, days(0)));
        assert_eq!(after_failure(&failed, Some(days(0)), days(5)), (WebhookState::Failed, days(0)));
        assert_eq!(after_failure(&gone, None, days(1)), (WebhookState::Gone, days(1)));
    }
}
