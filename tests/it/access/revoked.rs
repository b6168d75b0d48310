//! R7.4: a change of keys counts for every call that begins after its reply, on every server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tonic::Code;
use tope::config::{Auth, Config};

use super::{create, key, need_keys, reserve_as, with_key};
use crate::harness::{
    clients::{done, mask},
    v1::*,
    world::{run, settings},
    *,
};

async fn set_state(clients: &Clients, admin: &str, id: &str, state: KeyState) {
    let key = Key { id: id.into(), state: state.into(), ..Key::default() };
    let request = UpdateKeyRequest { key: Some(key), update_mask: Some(mask(&["state"])) };
    done(clients.admin.clone().update_key(with_key(admin, request)).await).expect("the key exists");
}

/// Revokes a key twenty times, and each time the next call on the other server is refused. Meanwhile another caller
/// spends on that server, and none of its calls fails.
async fn a_revoked_key_is_refused_by_the_next_call(revoker: &Clients, other: &Clients, admin: &Key) {
    let busy = create_as(revoker, &admin.text, key(Role::Spender, &["acme"], &[])).await;
    let (ends, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = tokio::spawn({
        let (clients, ends, calls) = (other.clone(), Arc::clone(&ends), Arc::clone(&calls));
        async move {
            while !ends.load(Ordering::Relaxed) {
                reserve_as(&clients, &busy.text, "acme", "").await.expect("this key stays valid");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..20 {
        let made = create_as(revoker, &admin.text, key(Role::Spender, &["acme"], &[])).await;
        reserve_as(other, &made.text, "acme", "").await.expect("a new key is known everywhere");
        set_state(revoker, &admin.text, &made.id, KeyState::Revoked).await;
        let no = reserve_as(other, &made.text, "acme", "").await.expect_err("it is revoked");
        no.is(Code::Unauthenticated, "KEY_REVOKED");
        set_state(revoker, &admin.text, &made.id, KeyState::Active).await;
        reserve_as(other, &made.text, "acme", "").await.expect("it is valid again");
        let deleted = DeleteKeyRequest { id: made.id.clone(), etag: String::new() };
        done(revoker.admin.clone().delete_key(with_key(&admin.text, deleted)).await).expect("it exists");
        let no = reserve_as(other, &made.text, "acme", "").await.expect_err("it is deleted");
        no.is(Code::Unauthenticated, "KEY_UNKNOWN");
    }
    ends.store(true, Ordering::Relaxed);
    load.await.expect("no call failed");
    assert!(calls.load(Ordering::Relaxed) > 0);
}

async fn create_as(clients: &Clients, admin: &str, key: Key) -> Key {
    let request = with_key(admin, CreateKeyRequest { key: Some(key) });
    done(clients.admin.clone().create_key(request).await).expect("the key is right")
}

both! {
    async fn a_revoked_key_is_refused_at_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000_000)]).await;
        let admin = create(world.clients(), key(Role::Admin, &[], &[])).await;
        need_keys(world).await;
        a_revoked_key_is_refused_by_the_next_call(world.clients(), world.clients(), &admin).await;
    }
}

#[test]
fn a_key_that_one_replica_revokes_is_refused_by_the_other() {
    run(async {
        let mut world = World::start(Kind::Postgres).await;
        world.tenant_with("acme", &[day("tokens", 1_000_000)]).await;
        let admin = create(world.clients(), key(Role::Admin, &[], &[])).await;
        need_keys(&mut world).await;
        let config = Config { auth: Auth::Keys, ..settings(world.database.url()) };
        let (replica, clients) = world.replica_of(config).await;
        a_revoked_key_is_refused_by_the_next_call(world.clients(), &clients, &admin).await;
        a_revoked_key_is_refused_by_the_next_call(&clients, world.clients(), &admin).await;
        replica.shutdown().await;
        world.end().await;
    });
}
