//! Tests of JWTs: the examples of the standards, and tokens and sets of keys that are broken in every way.

mod broken;
mod provider;
mod sets;

use std::sync::Arc;

use serde_json::{Value, json};

use self::provider::{NOW, Provider, claims, verifier};
use super::*;
use crate::domain::access::Role;

/// Verifies a JWT at [`NOW`].
fn judged(verifier: &JwtVerifier, text: &str) -> Result<Arc<Jwt>, BadKey> {
    verifier.judge_now(text, NOW)
}

/// Returns the claims of a right JWT, with some claims replaced. Null removes a claim.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object").clone() {
        match value {
            Value::Null => drop(members.remove(&name)),
            value => drop(members.insert(name, value)),
        }
    }
    claims
}

#[test]
fn each_algorithm_verifies_the_example_of_its_standard() {
    // RFC 7515, appendix A.2 and A.3, and RFC 8037, appendix A.4.
    let modulus = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT\
                   -SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQ\
                   OS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj\
                   8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let set = json!({"keys": [
        {"kty": "RSA", "n": modulus, "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ]});
    let set = KeySet::parse(set.to_string().as_bytes()).expect("three keys");
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let examples = [
        (
            Algorithm::Rs256,
            format!("eyJhbGciOiJSUzI1NiJ9.{payload}"),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9\
             CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn\
             6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB\
             p0igcN_IoypGlUPQGe77Rw",
        ),
        (
            Algorithm::Es256,
            format!("eyJhbGciOiJFUzI1NiJ9.{payload}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            Algorithm::EdDsa,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ];
    for (algorithm, signed, signature) in examples {
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64url");
        assert_eq!(set.verify(None, algorithm, signed.as_bytes(), &signature), Ok(()), "{algorithm:?}");
        let forged = format!("{signed}a");
        assert_eq!(
            set.verify(None, algorithm, forged.as_bytes(), &signature),
            Err(Unverified::Forged),
            "{algorithm:?}"
        );
    }
}

#[test]
fn a_right_jwt_of_each_algorithm_is_verified_and_remembered() {
    let provider = Provider::new();
    let verifier = verifier(&provider.set());
    for key in provider.keys() {
        let text = key.sign(&claims());
        assert!(verifier.find(&text, NOW).is_none());
        let jwt = judged(&verifier, &text).expect("it is right");
        assert_eq!((jwt.subject.as_str(), jwt.role), ("backend", Role::Spender));
        assert_eq!(jwt.tenants.iter().collect::<Vec<_>>(), ["acme"]);
        assert_eq!(verifier.find(&text, NOW), Some(Arc::clone(&jwt)));
        assert_eq!(verifier.find(&text, jwt.expires_at), None, "it has expired");
        // The signature of a JWT is not part of what is remembered as right.
        let (signed, _) = text.rsplit_once('.').expect("three parts");
        assert_eq!(verifier.find(&format!("{signed}."), NOW), None);
    }
    // Other keys of the same provider: what the old keys have signed counts no longer.
    let text = provider.keys()[1].sign(&claims());
    judged(&verifier, &text).expect("it is right");
    verifier.take(Provider::new().set().to_string().as_bytes()).expect("a set");
    assert_eq!(verifier.find(&text, NOW), None);
    assert_eq!(judged(&verifier, &text).err(), Some(BadKey::JwtUntrusted));
}

/// What is changed in a right JWT, and the role, the tenants and the agents, or the fault.
type Case = (Value, Result<(Role, &'static str, &'static str), &'static str>);

fn cases() -> Vec<Case> {
    let many: Vec<String> = (0..101).map(|number| format!("t{number}")).collect();
    let second = NOW.0 / 1_000;
    let role = Err("the claim that jwt_role_claim names");
    let tenants = Err("the claim that jwt_tenants_claim names");
    let agents = Err("the claim that jwt_agents_claim names");
    vec![
        (json!({}), Ok((Role::Spender, "acme", ""))),
        (json!({"aud": ["other", "tope"]}), Ok((Role::Spender, "acme", ""))),
        (json!({"exp": second as f64 + 0.5}), Ok((Role::Spender, "acme", ""))),
        (json!({"nbf": second + 59}), Ok((Role::Spender, "acme", ""))),
        (json!({"exp": second - 59}), Ok((Role::Spender, "acme", ""))),
        (json!({"tope_role": "Admin", "tope_tenants": "*"}), Ok((Role::Admin, "", ""))),
        (json!({"tope_role": ["VIEWER"], "tope_tenants": ["*"]}), Ok((Role::Viewer, "", ""))),
        (json!({"tope_role": ["offline_access", "operator"]}), Ok((Role::Operator, "acme", ""))),
        (
            json!({"tope_tenants": ["b", "a", "b"], "tope_agents": "planner"}),
            Ok((Role::Spender, "a,b", "planner")),
        ),
        (json!({"tope_agents": ["*"], "tope_role": "viewer"}), Ok((Role::Viewer, "acme", ""))),
        (json!({"iss": null}), Err("the claim `iss`")),
        (json!({"iss": "https://evil.example"}), Err("the claim `iss`")),
        (json!({"iss": ["https://idp.example"]}), Err("the claim `iss`")),
        (json!({"aud": null}), Err("the claim `aud`")),
        (json!({"aud": []}), Err("the claim `aud`")),
        (json!({"aud": ["other"]}), Err("the claim `aud`")),
        (json!({"aud": ["tope", 1]}), Err("the claim `aud`")),
        (json!({"aud": {"tope": "tope"}}), Err("the claim `aud`")),
        (json!({"aud": "tope.example"}), Err("the claim `aud`")),
        (json!({"exp": null}), Err("the claim `exp`")),
        (json!({"exp": "9999999999"}), Err("the claim `exp`")),
        (json!({"exp": -1}), Err("the claim `exp`")),
        (json!({"exp": 1e300}), Err("the claim `exp`")),
        (json!({"exp": 253_402_300_800_u64}), Err("the claim `exp`")),
        (json!({"nbf": "1"}), Err("the claim `nbf`")),
        (json!({"nbf": second + 61}), Err("expired")),
        (json!({"exp": second - 60}), Err("expired")),
        (json!({"sub": null}), Err("the claim `sub`")),
        (json!({"sub": ""}), Err("the claim `sub`")),
        (json!({"sub": 7}), Err("the claim `sub`")),
        (json!({"sub": "a\nb"}), Err("the claim `sub`")),
        (json!({"sub": "a".repeat(257)}), Err("the claim `sub`")),
        (json!({"tope_role": null}), role),
        (json!({"tope_role": "owner"}), role),
        (json!({"tope_role": ["viewer", "admin"]}), role),
        (json!({"tope_role": {"viewer": true}}), role),
        (json!({"tope_role": "spender "}), role),
        (json!({"tope_tenants": null}), tenants),
        (json!({"tope_tenants": []}), tenants),
        (json!({"tope_tenants": ""}), tenants),
        (json!({"tope_tenants": ["a", "*"]}), tenants),
        (json!({"tope_tenants": ["a", 1]}), tenants),
        (json!({"tope_tenants": many}), tenants),
        (json!({"tope_agents": []}), agents),
        (json!({"tope_agents": "a", "tope_role": "viewer"}), agents),
        (json!({"tope_agents": 1}), agents),
    ]
}

#[test]
fn the_claims_decide_what_the_subject_may_do() {
    let provider = Provider::new();
    let verifier = verifier(&provider.set());
    for (changes, expected) in cases() {
        let text = provider.keys()[1].sign(&with(changes.clone()));
        match (judged(&verifier, &text), expected) {
            (Ok(jwt), Ok((role, tenants, agents))) => {
                let joined = |names: &std::collections::BTreeSet<String>| {
                    names.iter().map(String::as_str).collect::<Vec<_>>().join(",")
                };
                let found = (jwt.role, joined(&jwt.tenants), joined(&jwt.agents));
                assert_eq!(found, (role, tenants.to_owned(), agents.to_owned()), "{changes}");
            }
            (Err(BadKey::JwtClaim(claim)), Err(expected)) => assert_eq!(claim, expected, "{changes}"),
            (Err(BadKey::JwtExpired), Err("expired")) => {}
            (judged, _) => panic!("{changes}: {judged:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn claims_are_found_by_their_whole_name_or_within_other_claims() {
    let provider = Provider::new();
    let rules = JwtRules {
        role_claim: "access.tope.roles".to_owned(),
        tenants_claim: "https://a.example/tenants".to_owned(),
        ..provider::rules()
    };
    let verifier = provider::verifier_with(rules, &provider.set());
    let nested = json!({
        "tope_role": null,
        "tope_tenants": null,
        "access": {"tope": {"roles": ["viewer"]}, "tope.roles": "admin"},
        "https://a.example/tenants": "acme",
    });
    let jwt = judged(&verifier, &provider.keys()[2].sign(&with(nested.clone()))).expect("it is right");
    assert_eq!((jwt.role, jwt.tenants.len()), (Role::Viewer, 1));
    for access in
        [json!({"tope": "admin"}), json!({"tope": {"roles": {"admin": 1}}}), json!("admin"), json!(null)]
    {
        let mut claims = with(nested.clone());
        claims["access"] = access;
        let no = judged(&verifier, &provider.keys()[2].sign(&claims)).err();
        assert_eq!(no, Some(BadKey::JwtClaim("the claim that jwt_role_claim names")), "{claims}");
    }
}
