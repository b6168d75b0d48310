//! The parameters in the URL of a PostgreSQL database apply to all connections, those of lanes and those of pools.

use std::fs;

use crate::harness::{
    clients::serving,
    database::scratch_folder,
    postgres::{self, Cluster},
    process::{run, said, tope},
    *,
};

/// Password of the user `guest`. It has characters that are special in a URL and in a password file.
const PASSWORD: &str = "s3:c/r@t";
/// The password, encoded for a URL.
const ENCODED: &str = "s3%3Ac%2Fr%40t";
/// The password, escaped for a password file.
const ESCAPED: &str = "s3\\:c/r@t";

/// Makes the cluster ask the user `guest` for a password.
fn guard(cluster: &Cluster) {
    cluster.psql("postgres", &format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'"));
    cluster.psql("postgres", "CREATE DATABASE tope OWNER guest");
    let rules = "DO $$ BEGIN EXECUTE format('COPY (VALUES (''host all guest 127.0.0.1/32 scram-sha-256''),
        (''host all all 127.0.0.1/32 trust'')) TO %L', current_setting('hba_file')); END $$";
    cluster.psql("postgres", rules);
    cluster.psql("postgres", "SELECT pg_reload_conf()");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_may_be_in_the_url_a_variable_or_a_file() {
    let (folder, port) = (scratch_folder(), postgres::free_port());
    let cluster = Cluster::start(port);
    guard(&cluster);
    let file = folder.path().join("passwords");
    fs::write(&file, format!("127.0.0.1:{port}:tope:guest:{ESCAPED}\n"))
        .expect("the folder can be written to");
    make_private(&file);
    let bare = format!("postgres://guest@127.0.0.1:{port}/tope");
    let cases = [
        (format!("postgres://guest:{ENCODED}@127.0.0.1:{port}/tope"), None),
        (format!("{bare}?password={ENCODED}"), None),
        (bare.clone(), Some(("PGPASSWORD", PASSWORD.into()))),
        (bare.clone(), Some(("PGPASSFILE", file.into_os_string()))),
    ];
    for (number, (url, variable)) in (1..).zip(cases) {
        let mut command = tope();
        command.env_remove("PGPASSWORD").envs(variable);
        let process = Process::start_as(command, &url, folder.path(), &["--demo"]);
        let channel = process.connect().await;
        serving(&channel).await;
        let clients = Clients::of(channel);
        clients.record("acme").tokens(1).await.unwrap_or_else(|no| panic!("{url}: {no:?}"));
        assert_eq!(figures(&clients.usage("acme").await[0]), (number, 0), "{url}");
        process.stop().await;
    }
}

fn make_private(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    // libpq ignores a password file that others can read.
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("the file belongs to this user");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_utf8_is_refused() {
    let make = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    postgres::shared().psql("postgres", make);
    let mut command = tope();
    command.args(["migrate", "--database", &postgres::shared().url("latin")]);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("encoding UTF8, and has LATIN1"), "{}", said(&output));
}

/// Waiting would not help, so `serve` ends at once, like `migrate`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_ends_at_once_if_it_can_never_connect_to_the_database() {
    let (folder, port) = (scratch_folder(), postgres::free_port());
    let cluster = Cluster::start(port);
    guard(&cluster);
    cluster.psql(
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    let place = format!("127.0.0.1:{port}");
    let cases = [
        (format!("postgres://tope@{place}/nowhere"), "database \"nowhere\" does not exist"),
        (format!("postgres://guest:wrong@{place}/tope"), "password authentication failed"),
        (format!("postgres://nobody@{place}/tope"), "role \"nobody\" does not exist"),
        (format!("postgres://tope@{place}/tope?sslmode=require"), "TLS"),
        (format!("postgres://tope@{place}/latin"), "encoding UTF8, and has LATIN1"),
    ];
    for (url, reason) in cases {
        let mut process = Process::start(&url, folder.path(), &[]);
        let status = process.ended().await;
        assert_eq!(status.code(), Some(1), "{url}: {}", process.log());
        assert!(process.log().contains(reason), "{url}: {}", process.log());
        assert!(!process.log().contains("wrong"), "no password is logged: {}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_in_the_url_apply_to_every_connection() {
    let database = Database::fresh(Kind::Postgres);
    database.execute("CREATE SCHEMA books").await;
    let url = format!("{}?options=-c%20search_path%3Dbooks", database.url());
    let (process, channel) = Process::serving(&url, &database.path(""), &["--demo"]).await;
    let clients = Clients::of(channel);
    clients.record("acme").tokens(7).await.expect("the lanes find the tables where administration made them");
    assert_eq!(figures(&clients.usage("acme").await[0]), (7, 0));
    let outside = "SELECT COUNT(*) FROM pg_tables WHERE tablename = 'tenants' AND schemaname <> 'books'";
    assert_eq!(database.number(outside).await, 0);
    assert_eq!(
        database.number("SELECT SUM(committed)::bigint FROM books.counters WHERE period = 3").await,
        7
    );
    process.stop().await;
}
