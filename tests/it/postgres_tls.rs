//! TLS between Tope and PostgreSQL, with certificates that the tests make.

use data_encoding::BASE64;

use crate::harness::{
    certificates::{Ca, Pair, VALID, write},
    database::scratch_folder,
    postgres::{self, Cluster, free_port},
    process::{run, said, tope},
    *,
};
use tope::grpc::v1::GetUsageRequest;

/// A rule of `pg_hba.conf` that admits everybody, but only with TLS.
const ONLY_TLS: &str = "hostssl all all 127.0.0.1/32 trust";

/// A rule that admits users with a certificate of the CA, whose common name is the name of the user.
const ONLY_CERTIFICATES: &str = "hostssl all all 127.0.0.1/32 cert";

/// Sessions of Tope, and those of them that use TLS.
const SESSIONS: &str = "SELECT count(*) > 2 AND bool_and(ssl.ssl) FROM pg_stat_activity AS session \
     JOIN pg_stat_ssl AS ssl USING (pid) WHERE datname = 'tope' AND backend_type = 'client backend' \
     AND pid <> pg_backend_pid()";

struct Secured {
    cluster: Cluster,
    port: u16,
}

impl Secured {
    /// Starts PostgreSQL with an empty database `tope`.
    fn start() -> Self {
        let port = free_port();
        let cluster = Cluster::start(port);
        cluster.create("tope");
        Self { cluster, port }
    }

    /// Writes a file into PostgreSQL's folder, as PostgreSQL's user, who alone may read it.
    fn write(&self, name: &str, text: &str) {
        let text = BASE64.encode(text.as_bytes());
        let order = format!("COPY (VALUES ('{text}')) TO PROGRAM 'umask 077; base64 -d >{name}'");
        self.psql(&order);
    }

    fn psql(&self, statement: &str) -> String {
        self.cluster.psql("postgres", statement)
    }

    /// Gives PostgreSQL this certificate, which new connections use.
    async fn certify(&self, pair: &Pair) {
        self.write("server.crt", &pair.cert);
        self.write("server.key", &pair.key);
        self.psql("ALTER SYSTEM SET ssl = on");
        self.psql("SELECT pg_reload_conf()");
        eventually("PostgreSQL offers TLS", async || (self.psql("SHOW ssl") == "on").then_some(())).await;
    }

    /// Admits only connections of this rule, and `postgres` without one, for the test itself.
    fn admit(&self, rule: &str) {
        let rules = format!("{rule}\nhost postgres all 127.0.0.1/32 trust");
        self.write("pg_hba.conf", &rules);
        self.psql("SELECT pg_reload_conf()");
    }

    /// Returns the URL of the database.
    fn url(&self, host: &str, parameters: &str) -> String {
        format!("postgres://{}@{host}:{}/tope?{parameters}", postgres::USER, self.port)
    }
}

