//! The text of a key: `tope_<id>_<secret>`, of letters and digits.

use sha2::{Digest, Sha256};

use crate::clock::random_bytes;

const PREFIX: &str = "tope_";

/// Length of an id.
const ID_LETTERS: usize = 12;

/// Length of a secret. 43 letters of 62 kinds have as many values as 32 bytes.
const SECRET_LETTERS: usize = 43;

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The parts of the text of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyText<'a> {
    /// The id of the key.
    pub id: &'a str,
    /// The secret, which must never be printed.
    pub secret: &'a str,
}

impl<'a> KeyText<'a> {
    /// Returns whether a text begins like that of a key, which no JWT does.
    pub(super) fn begins(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Parses the text of a key. `None`: no key has this text.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let fits = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        (fits(id, ID_LETTERS) && fits(secret, SECRET_LETTERS)).then_some(Self { id, secret })
    }
}

/// A key that was just made.
pub struct NewText {
    /// The id of the key.
    pub id: String,
    /// The SHA-256 of the secret.
    pub hash: [u8; 32],
    /// The text of the key, which is shown once.
    pub text: String,
}

/// Makes a key with a random id and a random secret.
pub fn new_key() -> NewText {
    let (id, secret) = (letters(ID_LETTERS), letters(SECRET_LETTERS));
    let hash = Sha256::digest(&secret).into();
    let text = format!("{PREFIX}{id}_{secret}");
    NewText { id, hash, text }
}

/// Returns random letters, each with the same probability.
fn letters(count: usize) -> String {
    let mut text = String::with_capacity(count);
    while text.len() < count {
        // 62 does not divide 256, so larger bytes would prefer some letters.
        let bytes = random_bytes::<64>().into_iter().filter(|&byte| byte < 248);
        text.extend(bytes.map(|byte| char::from(LETTERS[usize::from(byte) % 62])).take(count - text.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_parsed_and_two_keys_differ() {
        let (one, other) = (new_key(), new_key());
        let parsed = KeyText::parse(&one.text).expect("the text of a key");
        assert_eq!(parsed.id, one.id);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(parsed.secret)), one.hash);
        assert_ne!(one.id, other.id);
        assert_ne!(one.text, other.text);
    }

    #[test]
    fn a_text_that_is_cut_short_or_changed_is_not_the_text_of_a_key() {
        let text = new_key().text;
        let long = format!("{text}a");
        for wrong in
            ["", "tope_", "tope__", &text[1..], &text[..text.len() - 1], &long, &text.replace("tope", "TOPE")]
        {
            assert!(KeyText::parse(wrong).is_none(), "{wrong:?}");
        }
        for letter in ["é", " ", "\0", "-"] {
            let wrong = format!("{}{letter}", &text[..text.len() - letter.len()]);
            assert!(KeyText::parse(&wrong).is_none(), "{wrong:?}");
        }
    }
}
