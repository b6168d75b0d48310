//! The command line: keys in the database, servers that need them, and addresses that other machines can reach.

use std::{fs, process::Command};

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tope::{
    config::{Auth, Config},
    server::{Server, ServerOptions},
};

use super::{create, key, need_keys, with_key};
use crate::harness::{
    clients::connect,
    process::{run, said, tope},
    v1::Role,
    world::settings,
    *,
};

fn command(arguments: &[&str]) -> Command {
    let mut command = tope();
    command.args(arguments);
    command
}

/// Runs `tope keys`, and returns what it prints.
async fn keys(url: &str, arguments: &[&str]) -> String {
    let output = run(command(&[&["keys"], arguments, &["--database", url]].concat())).await;
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

both! {
    /// The first key is made in the database, while the server runs; then a command uses it.
    async fn a_key_is_created_while_the_server_runs_and_used_by_a_command(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        need_keys(world).await;
        let url = world.database.url().to_owned();
        let text = keys(&url, &["create", "--role", "spender", "--tenant", "acme", "--name", "the backend"]).await;
        let file = world.database.path("key");
        fs::write(&file, format!("{text}\n")).expect("the folder can be written to");
        let (file, target) = (file.to_str().expect("a path"), world.target());
        let reserve = ["reserve", "acme", "tokens=1", "--target", &target];
        let output = run(command(&[&reserve[..], &["--key-file", file]].concat())).await;
        assert!(output.status.success(), "{}", said(&output));
        let mut by_variable = command(&reserve);
        by_variable.env("TOPE_KEY_FILE", file);
        assert!(run(by_variable).await.status.success());

        let without = run(command(&reserve)).await;
        assert!(!without.status.success() && said(&without).contains("KEY_MISSING"), "{}", said(&without));
        let id = text.split('_').nth(1).expect("an id").to_owned();
        let listed = keys(&url, &["list"]).await;
        assert!(listed.contains(&id) && listed.contains("spender") && listed.contains("the backend"), "{listed}");
        assert!(!listed.contains(text.rsplit('_').next().expect("a secret")), "{listed}");
        keys(&url, &["revoke", &id]).await;
        let revoked = run(command(&[&reserve[..], &["--key-file", file]].concat())).await;
        assert!(said(&revoked).contains("KEY_REVOKED"), "{}", said(&revoked));
        keys(&url, &["delete", &id]).await;
        let again = run(command(&["keys", "delete", &id, "--database", &url])).await;
        assert!(!again.status.success() && said(&again).contains(&id), "{}", said(&again));
    }

    /// Health and reflection answer without a key, unless the setting says otherwise.
    async fn health_needs_a_key_if_the_settings_say_so(world: World) {
        let viewer = create(world.clients(), key(Role::Viewer, &["acme"], &[])).await;
        need_keys(world).await;
        let check = || HealthCheckRequest { service: String::new() };
        HealthClient::new(world.channel.clone()).check(check()).await.expect("it is public");
        let config = Config { auth: Auth::Keys, auth_public_health: false, ..settings(world.database.url()) };
        world.stop().await;
        let server = Server::start(ServerOptions::new(config)).await.expect("the server starts");
        let channel = connect(&format!("http://{}", server.address())).await;
        let mut health = HealthClient::new(channel);
        let no = health.check(check()).await.expect_err("it needs a key");
        assert_eq!(no.code(), Code::Unauthenticated);
        health.check(with_key(&viewer.text, check())).await.expect("any key will do");
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_arguments_of_keys_are_named() {
    let database = Database::fresh(Kind::Sqlite);
    let cases: [(&[&str], &str); 6] = [
        (&["create"], "--role"),
        (&["create", "--role", "owner"], "owner"),
        (&["create", "--role", "viewer", "--agent", "a"], "--agent"),
        (&["create", "--role", "viewer", "--tenant", ""], "--tenant"),
        (&["create", "--role", "viewer", "--expire-days", "0"], "--expire-days"),
        (&["revoke", "AAAAAAAAAAAA"], "AAAAAAAAAAAA"),
    ];
    keys(database.url(), &["create", "--role", "viewer"]).await;
    for (arguments, word) in cases {
        let output = run(command(&[&["keys"], arguments, &["--database", database.url()]].concat())).await;
        assert!(!output.status.success() && said(&output).contains(word), "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "errors go to stderr");
    }
    let file = database.path("key");
    for (content, word) in [(None, "cannot read"), (Some("tope_x_y"), "must contain one key")] {
        if let Some(content) = content {
            fs::write(&file, content).expect("the folder can be written to");
        }
        let path = file.to_str().expect("a path");
        let output = run(command(&["usage", "acme", "--key-file", path])).await;
        assert!(!output.status.success() && said(&output).contains(word), "{}", said(&output));
        assert!(!said(&output).contains("tope_x_y"), "{}", said(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_keys_does_not_listen_for_other_machines() {
    let database = Database::fresh(Kind::Sqlite);
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let output = run(command(&["serve", "--listen", listen, "--database", database.url()])).await;
        let text = said(&output);
        assert!(
            !output.status.success() && text.contains("tope keys create") && text.contains("insecure"),
            "{text}"
        );
    }
}
