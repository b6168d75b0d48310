//! Verifies the JWTs of an identity provider (RFC 7519), which callers may show instead of a key.
//!
//! `source.rs` reads the keys of the provider from a file or a URL. `set.rs` parses the keys and verifies signatures.
//! `claims.rs` finds out what the subject of a JWT may do. `verified.rs` remembers JWTs, so that most calls verify no
//! signature.

mod claims;
mod set;
mod source;
#[cfg(test)]
mod tests;
mod verified;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use self::{claims::JwtRules, source::JwksSource};
use self::{
    set::{Algorithm, KeySet, Unverified},
    source::Reader,
};
use crate::{
    domain::{
        access::{BadKey, Jwt},
        time::Time,
    },
    metrics::Metrics,
    seldom::Seldom,
};

/// Maximum length of a JWT. A longer text is refused before it is parsed.
pub const JWT_BYTES_MAX: usize = 8 * 1_024;

/// Minimum time between two reads that callers cause by JWTs with unknown keys.
const READ_PAUSE: Duration = Duration::from_secs(10);

/// The pause between two looks at whether a read is due.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The types that the header of a JWT may name (`typ`), in small letters and without `application/`.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Verifies JWTs with the keys of one identity provider.
#[derive(Debug)]
pub struct JwtVerifier {
    rules: JwtRules,
    reader: Reader,
    metrics: Arc<Metrics>,
    /// `None`: the keys were not read yet.
    current: RwLock<Option<Arc<KeySet>>>,
    /// The last read. The lock is held while keys are read, so calls that wait share one read.
    last: Mutex<Option<LastRead>>,
}

/// When the last read began, and whether it has succeeded.
#[derive(Clone, Copy, Debug)]
struct LastRead {
    at: Instant,
    succeeded: bool,
}

/// Why a server with JWTs cannot start.
#[derive(Debug, thiserror::Error)]
#[error("jwt_jwks names {0}")]
pub struct JwksError(String);

