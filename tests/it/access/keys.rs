//! The keys themselves: create, read, change and delete them; keys that are wrong.

use prost_types::Timestamp;
use tonic::Code;

use super::{create, key, need_keys, reserve_as, with_key};
use crate::harness::{
    call::Answer,
    clients::{done, mask},
    raw,
    v1::*,
    *,
};

const RESERVE: &str = "/tope.v1.QuotaService/Reserve";

async fn update(clients: &Clients, key: Key, paths: &[&str]) -> Answer<Key> {
    let request = UpdateKeyRequest { key: Some(key), update_mask: Some(mask(paths)) };
    done(clients.admin.clone().update_key(request).await)
}

both! {
    /// R7.1: the text of a key is in one reply only, and the database has its hash.
    async fn a_key_is_shown_once_and_listed_without_its_secret(world: World) {
        let given = Key { display_name: "the backend".into(), ..key(Role::Spender, &["acme", "acme"], &["planner"]) };
        let made = create(world.clients(), given).await;
        assert_eq!((made.text.len(), made.id.len()), ("tope__".len() + 12 + 43, 12));
        assert!(made.text.starts_with(&format!("tope_{}_", made.id)), "{made:?}");
        let mut admin = world.admin.clone();
        let found = done(admin.get_key(GetKeyRequest { id: made.id.clone() }).await).expect("it exists");
        assert_eq!(found, Key { text: String::new(), ..made.clone() });
        assert_eq!((found.tenants.len(), found.state()), (1, KeyState::Active));
        let second = create(world.clients(), key(Role::Admin, &[], &[])).await;
        let page = |page_token: String| ListKeysRequest { page_size: 1, page_token };
        let first = done(admin.list_keys(page(String::new())).await).expect("a page");
        let rest = done(admin.list_keys(page(first.next_page_token.clone())).await).expect("a page");
        let mut ids = [made.id.clone(), second.id];
        ids.sort_unstable();
        assert_eq!([&first.keys[0].id, &rest.keys[0].id], [&ids[0], &ids[1]]);
        assert_eq!(rest.next_page_token, "");

        let renamed = Key { id: made.id.clone(), display_name: "b".into(), etag: found.etag.clone(), ..Key::default() };
        let changed = update(world.clients(), renamed.clone(), &["display_name"]).await.expect("the etag fits");
        assert_ne!(changed.etag, found.etag);
        update(world.clients(), renamed, &["display_name"]).await.expect_err("the etag is old").is(Code::Aborted, "ETAG_MISMATCH");
        let deleted = DeleteKeyRequest { id: made.id.clone(), etag: String::new() };
        done(admin.delete_key(deleted.clone()).await).expect("it exists");
        done(admin.delete_key(deleted).await).expect_err("it is gone").is(Code::NotFound, "KEY_NOT_FOUND");
        eventually("the events are numbered", async || {
            let events = done(world.admin.clone().list_events(ListEventsRequest::default()).await).expect("a page").events;
            let changes = events.iter().filter_map(|event| event.change.as_ref());
            let of_keys = changes.filter(|change| change.subject() == policy_change::Subject::Key).count();
            // Two were created, one was changed, one was deleted.
            (of_keys == 4).then_some(())
        })
        .await;
    }

    async fn a_key_with_wrong_fields_is_refused_with_all_of_them(world: World) {
        let mut admin = world.admin.clone();
        let names = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
        let cases: [(Key, &[&str]); 8] = [
            (Key::default(), &["key.role"]),
            (Key { role: 99, ..Key::default() }, &["key.role"]),
            (Key { id: "a".into(), ..key(Role::Admin, &[], &[]) }, &["key.id"]),
            (Key { text: "a".into(), ..key(Role::Admin, &[], &[]) }, &["key.id"]),
            (key(Role::Viewer, &[""], &["a"]), &["key.tenants[0]", "key.agents"]),
            (Key { tenants: names(101), ..key(Role::Viewer, &[], &[]) }, &["key.tenants"]),
            (Key { display_name: "a".repeat(257), state: 2, ..key(Role::Viewer, &[], &[]) }, &["key.display_name", "key.state"]),
            (Key { expire_time: Some(Timestamp { seconds: -1, nanos: 0 }), ..key(Role::Viewer, &[], &[]) }, &["key.expire_time"]),
        ];
        for (wrong, fields) in cases {
            let request = CreateKeyRequest { key: Some(wrong) };
            done(admin.create_key(request).await).expect_err("a field is wrong").names(fields);
        }
        let made = create(world.clients(), key(Role::Viewer, &[], &[])).await;
        for fixed in ["role", "tenants", "agents", "text", "last_used_time"] {
            let given = Key { id: made.id.clone(), ..Key::default() };
            update(world.clients(), given, &[fixed]).await.expect_err("it is fixed").names(&["update_mask"]);
        }
    }

    /// R7.2: a wrong key is refused with the reason, and the server goes on.
    async fn a_wrong_key_is_refused_with_its_reason(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let right = create(world.clients(), key(Role::Spender, &[], &[])).await;
        let other = create(world.clients(), key(Role::Spender, &[], &[])).await;
        let end = world.clock.now() / 1_000 + 60;
        let expiring = Key { expire_time: Some(Timestamp { seconds: end, nanos: 0 }), ..key(Role::Spender, &[], &[]) };
        let expiring = create(world.clients(), expiring).await;
        let revoked = create(world.clients(), key(Role::Spender, &[], &[])).await;
        let change = Key { id: revoked.id.clone(), state: KeyState::Revoked.into(), ..Key::default() };
        update(world.clients(), change, &["state"]).await.expect("it exists");
        need_keys(world).await;
        reserve_as(world.clients(), &expiring.text, "acme", "").await.expect("it is valid for a minute");
        world.clock.advance(60_000);

        let mixed = format!("tope_{}_{}", right.id, other.text.rsplit('_').next().expect("a secret"));
        let unknown = format!("tope_AAAAAAAAAAAA_{}", right.text.rsplit('_').next().expect("a secret"));
        let bearer = |text: &str| vec![("authorization", format!("Bearer {text}"))];
        let twice = [bearer(&right.text), bearer(&right.text)].concat();
        let cases: [(&str, Vec<(&str, String)>); 14] = [
            ("KEY_MISSING", vec![]),
            ("KEY_MISSING", vec![("x-api-key", right.text.clone())]),
            ("KEY_MALFORMED", vec![("authorization", right.text.clone())]),
            ("KEY_MALFORMED", vec![("authorization", format!("Basic {}", right.text))]),
            ("KEY_MALFORMED", vec![("authorization", String::new())]),
            ("KEY_MALFORMED", bearer("")),
            ("KEY_MALFORMED", bearer(&right.text[..40])),
            ("KEY_MALFORMED", bearer(&format!("{}a", right.text))),
            ("KEY_MALFORMED", bearer(&"a".repeat(8_000))),
            ("KEY_MALFORMED", twice),
            ("KEY_UNKNOWN", bearer(&mixed)),
            ("KEY_UNKNOWN", bearer(&unknown)),
            ("KEY_EXPIRED", bearer(&expiring.text)),
            ("KEY_REVOKED", bearer(&revoked.text)),
        ];
        for (reason, headers) in &cases {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let no = raw::post(world.address(), RESERVE, &headers, &[]).await.expect("it is refused");
            no.is(Code::Unauthenticated, reason);
            for secret in [&right, &other, &expiring, &revoked] {
                assert!(!no.message.contains(secret.text.rsplit('_').next().expect("a secret")), "{no:?}");
            }
        }
        let lower = format!("bearer {}", right.text);
        let no = raw::post(world.address(), RESERVE, &[("authorization", &lower)], &[]).await.expect("it is empty");
        no.is(Code::InvalidArgument, "INVALID_ARGUMENT");
        reserve_as(world.clients(), &right.text, "acme", "").await.expect("the server goes on");
    }

    /// R7.3: the last use of a key is written by a job, about once a minute, and not by the call.
    async fn the_last_use_of_a_key_is_noted_by_a_job(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let admin = create(world.clients(), key(Role::Admin, &[], &[])).await;
        let spender = create(world.clients(), key(Role::Spender, &[], &[])).await;
        need_keys(world).await;
        reserve_as(world.clients(), &spender.text, "acme", "").await.expect("the key is right");
        let read = || async {
            let request = with_key(&admin.text, GetKeyRequest { id: spender.id.clone() });
            done(world.admin.clone().get_key(request).await).expect("it exists").last_used_time
        };
        assert_eq!(read().await, None);
        for (wait, seconds) in [(0, 0), (30_000, 0), (60_000, 90)] {
            world.clock.advance(wait);
            reserve_as(world.clients(), &spender.text, "acme", "").await.expect("the key is right");
            let run = with_key(&admin.text, RunJobRequest { name: "note-keys".into() });
            done(world.admin.clone().run_job(run).await).expect("the job runs");
            let used = read().await.expect("it was used");
            assert_eq!(used.seconds, NOON / 1_000 + seconds);
        }
    }
}
