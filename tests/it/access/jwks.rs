//! The keys of an identity provider: from a file and a URL that are right, late, wrong, or replaced.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures::future::join_all;
use serde_json::json;
use tokio::time::Instant;
use tonic::Code;
use tope::config::{Config, HttpAddress};

use super::{
    jwt::{claims, trust, trusting, write_set},
    reserve_as,
};
use crate::harness::{
    certificates::write,
    pages::metrics,
    process::{run, said, tope},
    provider::Provider,
    receiver::Answer,
    world, *,
};

const FAILED: &str = "tope_jwks_reads_total{outcome=\"failed\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_start_with_a_wrong_file_of_keys() {
    let database = Database::fresh(Kind::Sqlite);
    let folder = database.path("");
    let garbage = write(&folder, "garbage.json", "{\"keys\": [");
    let symmetric =
        write(&folder, "oct.json", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\",\"alg\":\"HS256\"}]}");
    let huge = write(&folder, "huge.json", &" ".repeat(1024 * 1024 + 1));
    let missing = folder.join("missing.json").display().to_string();
    let cases = [
        (missing.as_str(), "which does not exist"),
        (folder.to_str().expect("a path"), "which is not a file"),
        (&garbage, "which is not a JWK Set"),
        (&symmetric, "which has no public key for RS256"),
        (&huge, "which is larger than 1 MiB"),
    ];
    for (jwks, word) in cases {
        let mut command = tope();
        command.args(["serve", "--listen", "127.0.0.1:0", "--http", "off", "--database", database.url()]);
        command.args(["--auth", "keys", "--jwt-issuer", "i", "--jwt-audience", "a", "--jwt-jwks", jwks]);
        let output = run(command).await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("jwt_jwks names {jwks}, {word}")), "{text}");
        assert!(!text.contains("c2VjcmV0"), "{text}");
    }
}

/// A server whose provider does not answer starts, and refuses JWTs until the provider answers.
#[test]
fn the_keys_are_read_as_soon_as_their_url_answers() {
    world::run(async {
        let mut world = World::start(Kind::Sqlite).await;
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let (provider, receiver) = (Provider::new(), Receiver::start().await);
        let text = provider.keys()[1].sign(&claims(json!({})));
        let elsewhere = Receiver::answering({
            let set = provider.set().to_string();
            move |_| Answer::Page(set.clone())
        })
        .await;
        let to = elsewhere.url();
        let answers: [fn(&str) -> Answer; 6] = [
            |_| Answer::Status(404),
            |_| Answer::Status(200),
            |_| Answer::Page("{\"keys\": []}".to_owned()),
            |to| Answer::Redirect(to.to_owned()),
            |_| Answer::Gigabyte,
            |_| Answer::Stall,
        ];
        for answer in answers {
            let to = to.clone();
            receiver.answer(move |_| answer(&to));
            world.restart_with(trusting(world.database.url(), &receiver.url())).await;
            let no = reserve_as(world.clients(), &text, "acme", "").await.expect_err("there are no keys");
            no.is(Code::Unavailable, "JWKS_UNAVAILABLE");
        }
        assert!(receiver.sent_bytes() < 64 * 1024 * 1024, "the rest of the gigabyte was not read");
        assert!(elsewhere.posts().is_empty(), "redirects are not followed");
        let set = provider.set().to_string();
        receiver.answer(move |_| Answer::Page(set.clone()));
        eventually("the keys are read", async || reserve_as(world.clients(), &text, "acme", "").await.ok())
            .await;
        world.end().await;
    });
}

/// Callers with unknown keys make the server read the keys again, but seldom.
#[test]
fn unknown_keys_cause_few_reads() {
    world::run(async {
        let mut world = World::start(Kind::Sqlite).await;
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let (provider, other, receiver) = (Provider::new(), Provider::new(), Receiver::start().await);
        let set = provider.set().to_string();
        receiver.answer(move |_| Answer::Page(set.clone()));
        world.restart_with(trusting(world.database.url(), &receiver.url())).await;
        let began = Instant::now();
        let unknown = |number: usize| {
            let header = json!({"alg": "ES256", "kid": format!("unknown {number}")}).to_string();
            other.keys()[1].sign_text(&header, &claims(json!({})).to_string())
        };
        for round in 0..20 {
            let calls = (0..100).map(|number| {
                let text = unknown(round * 100 + number);
                let clients = world.clients();
                async move { reserve_as(clients, &text, "acme", "").await }
            });
            for answer in join_all(calls).await {
                answer.expect_err("no key has this id").is(Code::Unauthenticated, "JWT_UNTRUSTED");
            }
        }
        let reads = u64::try_from(receiver.posts().len()).expect("a number");
        let allowed = 2 + began.elapsed().as_secs() / 10;
        assert!(reads <= allowed, "{reads} reads in {:?}", began.elapsed());
        // A new key of the provider is known after a while, without a restart.
        let next = Provider::new();
        let text = next.keys()[1].sign(&claims(json!({})));
        let no = reserve_as(world.clients(), &text, "acme", "").await.expect_err("it is not published");
        no.is(Code::Unauthenticated, "JWT_UNTRUSTED");
        let header = json!({"alg": "ES256", "kid": "next"}).to_string();
        let text = next.keys()[1].sign_text(&header, &claims(json!({})).to_string());
        let mut published = next.keys()[1].public();
        published["kid"] = "next".into();
        let set = json!({"keys": [published]}).to_string();
        receiver.answer(move |_| Answer::Page(set.clone()));
        eventually("the key is read", async || reserve_as(world.clients(), &text, "acme", "").await.ok())
            .await;
        world.end().await;
    });
}