impl JwtVerifier {
    /// Reads the keys for the first time. If they come from a URL that does not answer, logs a warning; the keys are
    /// then read later.
    ///
    /// # Errors
    ///
    /// When the keys come from a file that cannot be used.
    pub async fn start(
        rules: JwtRules,
        source: JwksSource,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, JwksError> {
        let is_file = matches!(source, JwksSource::File(_));
        let reader = Reader::new(source).map_err(JwksError)?;
        let (current, last) = (RwLock::default(), Mutex::default());
        let verifier = Arc::new(Self { rules, reader, metrics, current, last });
        match verifier.read(&mut *verifier.last.lock().await).await {
            Err(fault) if is_file => return Err(JwksError(fault)),
            Err(_) | Ok(()) => {}
        }
        Ok(verifier)
    }

    /// Finds a JWT that was verified before. `None`: it must be verified, see [`JwtVerifier::verify`].
    pub(super) fn find(&self, text: &str, now: Time) -> Option<Arc<Jwt>> {
        self.current()?.verified.find(&print(text), now)
    }

    /// Verifies a JWT. If no key fits it, reads the keys again, unless this happened a short time ago.
    ///
    /// # Errors
    ///
    /// Why the JWT is not valid, or that the keys of the provider are not known.
    pub(super) async fn verify(self: &Arc<Self>, text: &str, now: Time) -> Result<Arc<Jwt>, BadKey> {
        let parts = Parts::parse(text)?;
        match self.verify_now(text, &parts, now) {
            Err(BadKey::JwksMissing) | Ok(Err(Unverified::NoKey)) => {
                self.read_unless_just_read().await;
                self.verify_now(text, &parts, now)?.map_err(|_| BadKey::JwtUntrusted)
            }
            judged => judged?.map_err(|_| BadKey::JwtUntrusted),
        }
    }

    /// Verifies a JWT with the keys that are known. `Ok(Err)`: no key has verified it.
    fn verify_now(
        &self,
        text: &str,
        parts: &Parts<'_>,
        now: Time,
    ) -> Result<Result<Arc<Jwt>, Unverified>, BadKey> {
        let set = self.current().ok_or(BadKey::JwksMissing)?;
        let verified =
            set.verify(parts.key.as_deref(), parts.algorithm, parts.signed.as_bytes(), &parts.signature);
        if let Err(unverified) = verified {
            return Ok(Err(unverified));
        }
        let payload = BASE64URL_NOPAD.decode(parts.payload.as_bytes()).map_err(|_| BadKey::JwtMalformed)?;
        let jwt = Arc::new(self.rules.judge(&payload, now)?);
        set.verified.insert(print(text), Arc::clone(&jwt));
        Ok(Ok(jwt))
    }

    /// Reads the keys again and again, until `stop` is cancelled. A set of keys that cannot be used leaves the keys of
    /// before in use.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = interval(LOOK_PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let mut last = self.last.lock().await;
            let pause =
                if last.is_some_and(|last| last.succeeded) { self.reader.pause() } else { READ_PAUSE };
            if last.is_none_or(|last| last.at.elapsed() >= pause) {
                // Only the log and the metrics report what is wrong.
                let _ = stop.run_until_cancelled(self.read(&mut last)).await;
            }
        }
    }

    async fn read_unless_just_read(self: &Arc<Self>) {
        let is_due = |last: &Option<LastRead>| last.is_none_or(|last| last.at.elapsed() >= READ_PAUSE);
        if !is_due(&*self.last.lock().await) {
            return;
        }
        let verifier = Arc::clone(self);
        // In a task of its own, because the deadline of the call must not end a read on which all callers wait.
        let read = tokio::spawn(async move {
            let mut last = verifier.last.lock().await;
            if is_due(&last) {
                let _ = verifier.read(&mut last).await;
            }
        });
        let _ = read.await;
    }

    /// Reads the keys from their file or URL, and uses them.
    ///
    /// # Errors
    ///
    /// What is wrong with the source of the keys. It was logged.
    async fn read(&self, last: &mut Option<LastRead>) -> Result<(), String> {
        let at = Instant::now();
        let read = self.reader.read().await;
        let taken = read.and_then(|text| self.take(&text));
        *last = Some(LastRead { at, succeeded: taken.is_ok() });
        self.metrics.jwks.record(taken.is_ok(), self.current().map_or(0, |set| set.len()));
        if let Err(fault) = &taken {
            static FAILED: Seldom<()> = Seldom::new();
            if let Some(left_out) = FAILED.due(()) {
                tracing::warn!(
                    fault = format!("jwt_jwks names {fault}"),
                    log.left_out = left_out,
                    "the keys of the identity provider cannot be read; the keys of before stay in use, if there are any"
                );
            }
        }
        taken
    }

    /// Uses the keys of a text, unless they are in use already.
    fn take(&self, text: &[u8]) -> Result<(), String> {
        if self.current().is_some_and(|set| set.is_of(text)) {
            return Ok(());
        }
        let set = KeySet::parse(text).map_err(|fault| format!("{}, which {fault}", self.reader.source()))?;
        tracing::info!(jwks.keys = set.len(), "new calls use the new keys of the identity provider");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(set));
        Ok(())
    }

    /// Verifies a JWT with the keys that are known, and reads no keys.
    #[cfg(test)]
    fn judge_now(&self, text: &str, now: Time) -> Result<Arc<Jwt>, BadKey> {
        self.verify_now(text, &Parts::parse(text)?, now)?.map_err(|_| BadKey::JwtUntrusted)
    }

    /// Returns the number of JWTs that are remembered.
    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.current().map_or(0, |set| set.verified.len())
    }

    fn current(&self) -> Option<Arc<KeySet>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn print(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The parts of a JWT, as far as they are needed to verify its signature (RFC 7515).
struct Parts<'a> {
    algorithm: Algorithm,
    /// The id of the key that has signed the JWT.
    key: Option<String>,
    /// The text that was signed.
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// The members of a header that matter here. Others are ignored, also those that contain or name a key (`jwk`, `jku`,
/// `x5c`, `x5u`): only keys of the provider count.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that the receiver must know. This one knows none.
    crit: Option<Value>,
}

impl<'a> Parts<'a> {
    fn parse(text: &'a str) -> Result<Self, BadKey> {
        if text.len() > JWT_BYTES_MAX {
            return Err(BadKey::JwtMalformed);
        }
        Self::parse_bounded(text).ok_or(BadKey::JwtMalformed)
    }

    fn parse_bounded(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.').filter(|(_, payload)| !payload.contains('.'))?;
        let header = BASE64URL_NOPAD.decode(header.as_bytes()).ok()?;
        let header: Header = serde_json::from_slice(&header).ok()?;
        let is_jwt = header.typ.is_none_or(|typ| {
            let typ = typ.to_ascii_lowercase();
            TYPES.contains(&typ.strip_prefix("application/").unwrap_or(&typ))
        });
        if !is_jwt || header.crit.is_some() {
            return None;
        }
        let algorithm = Algorithm::of_name(&header.alg)?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
        Some(Self { algorithm, key: header.kid, signed, payload, signature })
    }
}
