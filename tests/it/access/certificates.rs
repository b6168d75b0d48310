//! R7.9: keys for which a name in the certificate of the client stands.

use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tope::config::{Auth, Config};

use super::{create, key, reserve_as};
use crate::harness::{
    call::Answer,
    certificates::{Ca, Pair},
    clients::{done, mask, serving},
    process::{run, said, tope},
    v1::*,
    world::settings,
    *,
};

const NAME: &str = "spiffe://example.org/backend";

/// A server with TLS that takes certificates of `ca`. The administrator has a certificate, too.
struct Secured {
    ca: Ca,
    address: std::net::SocketAddr,
    admin: Clients,
}

impl Secured {
    async fn start(world: &mut World) -> Self {
        world.tenant_with("acme", &[day("tokens", 1_000_000)]).await;
        create(world.clients(), bound("admin@example.org", Role::Admin, &[])).await;
        let (ca, folder) = (Ca::new("ca"), world.database.path(""));
        let [tls_cert, tls_key] = ca.server().write(&folder, "server").map(Into::into);
        let tls_client_ca = crate::harness::certificates::write(&folder, "ca.pem", &ca.pem()).into();
        let config =
            Config { auth: Auth::Keys, tls_cert, tls_key, tls_client_ca, ..settings(world.database.url()) };
        world.stop().await;
        let address = world.start_secured(config).await;
        let admin = Clients::of(connect(&ca, address, &ca.client(&["admin@example.org"])).await);
        Self { ca, address, admin }
    }

    /// Connects with a certificate that has these names.
    async fn with(&self, names: &[&str]) -> Clients {
        Clients::of(connect(&self.ca, self.address, &self.ca.client(names)).await)
    }

    async fn bind(&self, name: &str, tenants: &[&str]) -> Key {
        self.try_to_bind(bound(name, Role::Spender, tenants)).await.expect("the name is free")
    }

    async fn try_to_bind(&self, key: Key) -> Answer<Key> {
        done(self.admin.admin.clone().create_key(CreateKeyRequest { key: Some(key) }).await)
    }

    async fn set_state(&self, id: &str, state: KeyState) {
        let key = Key { id: id.into(), state: state.into(), ..Key::default() };
        let request = UpdateKeyRequest { key: Some(key), update_mask: Some(mask(&["state"])) };
        done(self.admin.admin.clone().update_key(request).await).expect("the key exists");
    }
}

async fn connect(ca: &Ca, address: std::net::SocketAddr, pair: &Pair) -> Channel {
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
    let tls = ca.trusted().identity(pair.identity());
    let channel = endpoint.tls_config(tls).expect("valid settings").connect().await.expect("it listens");
    serving(&channel).await;
    channel
}

fn bound(name: &str, role: Role, tenants: &[&str]) -> Key {
    Key { certificate_san: name.into(), ..key(role, tenants, &[]) }
}

async fn reserve(clients: &Clients, tenant: &str) -> Answer<()> {
    clients.reserve(tenant).tokens(1).await.map(drop)
}

