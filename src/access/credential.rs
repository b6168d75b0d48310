//! What a call shows to prove who calls.

use super::KeyText;
use crate::domain::access::BadKey;

/// The scheme before the text of a key or a JWT. It is compared without regard to case.
const SCHEME: &[u8] = b"bearer ";

/// What a call shows.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// The text of a key.
    Key(KeyText<'a>),
    /// A text that may be a JWT. It must never be printed.
    Jwt(&'a str),
}

impl<'a> Credential<'a> {
    /// Reads the values of the metadata, or of the HTTP header, `authorization`. A text that begins like a key is a key.
    ///
    /// # Errors
    ///
    /// There is no value, or not the value of one key or JWT.
    pub fn read(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Self, BadKey> {
        let value = values.next().ok_or(BadKey::Missing)?;
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
