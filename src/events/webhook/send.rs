//! Sending: one attempt, within bounds.

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
    webhook::{Attempt, Secret},
    window::Millis,
};

/// Longest attempt, from the look at the address to the end of the answer.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most of an answer's body that is read, so that the connection can be used again. It tells nothing.
const ANSWER_MAX_BYTES: usize = 16 * 1_024;

/// Longest text of an error that is kept.
const ERROR_MAX_CHARS: usize = 300;

/// What is sent.
#[derive(Debug)]
pub(super) struct Letter<'a> {
    /// Where to.
    pub(super) url: &'a str,
    /// The same in each attempt.
    pub(super) id: &'a str,
    /// When it is sent.
    pub(super) now: Millis,
    /// The JSON.
    pub(super) body: &'a str,
}

/// Sends to endpoints that the rules allow.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    /// Or why there is none.
    client: Result<Client, String>,
    rules: Rules,
}

impl Sender {
    pub(super) fn new(rules: Rules) -> Self {
        // An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("tope/", env!("CARGO_PKG_VERSION")))
            .timeout(ATTEMPT_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(std::sync::Arc::new(Resolver(rules)))
            .build()
            .map_err(|error| told(&error));
        if let Err(reason) = &client {
            tracing::error!(reason, "webhooks cannot be sent");
        }
        Self { client, rules }
    }

    /// Sends once. Whatever comes back is told, and nothing is an error.
    pub(super) async fn send(&self, letter: &Letter<'_>, secrets: impl Iterator<Item = &Secret>) -> Attempt {
        match self.try_to_send(letter, secrets).await {
            Ok(response) => judge(response).await,
            Err(error) => {
                Attempt { response_status: 0, error: error.chars().take(ERROR_MAX_CHARS).collect() }
            }
        }
    }

    async fn try_to_send(
        &self,
        letter: &Letter<'_>,
        secrets: impl Iterator<Item = &Secret>,
    ) -> Result<Response, String> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        // What was allowed when it was made may not be now.
        let url = parse_url(self.rules, letter.url).map_err(|fault| format!("the URL {fault}"))?;
        let seconds = letter.now.div_euclid(1_000);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", letter.id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signatures(secrets, letter.id, seconds, letter.body)),
        ] {
            headers.insert(name, HeaderValue::try_from(value).map_err(|error| error.to_string())?);
        }
        let request = client.post(url).headers(headers).body(letter.body.to_owned());
        request.send().await.map_err(|error| told(&error))
    }
}

/// 2xx is a success, whatever its body.
async fn judge(mut response: Response) -> Attempt {
    let status = response.status();
    let mut room = ANSWER_MAX_BYTES;
    // What goes wrong now concerns the connection only; one that sends more is given up.
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

/// What went wrong, without the URL.
fn told(error: &reqwest::Error) -> String {
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