/// Keys are added and removed while callers spend: no call fails whose key is published.
#[test]
fn no_call_fails_while_the_keys_are_replaced() {
    world::run(async {
        let mut world = World::start(Kind::Sqlite).await;
        world.tenant_with("acme", &[day("tokens", 1_000_000)]).await;
        let (old, new) = (Provider::new(), Provider::new());
        trust(&mut world, &old).await;
        let mut renamed = new.keys()[1].public();
        renamed["kid"] = "new".into();
        let by_new = |number: u64| {
            let payload = claims(json!({"jti": number})).to_string();
            new.keys()[1].sign_text(r#"{"alg":"ES256","kid":"new"}"#, &payload)
        };
        let by_old = |number: u64| old.keys()[1].sign(&claims(json!({"jti": number})));
        let (ends, uses_new) = (AtomicBool::new(false), AtomicBool::new(false));
        let calls = AtomicU64::new(0);
        let caller = || async {
            while !ends.load(Ordering::Relaxed) {
                // Some JWTs are new, and others were verified before.
                let number = calls.fetch_add(1, Ordering::Relaxed) / 3;
                let text = if uses_new.load(Ordering::Relaxed) { by_new(number) } else { by_old(number) };
                reserve_as(world.clients(), &text, "acme", "").await.expect("its key is published");
            }
        };
        let folder = world.database.path("");
        let rotation = async {
            let [_, mut both, _] = old.keys().each_ref().map(|key| vec![key.public()]);
            both.push(renamed.clone());
            write_set(&folder, &json!({ "keys": both }));
            eventually("the new key is known", async || {
                reserve_as(world.clients(), &by_new(0), "acme", "").await.ok()
            })
            .await;
            uses_new.store(true, Ordering::Relaxed);
            let before = calls.load(Ordering::Relaxed);
            eventually("callers use the new key", async || {
                (calls.load(Ordering::Relaxed) > before + 20).then_some(())
            })
            .await;
            write_set(&folder, &json!({"keys": [renamed]}));
            let known = by_old(0);
            eventually("the old key is gone", async || {
                reserve_as(world.clients(), &known, "acme", "")
                    .await
                    .err()
                    .filter(|no| no.reason == "JWT_UNTRUSTED")
            })
            .await;
            ends.store(true, Ordering::Relaxed);
        };
        tokio::join!(caller(), caller(), rotation);
        assert!(calls.load(Ordering::Relaxed) > 40);
        world.end().await;
    });
}

/// A file that cannot be used leaves the keys of before in use, and metrics and log report it.
#[test]
fn wrong_new_keys_leave_the_old_ones_in_use() {
    world::run(async {
        let mut world = World::start(Kind::Sqlite).await;
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let provider = Provider::new();
        let file = write_set(&world.database.path(""), &provider.set());
        let http = HttpAddress(Some("127.0.0.1:0".parse().expect("an address")));
        let config = Config { http, ..trusting(world.database.url(), &file) };
        world.restart_with(config).await;
        let address = world.http_address();
        assert!((metrics(address).await.value("tope_jwks_keys") - 3.0).abs() < f64::EPSILON);
        for (round, wrong) in [Some("garbage"), None].into_iter().enumerate() {
            let failed = metrics(address).await.series.get(FAILED).copied().unwrap_or(0.0);
            match wrong {
                Some(text) => drop(write(&world.database.path(""), "keys.json", text)),
                None => fs::remove_file(&file).expect("the file is there"),
            }
            eventually("the failure is counted", async || {
                let now = metrics(address).await.series.get(FAILED).copied().unwrap_or(0.0);
                (now > failed).then_some(())
            })
            .await;
            let text = provider.keys()[1].sign(&claims(json!({ "jti": round })));
            reserve_as(world.clients(), &text, "acme", "").await.expect("the old keys stay in use");
        }
        world.end().await;
    });
}
