//! Signatures as Standard Webhooks define them
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::webhook::Secret;

/// Returns the value of the header `webhook-signature`: one signature per secret, separated by blanks.
pub(super) fn signatures<'a>(
    secrets: impl Iterator<Item = &'a Secret>,
    id: &str,
    seconds: i64,
    body: &str,
) -> String {
    secrets.map(|secret| signature(secret, id, seconds, body)).collect::<Vec<_>>().join(" ")
}

fn signature(secret: &Secret, id: &str, seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_equal_those_of_another_implementation() {
        let secrets = [Secret::from_bytes(vec![7; 32]), Secret::from_bytes(vec![9; 24])];
        let signed = signatures(secrets.iter(), "evt_1", 1_700_000_000, "{\"a\":\"ü\"}");
        let oracle = secrets.map(|secret| {
            let oracle = standardwebhooks::Webhook::new(&secret.text()).expect("a secret");
            oracle.sign("evt_1", 1_700_000_000, "{\"a\":\"ü\"}".as_bytes()).expect("it signs")
        });
        assert_eq!(signed, oracle.join(" "));
    }
}
