//! What the tests of JWTs need: the provider, right claims, and verifiers.

use serde_json::{Value, json};

pub(super) use self::keys::{Provider, Signer};
use super::super::*;

#[expect(unreachable_pub, reason = "it is also a module of tests/it")]
#[path = "../../../../tests/it/harness/provider.rs"]
mod keys;

/// The time of the tests.
pub(super) const NOW: Time = Time(1_773_662_400_000);

/// Returns the claims of a right JWT.
pub(super) fn claims() -> Value {
    json!({
        "iss": "https://idp.example",
        "aud": "tope",
        "sub": "backend",
        "exp": NOW.0 / 1_000 + 300,
        "tope_role": "spender",
        "tope_tenants": ["acme"],
    })
}

/// Returns rules with the names of claims that are the defaults of the settings.
pub(super) fn rules() -> JwtRules {
    JwtRules {
        issuer: "https://idp.example".to_owned(),
        audience: "tope".to_owned(),
        role_claim: "tope_role".to_owned(),
        tenants_claim: "tope_tenants".to_owned(),
        agents_claim: "tope_agents".to_owned(),
    }
}

/// Makes a verifier with the keys of a set.
pub(super) fn verifier(set: &Value) -> JwtVerifier {
    verifier_with(rules(), set)
}

/// Makes a verifier with these rules.
pub(super) fn verifier_with(rules: JwtRules, set: &Value) -> JwtVerifier {
    let reader = Reader::new(JwksSource::File("keys.json".into())).expect("a reader");
    let (current, last) = (RwLock::default(), Mutex::default());
    let verifier = JwtVerifier { rules, reader, metrics: Arc::default(), current, last };
    verifier.take(set.to_string().as_bytes()).expect("a set of keys");
    verifier
}
