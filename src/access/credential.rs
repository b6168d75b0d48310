//! What a call shows to prove who calls.

use super::KeyText;
use crate::domain::access::BadKey;

/// Maximum number of names of a certificate that are considered.
const NAMES_MAX: usize = 100;

/// The scheme before the text of a key or a JWT. It is compared without regard to case.
const SCHEME: &[u8] = b"bearer ";

/// The names in the certificate of a client, of a connection with TLS. They were found when the connection began.
#[derive(Clone, Debug, Default)]
pub struct PeerNames(Vec<String>);

impl PeerNames {
    /// Collects the names of a certificate, at most 100 of them.
    pub fn of(names: impl Iterator<Item = String>) -> Self {
        Self(names.take(NAMES_MAX).collect())
    }

    /// Returns the names of the certificate.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// What a call shows.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// The text of a key.
    Key(KeyText<'a>),
    /// A text that may be a JWT. It must never be printed.
    Jwt(&'a str),
    /// Nothing, but the certificate of the connection has names.
    Certificate(&'a PeerNames),
}

impl<'a> Credential<'a> {
    /// Reads the values of the metadata, or of the HTTP header, `authorization`. A text that begins like a key is a
    /// key. Without a value, the names in the certificate of the client count.
    ///
    /// # Errors
    ///
    /// There is neither a value nor a name, or the value is not that of one key or JWT.
    pub fn read(
        mut values: impl Iterator<Item = &'a [u8]>,
        peer: Option<&'a PeerNames>,
    ) -> Result<Self, BadKey> {
        let Some(value) = values.next() else {
            let peer = peer.filter(|peer| peer.iter().next().is_some());
            return peer.map(Credential::Certificate).ok_or(BadKey::Missing);
        };
        if values.next().is_some() {
            return Err(BadKey::Malformed);
        }
        let (scheme, text) = value.split_at_checked(SCHEME.len()).ok_or(BadKey::Malformed)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(BadKey::Malformed);
        }
        let text = std::str::from_utf8(text).map_err(|_| BadKey::Malformed)?;
        if KeyText::begins(text) {
            return KeyText::parse(text).map(Credential::Key).ok_or(BadKey::Malformed);
        }
        Ok(Credential::Jwt(text))
    }
}
