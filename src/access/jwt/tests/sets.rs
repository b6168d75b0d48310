//! Sets of keys that are right, of no use, or garbage.

use serde_json::{Value, json};

use super::{judged, provider::*, with};
use crate::{
    access::jwt::{Algorithm, KeySet, Unverified},
    domain::access::BadKey,
};

fn parsed(set: &Value) -> Result<usize, String> {
    KeySet::parse(set.to_string().as_bytes()).map(|set| set.len())
}

/// Returns a key with some members replaced. Null removes a member.
fn changed(key: &Value, changes: Value) -> Value {
    let mut key = key.clone();
    let members = key.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object").clone() {
        match value {
            Value::Null => drop(members.remove(&name)),
            value => drop(members.insert(name, value)),
        }
    }
    key
}

#[test]
fn a_set_without_a_usable_key_is_refused_with_the_reason() {
    let key = Provider::new().keys()[1].public();
    let no_json: [&[u8]; 7] =
        [b"", b"{", b"<html>404</html>", b"{\"keys\": 1}", b"[]", &[0xff; 64], &[b'['; 100_000]];
    for text in no_json {
        let fault = KeySet::parse(text).expect_err("no set");
        assert!(fault.starts_with("is not a JWK Set"), "{fault}");
    }
    let cases = [
        (json!({"keys": []}), "has no public key for"),
        (json!({"keys": vec![key.clone(); 101]}), "has 101 keys, more than 100"),
        (json!({"keys": [key, key]}), "has two keys with the same `kid`"),
    ];
    for (set, said) in cases {
        let fault = parsed(&set).expect_err("no set");
        assert!(fault.starts_with(said), "{fault}");
    }
}

#[test]
fn a_key_that_is_of_no_use_is_left_out() {
    let provider = Provider::new();
    let [rsa, ec, ed] = provider.keys().each_ref().map(|key| key.public());
    let modulus = rsa["n"].as_str().expect("a text").to_owned();
    let of_no_use = [
        changed(&rsa, json!({"alg": "RS512"})),
        changed(&rsa, json!({"alg": "PS256"})),
        changed(&rsa, json!({"alg": "HS256"})),
        changed(&rsa, json!({"alg": "none"})),
        changed(&rsa, json!({"alg": "ES256"})),
        changed(&rsa, json!({"use": "enc"})),
        changed(&rsa, json!({"key_ops": ["encrypt"]})),
        changed(&rsa, json!({"e": null})),
        changed(&rsa, json!({"n": &modulus[..170]})),
        changed(&rsa, json!({"n": modulus.repeat(5)})),
        changed(&rsa, json!({"n": format!("{modulus}=")})),
        changed(&rsa, json!({"kid": 7})),
        changed(&rsa, json!({"kty": null})),
        changed(&ec, json!({"crv": "P-384"})),
        changed(&ec, json!({"crv": "secp256k1"})),
        changed(&ec, json!({"x": "AAAA"})),
        changed(&ec, json!({"y": null})),
        changed(&ed, json!({"crv": "X25519"})),
        changed(&ed, json!({"x": ""})),
        json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
        json!(7),
        json!(null),
    ];
    for key in &of_no_use {
        assert!(parsed(&json!({"keys": [key]})).is_err(), "{key}");
        assert_eq!(parsed(&json!({"keys": [key, ed]})).expect("one key"), 1, "{key}");
    }
    let of_use = [
        changed(&rsa, json!({"alg": "RS256", "use": "sig", "key_ops": ["verify"], "x5c": ["AAAA"]})),
        changed(&ec, json!({"alg": "ES256", "kid": null})),
        changed(&ed, json!({"alg": "EdDSA"})),
    ];
    assert_eq!(parsed(&json!({ "keys": of_use })).expect("three keys"), 3);
}

#[test]
fn a_jwt_without_a_kid_needs_a_set_with_one_key_for_its_algorithm() {
    let (provider, other) = (Provider::new(), Provider::new());
    let key = &provider.keys()[1];
    let text = key.sign_text(r#"{"alg":"ES256"}"#, &claims().to_string());
    judged(&verifier(&provider.set()), &text).expect("the set has one key for ES256");
    let second = changed(&other.keys()[1].public(), json!({"kid": "e2"}));
    let two = json!({"keys": [key.public(), second]});
    assert_eq!(judged(&verifier(&two), &text).err(), Some(BadKey::JwtUntrusted));
    let set = KeySet::parse(two.to_string().as_bytes()).expect("two keys");
    assert_eq!(set.verify(None, Algorithm::Es256, b"", b""), Err(Unverified::Ambiguous));
    assert_eq!(set.verify(Some("x"), Algorithm::Es256, b"", b""), Err(Unverified::NoKey));
    // A key without an id is not the key of a JWT that names one.
    let nameless = json!({"keys": [changed(&key.public(), json!({"kid": null}))]});
    judged(&verifier(&nameless), &text).expect("the set has one key for ES256");
    assert_eq!(judged(&verifier(&nameless), &key.sign(&with(json!({})))).err(), Some(BadKey::JwtUntrusted));
}
