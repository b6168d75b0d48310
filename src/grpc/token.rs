//! Page tokens. Clients must not interpret a token, and a token is valid only for the list that it came from.

use data_encoding::BASE64URL_NOPAD;

use crate::domain::{
    bounds::{PAGE_DEFAULT, PAGE_MAX},
    faults::Faults,
    operation::Fingerprinter,
};

/// The fingerprint of a list, made from the rpc and the filters of the list.
pub(super) struct Token(Fingerprinter);

impl Token {
    /// Begins the fingerprint of a list of the rpc `method`, without filters.
    pub(super) fn new(method: &str) -> Self {
        Self(Fingerprinter::new(method))
    }

    /// Adds a filter that every request of the list has.
    pub(super) fn text(self, text: &str) -> Self {
        Self(self.0.text(text))
    }

    /// Adds a filter that may be absent.
    pub(super) fn optional(self, text: Option<&str>) -> Self {
        Self(self.0.optional(text))
    }

    /// Adds a filter with several values. If the values have another order, the list is another list.
    pub(super) fn texts(self, texts: &[String]) -> Self {
        let counted = self.0.number(i64::try_from(texts.len()).unwrap_or(i64::MAX));
        Self(texts.iter().fold(counted, |print, text| print.text(text)))
    }

    fn mark(&self) -> [u8; 8] {
        let mut mark = [0; 8];
        mark.copy_from_slice(&self.0.fingerprint()[..8]);
        mark
    }
}

/// Encodes a place in a list as a page token.
pub(super) fn encode(list: &Token, place: &[u8]) -> String {
    BASE64URL_NOPAD.encode(&[&list.mark(), place].concat())
}

/// Decodes a page token to a place. `None` if there is no token, or if the token is invalid.
pub(super) fn decode<T>(
    faults: &mut Faults,
    list: &Token,
    token: &str,
    place: impl FnOnce(&[u8]) -> Option<T>,
) -> Option<T> {
    if token.is_empty() {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok();
    let found = bytes.as_deref().and_then(|bytes| bytes.strip_prefix(&list.mark()[..])).and_then(place);
    if found.is_none() {
        faults.add("page_token", "must be a next_page_token of this list, with the same filters");
    }
    found
}

/// Returns the maximum number of entries on the page: 1 to [`PAGE_MAX`].
pub(super) fn page_size(faults: &mut Faults, asked: i32) -> usize {
    match usize::try_from(asked) {
        Ok(0) => PAGE_DEFAULT,
        Ok(size) if size <= PAGE_MAX => size,
        Ok(_) | Err(_) => {
            faults.add("page_size", format_args!("must be 0 to {PAGE_MAX}"));
            PAGE_DEFAULT
        }
    }
}