both! {
    async fn the_name_of_a_certificate_stands_for_its_key(world: World) {
        let secured = Secured::start(world).await;
        for name in [NAME, "backend.example.org", "backend@example.org"] {
            let clients = secured.with(&["unrelated.example", name]).await;
            reserve(&clients, "acme").await.expect_err("no key has the name").is(Code::Unauthenticated, "KEY_MISSING");
            let made = secured.bind(name, &["acme"]).await;
            assert_eq!((made.text.as_str(), made.certificate_san.as_str()), ("", name));
            reserve(&clients, "acme").await.expect("the connection is open already");
            reserve(&clients, "globex").await.expect_err("the key is for acme").is(Code::PermissionDenied, "NOT_PERMITTED");
            let read = GetKeyRequest { id: made.id.clone() };
            let no = done(clients.admin.clone().get_key(read).await).expect_err("it is for administrators");
            no.is(Code::PermissionDenied, "NOT_PERMITTED");
        }
        // Names are compared as a whole, with their kind.
        let others = [
            "spiffe://example.org/backen", "spiffe://example.org/backend/", "spiffe://example.org/Backend",
            "a.backend.example.org", "*.example.org", "Backend@example.org",
        ];
        for other in others {
            let no = reserve(&secured.with(&[other]).await, "acme").await.expect_err(other);
            no.is(Code::Unauthenticated, "KEY_MISSING");
        }
        let both = secured.with(&[NAME, "backend@example.org"]).await;
        reserve(&both, "acme").await.expect_err("two keys").is(Code::Unauthenticated, "KEY_AMBIGUOUS");
    }

    async fn what_a_call_shows_counts_before_the_certificate(world: World) {
        let secured = Secured::start(world).await;
        secured.bind(NAME, &["acme"]).await;
        let other = secured.try_to_bind(key(Role::Spender, &["globex"], &[])).await.expect("a key with a secret");
        let clients = secured.with(&[NAME]).await;
        let no = reserve_as(&clients, &other.text, "acme", "").await.expect_err("the key is for globex");
        no.is(Code::PermissionDenied, "NOT_PERMITTED");
        for wrong in ["", "tope_AAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let no = reserve_as(&clients, wrong, "acme", "").await.expect_err("the key is wrong");
            assert_eq!(no.code, Code::Unauthenticated, "{no:?}");
        }
        reserve(&clients, "acme").await.expect("without a key, the certificate counts");
    }

    /// R7.4: on the same connection, the next call after the change is refused.
    async fn a_bound_key_is_revoked_and_deleted_at_once(world: World) {
        let secured = Secured::start(world).await;
        let clients = secured.with(&[NAME]).await;
        for _ in 0..10 {
            let made = secured.bind(NAME, &[]).await;
            reserve(&clients, "acme").await.expect("the key is valid");
            secured.set_state(&made.id, KeyState::Revoked).await;
            reserve(&clients, "acme").await.expect_err("it is revoked").is(Code::Unauthenticated, "KEY_REVOKED");
            secured.set_state(&made.id, KeyState::Active).await;
            reserve(&clients, "acme").await.expect("it is valid again");
            let deleted = DeleteKeyRequest { id: made.id, etag: String::new() };
            done(secured.admin.admin.clone().delete_key(deleted).await).expect("it exists");
            reserve(&clients, "acme").await.expect_err("it is gone").is(Code::Unauthenticated, "KEY_MISSING");
        }
    }

    async fn one_name_stands_for_one_key(world: World) {
        let first = create(world.clients(), bound(NAME, Role::Viewer, &[])).await;
        let mut admin = world.admin.clone();
        let again = CreateKeyRequest { key: Some(bound(NAME, Role::Spender, &[])) };
        let no = done(admin.create_key(again.clone()).await).expect_err("the name is taken");
        no.is(Code::AlreadyExists, "NAME_TAKEN");
        for wrong in ["*.example.org", "a b", "@", &"a".repeat(513)] {
            let request = CreateKeyRequest { key: Some(bound(wrong, Role::Viewer, &[])) };
            done(admin.create_key(request).await).expect_err(wrong).names(&["key.certificate_san"]);
        }
        let moved = Key { id: first.id.clone(), certificate_san: "a".into(), ..Key::default() };
        let request = UpdateKeyRequest { key: Some(moved), update_mask: Some(mask(&["certificate_san"])) };
        done(admin.update_key(request).await).expect_err("it is fixed").names(&["update_mask"]);
        done(admin.delete_key(DeleteKeyRequest { id: first.id, etag: String::new() }).await).expect("it exists");
        done(admin.create_key(again).await).expect("the name is free");

        // The command binds a key, too, and prints its id.
        let command = |name: &str| {
            let mut command = tope();
            command.args(["keys", "create", "--role", "viewer", "--certificate-san", name]);
            command.args(["--database", world.database.url()]);
            command
        };
        let output = run(command("host.example")).await;
        let id = String::from_utf8(output.stdout).expect("text").trim().to_owned();
        let found = done(admin.get_key(GetKeyRequest { id }).await).expect("the id was printed");
        assert_eq!((found.certificate_san.as_str(), found.role()), ("host.example", Role::Viewer));
        for (name, word) in [("host.example", "host.example"), ("*", "--certificate-san must have")] {
            let output = run(command(name)).await;
            assert!(!output.status.success() && said(&output).contains(word), "{}", said(&output));
        }
    }
}
