//! R7.8: thousands of broken keys and JWTs through the door leave no trace.

use axum::body::Body;
use futures::future::join_all;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use prost::Message;
use serde_json::json;
use tonic::Code;

use super::{
    create,
    jwt::{claims, trust},
    key, reserve_as, with_key,
};
use crate::harness::{
    call::Answer,
    clients::done,
    provider::Provider,
    raw::{self, Raw},
    v1::*,
    *,
};

const RESERVE: &str = "/tope.v1.QuotaService/Reserve";

// 4,000 calls: on each connection, rounds of calls at the same time.
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 20;
const CALLS: usize = 50;

/// A change of a text at a place: another letter, an end, a letter less, or a letter twice.
fn change() -> impl Strategy<Value = (prop::sample::Index, u8, char)> {
    (any::<prop::sample::Index>(), 0..4u8, prop::char::range('!', '~'))
}

fn changed(text: &str, (place, kind, letter): (prop::sample::Index, u8, char)) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let place = place.index(letters.len());
    match kind {
        0 => letters[place] = letter,
        1 => letters.truncate(place),
        2 => drop(letters.remove(place)),
        _ => letters.insert(place, letters[place]),
    }
    letters.into_iter().collect()
}

/// Everything that a broken credential must not change: the tenant, its balances, the keys and the log.
async fn trace(clients: &Clients, admin: &str) -> Answer<(Tenant, Vec<Balance>, Vec<Key>, Vec<Event>)> {
    let tenant = GetTenantRequest { id: "acme".into() };
    let tenant = done(clients.admin.clone().get_tenant(with_key(admin, tenant)).await)?;
    let usage = GetUsageRequest { tenant: "acme".into(), ..GetUsageRequest::default() };
    let usage = done(clients.quota.clone().get_usage(with_key(admin, usage)).await)?;
    let keys = done(clients.admin.clone().list_keys(with_key(admin, ListKeysRequest::default())).await)?;
    let events = ListEventsRequest::default();
    let events = done(clients.admin.clone().list_events(with_key(admin, events)).await)?;
    Ok((tenant, usage.balances, keys.keys, events.events))
}

/// Makes a Reserve that would pass with a right credential, and returns the code and the reason of its refusal.
async fn refused(raw: &Raw, headers: &[(&str, &str)], message: &[u8]) -> (Code, String) {
    let no = raw.post(RESERVE, headers, Body::from(raw::frame(message))).await.expect("a whole answer");
    let no = no.unwrap_or_else(|| panic!("accepted: {headers:?}"));
    (no.code, no.reason)
}

both! {
    async fn broken_credentials_leave_no_trace(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let admin = create(world.clients(), key(Role::Admin, &[], &[])).await.text;
        let spender = create(world.clients(), key(Role::Spender, &["acme"], &[])).await.text;
        let provider = Provider::new();
        trust(world, &provider).await;
        let jwts = provider.keys().each_ref().map(|key| key.sign(&claims(json!({}))));
        let right: Vec<String> = jwts.iter().chain([&spender]).map(|text| format!("Bearer {text}")).collect();
        let before = trace(world.clients(), &admin).await.expect("the key is right");

        let amounts = vec![ReserveAmount { resource: "tokens".into(), quantity: 1, ..ReserveAmount::default() }];
        let message = ReserveRequest { tenant: "acme".into(), amounts, ..ReserveRequest::default() }.encode_to_vec();
        let mut runner = TestRunner::new(Config::default());
        let strategy = prop::collection::vec(change(), 1..4);
        for _ in 0..CONNECTIONS {
            let raw = Raw::connect(world.address()).await;
            for round in 0..ROUNDS {
                let texts: Vec<String> = (0..CALLS)
                    .map(|call| {
                        let changes = strategy.new_tree(&mut runner).expect("changes").current();
                        let original = right[(round + call) % right.len()].clone();
                        changes.into_iter().fold(original, |text, change| if text.is_empty() { text } else { changed(&text, change) })
                    })
                    // A changed scheme may be right still, and a change may undo another one.
                    .filter(|text| !right.iter().any(|right| right.eq_ignore_ascii_case(text)))
                    .collect();
                let calls = texts.iter().map(|text| {
                    let (raw, message) = (&raw, &message);
                    async move { refused(raw, &[("authorization", text.as_str())], message).await }
                });
                for (text, (code, reason)) in texts.iter().zip(join_all(calls).await) {
                    assert_eq!(code, Code::Unauthenticated, "{text}: {reason}");
                }
            }
            for right in &right {
                let twice = [("authorization", right.as_str()), ("authorization", right.as_str())];
                assert_eq!(refused(&raw, &twice, &message).await.1, "KEY_MALFORMED");
                let with_other = [("authorization", right.as_str()), ("authorization", "Bearer a.b.c")];
                assert_eq!(refused(&raw, &with_other, &message).await.1, "KEY_MALFORMED");
            }
            // A header of a megabyte ends at most its own connection.
            let huge = format!("Bearer {}", "a".repeat(1_000_000));
            let answered = raw.open(RESERVE, &[("authorization", &huge)], Body::from(raw::frame(&message))).await;
            assert!(answered.is_err() || answered.is_ok_and(|answer| !answer.status().is_success()));
        }
        assert_eq!(trace(world.clients(), &admin).await.expect("the key is right"), before);
        for text in jwts.iter().chain([&spender]) {
            reserve_as(world.clients(), text, "acme", "").await.expect("the server goes on");
        }
    }
}
