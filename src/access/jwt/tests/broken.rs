//! A million broken JWTs: none is accepted, none makes the verifier fail, and none is remembered.

use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use ring::hmac as mac;
use serde_json::json;

use super::{judged, provider::*, with};
use crate::{
    access::jwt::JWT_BYTES_MAX,
    domain::access::BadKey::{self, JwtClaim, JwtExpired, JwtMalformed, JwtUntrusted},
};

/// Number of broken JWTs, and the maximum time for them.
const BROKEN: u32 = 1_000_000;
const BROKEN_TIME: Duration = Duration::from_secs(20);

fn encoded(text: &str) -> String {
    BASE64URL_NOPAD.encode(text.as_bytes())
}

/// Signs with HMAC, as an attacker does who takes a public key for the secret.
fn hmac_signed(algorithm: &str, id: &str, secret: &[u8]) -> String {
    let header = json!({"alg": algorithm, "kid": id}).to_string();
    let signed = format!("{}.{}", encoded(&header), encoded(&claims().to_string()));
    let tag = mac::sign(&mac::Key::new(mac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

/// Returns JWTs of every broken kind, each with the error that it must have. Some of them are made of right ones.
fn kinds(provider: &Provider, right: &[String; 3]) -> Vec<(String, BadKey)> {
    let other = Provider::new();
    let mut kinds = Vec::new();
    for (place, right) in right.iter().enumerate() {
        let (key, foreign) = (&provider.keys()[place], &other.keys()[place]);
        kinds.extend(wrong_signatures(key, foreign, right));
        kinds.extend(wrong_headers(key));
        kinds.extend(wrong_texts(key, right));
        kinds.extend(wrong_claims(key));
        let (unsigned, _) = right.rsplit_once('.').expect("three parts");
        let theirs = other.keys()[1].sign(&claims());
        let (_, signature) = theirs.rsplit_once('.').expect("three parts");
        kinds.push((format!("{unsigned}.{signature}"), JwtUntrusted));
    }
    kinds
}

/// Returns the usual header of a key with other members.
fn head(key: &Signer, members: serde_json::Value) -> String {
    let mut header = json!({"alg": key.algorithm, "kid": key.id});
    for (name, value) in members.as_object().expect("an object").clone() {
        header[name] = value;
    }
    header.to_string()
}

/// Without a signature, with that of a public key as a secret, and with that of a key in the header.
fn wrong_signatures(key: &Signer, foreign: &Signer, right: &str) -> Vec<(String, BadKey)> {
    let mut kinds = Vec::new();
    let parts: Vec<&str> = right.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    kinds.push((format!("{header}.{payload}."), JwtUntrusted));
    for none in ["none", "None", "NONE", "", "nOnE"] {
        let unsigned = format!("{}.{payload}", encoded(&head(key, json!({"alg": none}))));
        kinds.push((format!("{unsigned}."), JwtMalformed));
        kinds.push((format!("{unsigned}.{signature}"), JwtMalformed));
    }
    let public = key.public();
    for secret in ["n", "x", "y"].iter().filter_map(|name| public[*name].as_str()) {
        let bytes = BASE64URL_NOPAD.decode(secret.as_bytes()).expect("base64url");
        for secret in [secret.as_bytes(), &bytes, public.to_string().as_bytes()] {
            kinds.push((hmac_signed("HS256", key.id, secret), JwtMalformed));
            kinds.push((hmac_signed(key.algorithm, key.id, secret), JwtUntrusted));
        }
    }
    // All providers of the tests have the same key for RS256.
    if key.algorithm != "RS256" {
        for members in [
            json!({"jwk": foreign.public()}),
            json!({"jku": "http://127.0.0.1:1/keys"}),
            json!({"x5u": "http://127.0.0.1:1/cert", "x5c": ["AAAA"]}),
        ] {
            kinds.push((foreign.sign_text(&head(key, members), &claims().to_string()), JwtUntrusted));
        }
    }
    kinds
}

fn wrong_headers(key: &Signer) -> Vec<(String, BadKey)> {
    let unknown = ["", "R", "../../dev/null", "' OR 1=1 --", "\u{0}"];
    let unknown = unknown.map(|id| (head(key, json!({ "kid": id })), JwtUntrusted));
    let malformed = [
        head(key, json!({"alg": "RS512"})),
        head(key, json!({"alg": ["RS256"]})),
        head(key, json!({"kid": 7})),
        head(key, json!({"crit": ["exp"]})),
        head(key, json!({"b64": false, "crit": ["b64"]})),
        head(key, json!({"typ": "logout+jwt"})),
        format!("{{\"alg\":\"{0}\",\"alg\":\"{0}\"}}", key.algorithm),
        "[".repeat(3_000),
        format!("{{\"alg\":{}}}", "[".repeat(3_000)),
        "{}".to_owned(),
        String::new(),
    ];
    let malformed = malformed.map(|header| (header, JwtMalformed));
    let headers = unknown.into_iter().chain(malformed);
    headers.map(|(header, error)| (key.sign_text(&header, &claims().to_string()), error)).collect()
}

fn wrong_texts(key: &Signer, right: &str) -> Vec<(String, BadKey)> {
    let deep = format!("{{\"iss\":{}1{}}}", "[".repeat(1_000), "]".repeat(1_000));
    let payloads = [deep.as_str(), "", "null", "[]", "\"a\"", "{\"exp\":1", "\u{feff}{}"];
    let payloads = payloads.map(|payload| key.sign_text(&head(key, json!({})), payload));
    let parts: Vec<&str> = right.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    let texts = [
        format!("{header}.{payload}"),
        format!("{right}."),
        format!("{right}.{signature}"),
        format!("{header}.{payload}.{}=", BASE64.encode(signature.as_bytes())),
        format!("{header}=.{payload}.{signature}"),
        format!(" {right}"),
        format!("{right}\n"),
        right.replace('.', ".."),
        "..".to_owned(),
        String::new(),
        "é".repeat(1_000),
        "a".repeat(1_000_000),
        format!("{right}{}", "A".repeat(JWT_BYTES_MAX)),
        key.sign(&with(json!({"padding": "a".repeat(1_000_000)}))),
    ];
    payloads.into_iter().chain(texts).map(|text| (text, JwtMalformed)).collect()
}

fn wrong_claims(key: &Signer) -> Vec<(String, BadKey)> {
    let wrong = [
        (json!({"iss": "https://evil.example"}), JwtClaim("the claim `iss`")),
        (json!({"aud": null}), JwtClaim("the claim `aud`")),
        (json!({"aud": ["a", ["tope"]]}), JwtClaim("the claim `aud`")),
        (json!({"exp": "never"}), JwtClaim("the claim `exp`")),
        (json!({"tope_tenants": []}), JwtClaim("the claim that jwt_tenants_claim names")),
        (json!({"exp": NOW.0 / 1_000 - 61}), JwtExpired),
    ];
    wrong.into_iter().map(|(changes, error)| (key.sign(&with(changes)), error)).collect()
}

#[test]
fn each_broken_kind_has_its_error_and_is_not_remembered() {
    let provider = Provider::new();
    let verifier = verifier(&provider.set());
    let right = provider.keys().each_ref().map(|key| key.sign(&claims()));
    for (text, error) in kinds(&provider, &right) {
        let shown: String = text.chars().take(200).collect();
        assert_eq!(judged(&verifier, &text).err(), Some(error), "{shown}");
        assert!(verifier.find(&text, NOW).is_none());
    }
    assert_eq!(verifier.remembered(), 0);
}

/// A change of a JWT: at a place, bytes are replaced, removed, doubled or swapped with those of another JWT.
#[derive(Clone, Debug)]
enum Change {
    Replace(prop::sample::Index, char),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index),
    Double(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Part(usize, usize),
    Decoded(usize, prop::sample::Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        (place(), any::<char>()).prop_map(|(place, to)| Change::Replace(place, to)),
        place().prop_map(Change::Cut),
        place().prop_map(Change::Remove),
        place().prop_map(Change::Double),
        (place(), 0..7u8).prop_map(|(place, bit)| Change::Flip(place, bit)),
        (0..3usize, 0..1_000usize).prop_map(|(part, kind)| Change::Part(part, kind)),
        (0..3usize, place(), any::<u8>()).prop_map(|(part, place, to)| Change::Decoded(part, place, to)),
    ]
}

/// Applies a change to a text of ASCII.
fn apply(change: &Change, text: &str, kinds: &[(String, BadKey)]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    match change {
        _ if bytes.is_empty() => {}
        Change::Replace(place, to) => {
            let place = place.index(bytes.len());
            bytes.splice(place..=place, to.to_string().into_bytes());
        }
        Change::Cut(place) => bytes.truncate(place.index(bytes.len())),
        Change::Remove(place) => drop(bytes.remove(place.index(bytes.len()))),
        Change::Double(place) => {
            let place = place.index(bytes.len());
            bytes.insert(place, bytes[place]);
        }
        Change::Flip(place, bit) => {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        Change::Part(part, kind) => {
            let mut parts: Vec<&str> = text.split('.').collect();
            let other = &kinds[kind % kinds.len()].0;
            if let (Some(mine), Some(other)) = (parts.get_mut(*part), other.split('.').nth(*part)) {
                *mine = other;
            }
            return parts.join(".");
        }
        Change::Decoded(part, place, to) => {
            let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
            let decoded = parts.get(*part).and_then(|part| BASE64URL_NOPAD.decode(part.as_bytes()).ok());
            if let Some(mut decoded) = decoded.filter(|decoded| !decoded.is_empty()) {
                let place = place.index(decoded.len());
                decoded[place] = *to;
                parts[*part] = BASE64URL_NOPAD.encode(&decoded);
            }
            return parts.join(".");
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// R7.8: whatever is changed in a JWT, it is refused, nothing is remembered, and the verifier goes on.
#[test]
fn a_million_broken_jwts_are_refused_and_none_is_remembered() {
    let provider = Provider::new();
    let verifier = verifier(&provider.set());
    let right = provider.keys().each_ref().map(|key| key.sign(&claims()));
    let kinds = kinds(&provider, &right);
    let short: Vec<(String, BadKey)> =
        kinds.iter().filter(|(text, _)| text.len() <= JWT_BYTES_MAX && text.is_ascii()).cloned().collect();
    let mut runner = TestRunner::new(Config::default());
    let changes = prop::collection::vec(change(), 1..4);
    let began = Instant::now();
    let mut refused = 0;
    while refused < BROKEN && began.elapsed() < BROKEN_TIME {
        // One draw serves for several texts, since drawing costs more than judging.
        let drawn = changes.new_tree(&mut runner).expect("changes").current();
        let broken =
            right.iter().chain(short.iter().map(|(text, _)| text).skip(refused as usize % 40).step_by(40));
        for original in broken {
            let text = drawn.iter().fold(original.clone(), |text, change| apply(change, &text, &short));
            if right.contains(&text) {
                continue;
            }
            let judged = judged(&verifier, &text);
            assert!(judged.is_err(), "{drawn:?} makes of {original} the valid JWT {text}: {judged:?}");
            refused += 1;
        }
    }
    println!("{refused} broken JWTs in {:?}", began.elapsed());
    assert!(refused >= 10_000, "the machine is too slow for the test: {refused}");
    assert_eq!(verifier.remembered(), 0);
    for text in &right {
        super::judged(&verifier, text).expect("the verifier goes on");
    }
}
