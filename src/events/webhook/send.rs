//! Sending: one attempt, within bounds of time and size.

use std::{error::Error, time::Duration};

use reqwest::{
    Client, Response,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect,
};

use super::{
    address::{Resolver, Rules, parse_url},
    sign::signatures,
};
use crate::domain::{
    time::Time,
    webhook::{Attempt, Secret},
};

/// Maximum duration of an attempt, from finding the address to the end of the answer.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of bytes that are read of an answer's body. The body is ignored; reading it makes the connection
/// usable for the next delivery.
const ANSWER_MAX_BYTES: usize = 16 * 1_024;

/// Maximum length of an error's text that is saved with a delivery.
const ERROR_MAX_CHARS: usize = 300;

/// What one attempt sends.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// The URL to which the message is posted.
    pub(super) url: &'a str,
    /// The `webhook-id`, which is the same at each attempt.
    pub(super) id: &'a str,
    /// The time of the attempt.
    pub(super) now: Time,
    /// The JSON of the event.
    pub(super) body: &'a str,
}

/// Sends only to endpoints that the rules allow.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    /// The client, or the reason why it could not be built.
    client: Result<Client, String>,
    rules: Rules,
}

impl Sender {
    pub(super) fn new(rules: Rules) -> Self {
        // Fails only if a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("tope/", env!("CARGO_PKG_VERSION")))
            .timeout(ATTEMPT_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(std::sync::Arc::new(Resolver(rules)))
            .build()
            .map_err(|error| text_of(&error));
        if let Err(reason) = &client {
            tracing::error!(reason, "the HTTP client for webhooks cannot be built; no webhook is sent");
        }
        Self { client, rules }
    }

    /// Makes one attempt. Every outcome, also a failure to connect, is reported in the `Attempt`.
    pub(super) async fn send(
        &self,
        message: &Message<'_>,
        secrets: impl Iterator<Item = &Secret>,
    ) -> Attempt {
        match self.try_to_send(message, secrets).await {
            Ok(response) => judge(response).await,
            Err(error) => {
                Attempt { response_status: 0, error: error.chars().take(ERROR_MAX_CHARS).collect() }
            }
        }
    }

    async fn try_to_send(
        &self,
        message: &Message<'_>,
        secrets: impl Iterator<Item = &Secret>,
    ) -> Result<Response, String> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        // The settings may have changed since the webhook was created.
        let url = parse_url(self.rules, message.url).map_err(|fault| format!("the URL {fault}"))?;
        let seconds = message.now.0.div_euclid(1_000);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", message.id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signatures(secrets, message.id, seconds, message.body)),
        ] {
            headers.insert(name, HeaderValue::try_from(value).map_err(|error| error.to_string())?);
        }
        let request = client.post(url).headers(headers).body(message.body.to_owned());
        request.send().await.map_err(|error| text_of(&error))
    }
}

/// Makes an `Attempt` of an answer: 2xx is a success, whatever the body.
async fn judge(mut response: Response) -> Attempt {
    let status = response.status();
    let mut room = ANSWER_MAX_BYTES;
    // An error here only affects the connection. A body that is too long is not read to its end.
    while let Ok(Some(chunk)) = response.chunk().await
        && chunk.len() <= room
    {
        room -= chunk.len();
    }
    let error = if status.is_success() {
        String::new()
    } else if status.is_redirection() {
        format!("the endpoint answered {}, and redirects are not followed", status.as_u16())
    } else {
        format!("the endpoint answered {}", status.as_u16())
    };
    Attempt { response_status: i16::try_from(status.as_u16()).unwrap_or(0), error }
}

/// Returns the text of an error, without the URL.
fn text_of(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} seconds", ATTEMPT_TIMEOUT.as_secs());
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let tried = if error.is_connect() { "cannot connect" } else { "cannot send" };
    format!("{tried}: {cause}")
}
