//! R7.7: JWTs of an identity provider, instead of keys.

use std::path::Path;

use serde_json::{Value, json};
use tonic::Code;
use tope::config::{Auth, Config};

use super::{create, key, need_keys, reserve_as, with_key};
use crate::harness::{
    certificates::write, clients::done, provider::Provider, raw, v1::*, world::settings, *,
};

const RESERVE: &str = "/tope.v1.QuotaService/Reserve";

/// Returns the claims of a right JWT of a spender of the tenant acme, with some claims replaced. Null removes a claim.
pub(super) fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "https://idp.example",
        "aud": "tope",
        "sub": "backend",
        "exp": NOON / SECOND + 300,
        "tope_role": "spender",
        "tope_tenants": ["acme"],
    });
    let members = claims.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object").clone() {
        match value {
            Value::Null => drop(members.remove(&name)),
            value => drop(members.insert(name, value)),
        }
    }
    claims
}

/// Returns the settings of a server that takes keys and JWTs.
pub(super) fn trusting(database: &str, jwks: &str) -> Config {
    Config {
        auth: Auth::Keys,
        jwt_issuer: "https://idp.example".to_owned(),
        jwt_audience: "tope".to_owned(),
        jwt_jwks: jwks.to_owned(),
        ..settings(database)
    }
}

/// Writes the public keys of a provider to a file, and returns its path.
pub(super) fn write_set(folder: &Path, set: &Value) -> String {
    write(folder, "keys.json", &set.to_string())
}

/// Restarts the server of a world, which then takes keys, and JWTs of this provider.
pub(super) async fn trust(world: &mut World, provider: &Provider) {
    let file = write_set(&world.database.path(""), &provider.set());
    world.restart_with(trusting(world.database.url(), &file)).await;
}