/// Starts a server that must end at once, and returns what it says.
async fn refusal(url: &str) -> String {
    let folder = scratch_folder();
    let mut process = Process::start(url, folder.path(), &[]);
    let status = process.ended().await;
    assert_eq!(status.code(), Some(1), "{url}: {}", process.log());
    process.log()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_uses_tls_as_the_url_says() {
    let (postgres, folder) = (Secured::start(), scratch_folder());
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    postgres.certify(&ca.issue(&["localhost"], VALID)).await;
    postgres.admit(ONLY_TLS);
    let root = write(folder.path(), "ca.pem", &ca.pem());
    let other = write(folder.path(), "other.pem", &other.pem());
    let accepted = [
        ("localhost", format!("sslmode=verify-full&sslrootcert={root}")),
        // The certificate is not for this name.
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={root}")),
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", "application_name=x".to_owned()),
    ];
    for (host, parameters) in accepted {
        let url = postgres.url(host, &parameters);
        let (process, channel) = Process::serving(&url, folder.path(), &["--demo"]).await;
        let clients = Clients::of(channel);
        clients.record("acme").tokens(7).await.unwrap_or_else(|status| panic!("{parameters}: {status:?}"));
        clients.usage("acme").await;
        assert_eq!(postgres.psql(SESSIONS), "t", "{parameters}");
        process.stop().await;
        let mut verify = tope();
        verify.args(["verify", "--database", &url]);
        let output = run(verify).await;
        assert_eq!(output.status.code(), Some(0), "{parameters}: {}", said(&output));
    }
    let missing = folder.path().join("missing.pem").display().to_string();
    let key = write(folder.path(), "key.pem", &ca.server().key);
    let refused = [
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={root}"), "not valid for name"),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}"), "UnknownIssuer"),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}"), "UnknownIssuer"),
        ("localhost", "sslmode=disable".to_owned(), "no pg_hba.conf entry"),
        (
            "localhost",
            format!("sslmode=require&sslrootcert={root}"),
            "which verify no certificate; use sslmode=verify-full",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={missing}"),
            "missing.pem, which cannot be read",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={key}"),
            "key.pem, which contains no certificate",
        ),
        ("localhost", format!("sslmode=require&sslcert={root}"), "sslcert needs sslkey"),
        ("localhost", format!("sslmode=require&sslkey={key}"), "sslkey needs sslcert"),
        ("localhost", format!("sslmode=require&sslcert={root}&sslkey={root}"), "contains no private key"),
        ("localhost", "sslmode=verify".to_owned(), "the URL of the PostgreSQL database is not valid"),
    ];
    for (host, parameters, reason) in refused {
        let said = refusal(&postgres.url(host, &parameters)).await;
        assert!(said.contains(reason), "{parameters}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_or_with_an_expired_certificate_is_refused() {
    let (postgres, folder, ca) = (Secured::start(), scratch_folder(), Ca::new("ca"));
    let root = write(folder.path(), "ca.pem", &ca.pem());
    for mode in [
        "require".to_owned(),
        format!("verify-ca&sslrootcert={root}"),
        format!("verify-full&sslrootcert={root}"),
    ] {
        let url = postgres.url("localhost", &format!("sslmode={mode}"));
        let said = refusal(&url).await;
        assert!(said.contains("does not support TLS"), "{mode}: {said}");
    }
    postgres.certify(&ca.issue(&["localhost"], [2001, 2002])).await;
    let said = refusal(&postgres.url("localhost", &format!("sslmode=verify-full&sslrootcert={root}"))).await;
    assert!(said.contains("expired"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tope_can_log_in_with_a_certificate() {
    let (postgres, folder) = (Secured::start(), scratch_folder());
    let (ca, clients_ca) = (Ca::new("ca"), Ca::new("clients"));
    postgres.write("clients.pem", &clients_ca.pem());
    postgres.psql("ALTER SYSTEM SET ssl_ca_file = 'clients.pem'");
    postgres.certify(&ca.server()).await;
    postgres.admit(ONLY_CERTIFICATES);
    let root = write(folder.path(), "ca.pem", &ca.pem());
    let [cert, key] = clients_ca.user(postgres::USER).write(folder.path(), "user");
    let trusted = format!("sslmode=verify-full&sslrootcert={root}");
    let url = postgres.url("localhost", &format!("{trusted}&sslcert={cert}&sslkey={key}"));
    let (process, channel) = Process::serving(&url, folder.path(), &["--demo"]).await;
    Clients::of(channel).record("acme").tokens(7).await.expect("the lanes have the certificate, too");
    process.stop().await;

    let said = refusal(&postgres.url("localhost", &trusted)).await;
    assert!(said.contains("requires a valid client certificate"), "{said}");
    let [cert, key] = clients_ca.user("guest").write(folder.path(), "guest");
    let said = refusal(&postgres.url("localhost", &format!("{trusted}&sslcert={cert}&sslkey={key}"))).await;
    assert!(said.contains("certificate authentication failed"), "{said}");
    let [cert, key] = ca.user(postgres::USER).write(folder.path(), "foreign");
    let said = refusal(&postgres.url("localhost", &format!("{trusted}&sslcert={cert}&sslkey={key}"))).await;
    assert!(said.contains("because of a certificate"), "{said}");
}

/// Each new connection reads the files again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_ca_needs_no_restart() {
    let (postgres, folder, ca) = (Secured::start(), scratch_folder(), Ca::new("ca"));
    postgres.certify(&ca.server()).await;
    postgres.admit(ONLY_TLS);
    let root = write(folder.path(), "ca.pem", &ca.pem());
    let url = postgres.url("localhost", &format!("sslmode=verify-full&sslrootcert={root}"));
    let (process, channel) = Process::serving(&url, folder.path(), &["--demo"]).await;
    let clients = Clients::of(channel);
    clients.record("acme").tokens(7).await.expect("the first CA");

    let next = Ca::new("next");
    postgres.certify(&next.server()).await;
    write(folder.path(), "ca.pem", &next.pem());
    postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'tope'");
    eventually("calls succeed again", async || clients.record("acme").tokens(1).await.ok()).await;
    let ask = GetUsageRequest { tenant: "acme".to_owned(), ..GetUsageRequest::default() };
    eventually("balances can be read", async || clients.quota.clone().get_usage(ask.clone()).await.ok())
        .await;
    assert_eq!(postgres.psql(SESSIONS.replace("> 2", "> 0").as_str()), "t");
    process.stop().await;
}
