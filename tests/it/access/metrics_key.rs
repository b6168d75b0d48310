//! R7.10: the page of metrics needs a key, if the settings say so.

use serde_json::json;
use tope::config::{Auth, Config, HttpAddress};

use super::{
    create,
    jwt::{claims, trusting, write_set},
    key, with_key,
};
use crate::harness::{
    clients::{done, mask, serving},
    database::scratch_folder,
    pages::{get, get_with},
    postgres::{self, Cluster, free_port},
    process::{run, tope},
    provider::Provider,
    v1::*,
    *,
};

both! {
    async fn the_page_of_metrics_needs_a_key_of_all_tenants(world: World) {
        let mut texts = Vec::new();
        for (role, tenants, status) in [
            (Role::Viewer, &[][..], 200),
            (Role::Operator, &[], 200),
            (Role::Admin, &[], 200),
            (Role::Spender, &[], 403),
            (Role::Viewer, &["acme"], 403),
            (Role::Admin, &["acme"], 403),
        ] {
            texts.push((create(world.clients(), key(role, tenants, &[])).await, status));
        }
        let provider = Provider::new();
        let file = write_set(&world.database.path(""), &provider.set());
        let http = HttpAddress(Some("127.0.0.1:0".parse().expect("an address")));
        let config = Config { metrics_auth: Auth::Keys, http, ..trusting(world.database.url(), &file) };
        world.restart_with(config).await;
        let address = world.http_address();
        for page in ["/livez", "/readyz"] {
            assert_eq!(get(address, page).await, (200, "ok\n".to_owned()));
        }
        let (status, text) = get(address, "/metrics").await;
        assert!(status == 401 && text.starts_with("KEY_MISSING: "), "{status} {text}");
        for (made, status) in &texts {
            let (found, page) = get_with(address, "/metrics", &made.text).await;
            assert_eq!((found, page.contains("tope_build_info")), (*status, *status == 200), "{made:?}");
        }
        let admin = &texts[2].0.text;
        for (wrong, reason) in [
            ("tope_AAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "KEY_UNKNOWN: "),
            ("tope_x", "KEY_MALFORMED: "),
            ("a.b.c", "JWT_MALFORMED: "),
        ] {
            let (status, text) = get_with(address, "/metrics", wrong).await;
            assert!(status == 401 && text.starts_with(reason), "{status} {text}");
        }
        let twice = format!("{admin}\r\nauthorization: Bearer {admin}");
        assert_eq!(get_with(address, "/metrics", &twice).await.0, 401);
        for (tenants, status) in [(json!("*"), 200), (json!(["acme"]), 403)] {
            let text = provider.keys()[1].sign(&claims(json!({"tope_role": "viewer", "tope_tenants": tenants})));
            assert_eq!(get_with(address, "/metrics", &text).await.0, status);
        }
        // A revoked key is refused by the next request.
        let viewer = &texts[0].0;
        let revoked = Key { id: viewer.id.clone(), state: KeyState::Revoked.into(), ..Key::default() };
        let request = UpdateKeyRequest { key: Some(revoked), update_mask: Some(mask(&["state"])) };
        done(world.admin.clone().update_key(with_key(admin, request)).await).expect("the key exists");
        let (status, text) = get_with(address, "/metrics", &viewer.text).await;
        assert!(status == 401 && text.starts_with("KEY_REVOKED: "), "{status} {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_the_known_keys_read_the_metrics() {
    let folder = scratch_folder();
    let (port, http) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let mut cluster = Cluster::start(port);
    let url = postgres::url(port, "postgres");
    let mut command = tope();
    command.args(["keys", "create", "--role", "viewer", "--database", &url]);
    let text = String::from_utf8(run(command).await.stdout).expect("a key").trim().to_owned();
    let arguments = ["--auth", "keys", "--metrics-auth", "keys", "--http", &http];
    let process = Process::start(&url, folder.path(), &arguments);
    serving(&process.connect().await).await;
    let address = http.parse().expect("an address");
    assert_eq!(get_with(address, "/metrics", &text).await.0, 200);
    cluster.stop();
    eventually("the metrics report it", async || {
        let (status, page) = get_with(address, "/metrics", &text).await;
        (status == 200 && page.contains("tope_database_up 0")).then_some(())
    })
    .await;
    let other = if text.ends_with('a') { 'b' } else { 'a' };
    let unknown = format!("{}{other}", &text[..text.len() - 1]);
    assert_eq!(get_with(address, "/metrics", &unknown).await.0, 503, "nobody can tell");
    assert_eq!(get(address, "/livez").await.0, 200);
    process.stop().await;
}