both! {
    async fn a_jwt_and_a_key_are_accepted_side_by_side(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let by_key = create(world.clients(), key(Role::Spender, &["acme"], &[])).await;
        let provider = Provider::new();
        trust(world, &provider).await;
        reserve_as(world.clients(), &by_key.text, "acme", "").await.expect("the key is right");
        for signer in provider.keys() {
            let text = signer.sign(&claims(json!({})));
            for _ in 0..2 {
                reserve_as(world.clients(), &text, "acme", "").await.expect("the JWT is right");
            }
            let no = reserve_as(world.clients(), &text, "globex", "").await.expect_err("it is for acme");
            no.is(Code::PermissionDenied, "NOT_PERMITTED");
        }
        // An agent of the claims is the only agent that the caller may name.
        let text = provider.keys()[2].sign(&claims(json!({"tope_agents": ["planner"]})));
        reserve_as(world.clients(), &text, "acme", "planner").await.expect("it is for this agent");
        for agent in ["", "other"] {
            let no = reserve_as(world.clients(), &text, "acme", agent).await.expect_err("it is for another agent");
            no.is(Code::PermissionDenied, "NOT_PERMITTED");
        }
    }

    /// R8.1: the audit names the subject, who can also list the changes of its own making.
    async fn the_audit_names_the_subject_of_a_jwt(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let provider = Provider::new();
        trust(world, &provider).await;
        let admin = claims(json!({"tope_role": "ADMIN", "tope_tenants": "*", "sub": "joe"}));
        let text = provider.keys()[0].sign(&admin);
        let resource = Some(Resource { id: "images".into(), ..Resource::default() });
        let make = with_key(&text, CreateResourceRequest { resource });
        done(world.admin.clone().create_resource(make).await).expect("an admin may");
        let list = ListChangesRequest { caller: "jwt:joe".into(), ..ListChangesRequest::default() };
        let found = done(world.admin.clone().list_changes(with_key(&text, list)).await).expect("an admin may");
        let found: Vec<[String; 2]> =
            found.changes.into_iter().map(|change| [change.rpc, change.thing]).collect();
        assert_eq!(found, [["CreateResource", "images"]]);
    }

    /// A JWT that was verified before is refused from its end on, also by calls that no batch decides.
    async fn a_jwt_is_refused_from_its_end_on(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let provider = Provider::new();
        trust(world, &provider).await;
        let text = provider.keys()[1].sign(&claims(json!({})));
        let read = || async {
            let request = GetUsageRequest { tenant: "acme".into(), ..GetUsageRequest::default() };
            done(world.quota.clone().get_usage(with_key(&text, request)).await)
        };
        reserve_as(world.clients(), &text, "acme", "").await.expect("it is valid");
        // 300 seconds, and 60 seconds by which the clocks may differ.
        world.clock.advance(360 * SECOND - 1);
        reserve_as(world.clients(), &text, "acme", "").await.expect("it is still valid");
        read().await.expect("it is still valid");
        world.clock.advance(1);
        reserve_as(world.clients(), &text, "acme", "").await.expect_err("it has expired").is(Code::Unauthenticated, "JWT_EXPIRED");
        read().await.expect_err("it has expired").is(Code::Unauthenticated, "JWT_EXPIRED");
        let refused = reserve_as(world.clients(), &text, "globex", "").await.expect_err("it has expired");
        refused.is(Code::Unauthenticated, "JWT_EXPIRED");
    }

    /// R7.8: a wrong JWT is refused with its reason, and the server goes on.
    async fn a_wrong_jwt_is_refused_with_its_reason(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let (provider, other) = (Provider::new(), Provider::new());
        trust(world, &provider).await;
        let key = &provider.keys()[1];
        let right = key.sign(&claims(json!({})));
        let body = claims(json!({})).to_string();
        let bearer = |text: &str| vec![("authorization", format!("Bearer {text}"))];
        let signed = |changes: Value| bearer(&key.sign(&claims(changes)));
        let (unsigned, _) = right.rsplit_once('.').expect("three parts");
        let cases = [
            ("KEY_MALFORMED", [bearer(&right), bearer(&right)].concat()),
            ("KEY_MALFORMED", vec![("authorization", format!("DPoP {right}"))]),
            ("KEY_MALFORMED", bearer(&format!("tope_{right}"))),
            ("JWT_MALFORMED", bearer("")),
            ("JWT_MALFORMED", bearer("eyJhbGciOiJub25lIn0.e30.")),
            ("JWT_MALFORMED", bearer(&key.sign_text(r#"{"alg":"none"}"#, &body))),
            ("JWT_MALFORMED", bearer(&key.sign_text(r#"{"alg":"HS256","kid":"e"}"#, &body))),
            ("JWT_MALFORMED", bearer(&format!("{right}{}", "A".repeat(8_192)))),
            ("JWT_UNTRUSTED", bearer(&format!("{unsigned}."))),
            ("JWT_UNTRUSTED", bearer(&other.keys()[1].sign(&claims(json!({}))))),
            ("JWT_UNTRUSTED", bearer(&key.sign_text(r#"{"alg":"ES256","kid":"unknown"}"#, &body))),
            ("JWT_CLAIM_INVALID", signed(json!({"iss": "https://evil.example"}))),
            ("JWT_CLAIM_INVALID", signed(json!({"aud": ["other"]}))),
            ("JWT_CLAIM_INVALID", signed(json!({"sub": null}))),
            ("JWT_CLAIM_INVALID", signed(json!({"tope_role": "owner"}))),
            ("JWT_CLAIM_INVALID", signed(json!({"tope_tenants": null}))),
            ("JWT_EXPIRED", signed(json!({"exp": NOON / SECOND - 60}))),
            ("JWT_EXPIRED", signed(json!({"nbf": NOON / SECOND + 61}))),
        ];
        for (reason, headers) in &cases {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let no = raw::post(world.address(), RESERVE, &headers, &[]).await.expect("it is refused");
            no.is(Code::Unauthenticated, reason);
            for secret in [unsigned, "evil", "owner", "backend", "acme"] {
                assert!(!no.message.contains(secret), "{no:?}");
            }
        }
        reserve_as(world.clients(), &right, "acme", "").await.expect("the server goes on");
        // Without the settings of JWTs, a JWT is a malformed key.
        need_keys(world).await;
        let no = reserve_as(world.clients(), &right, "acme", "").await.expect_err("it is no key");
        no.is(Code::Unauthenticated, "KEY_MALFORMED");
    }
}
