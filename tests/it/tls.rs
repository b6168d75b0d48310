//! TLS of the gRPC listener and of the commands, with certificates that the tests make.

use std::{fs, path::Path, process::Command, time::Duration};

use futures::future::join_all;
use rustls::{
    ALL_VERSIONS,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Error};

use crate::harness::{
    certificates::{Ca, Pair, VALID, handshake, write},
    clients::serving,
    database::{scratch_folder, sqlite_url},
    pages::get,
    postgres::free_port,
    process::{run, said, tool, tope},
    *,
};

/// Maximum time until a connection is closed that the server must close after 10 seconds.
const BOUND: Duration = Duration::from_secs(20);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0";

async fn connect(process: &Process, tls: ClientTlsConfig) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("https://{}", process.address())).expect("an address");
    endpoint.tls_config(tls).expect("valid settings").connect().await
}

/// Starts a server with this certificate, whose files are in `folder`, and waits until a client can call it.
async fn serve(
    database: &str,
    folder: &Path,
    pair: &Pair,
    client: ClientTlsConfig,
    more: &[&str],
) -> (Process, Clients) {
    let [cert, key] = pair.write(folder, "server");
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let process = Process::start(database, folder, &[&tls, more].concat());
    let channel =
        eventually("the server accepts connections", async || connect(&process, client.clone()).await.ok())
            .await;
    serving(&channel).await;
    (process, Clients::of(channel))
}

/// Runs `tope usage acme` with these arguments, and returns the exit code and what it printed.
async fn usage(target: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tope();
    command.args(["usage", "acme", "--target", target]).args(arguments);
    let output = run(command).await;
    (output.status.code(), said(&output))
}

async fn is_refused(target: &str, arguments: &[&str], code: i32, words: &[&str]) {
    let (exit, text) = usage(target, arguments).await;
    assert_eq!(exit, Some(code), "{target} {arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{target} {arguments:?}: {word}: {text}");
    }
}

on_both! {
    async fn calls_are_answered_over_tls(kind: Kind) {
        let (database, ca) = (Database::fresh(kind), Ca::new("ca"));
        let http = format!("127.0.0.1:{}", free_port());
        let folder = database.path("");
        let (process, clients) =
            serve(database.url(), &folder, &ca.server(), ca.trusted(), &["--http", &http]).await;
        clients.tenant_with("acme", &[day("tokens", 100)]).await;
        clients.reserve("acme").tokens(60).await.expect("there is quota");
        clients.reserve("acme").tokens(60).await.expect_err("40 are left").is_quota(&["day"]);
        for version in [&TLS12, &TLS13] {
            let stream = handshake(process.address(), &ca, &[version]).await.expect("it is spoken");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        }
        let (_, page) = get(http.parse().expect("an address"), "/metrics").await;
        let expiry = "\ntope_tls_certificate_expiry_timestamp_seconds 67090118400\n";
        assert!(page.contains(expiry), "{page}");

        let ca_file = write(&folder, "ca.pem", &ca.pem());
        let targets =
            [format!("https://{}", process.address()), format!("https://localhost:{}", process.address().port())];
        for target in targets {
            let (exit, text) = usage(&target, &["--ca", &ca_file]).await;
            assert!(exit == Some(0) && text.contains("60"), "{target}: {text}");
        }
        let mut command = Command::new(tool("TOPE_TEST_GRPCURL"));
        command.args(["-cacert", &ca_file, &process.address().to_string(), "list"]);
        let listed = run(command).await;
        assert!(said(&listed).contains("tope.v1.QuotaService"), "{}", said(&listed));
        process.stop().await;
    }

    /// Clients call on one connection and on new ones, while certificate, key and CA are replaced again and again.
    async fn no_call_fails_while_the_files_are_replaced(kind: Kind) {
        let (database, ca) = (Database::fresh(kind), Ca::new("ca"));
        let folder = database.path("");
        let (process, clients) = serve(database.url(), &folder, &ca.server(), ca.trusted(), &[]).await;
        clients.tenant_with("acme", &[day("tokens", 1_000_000)]).await;
        let stop = tokio_util::sync::CancellationToken::new();
        let same = async {
            let mut calls = 0;
            while !stop.is_cancelled() {
                clients.record("acme").tokens(1).await.expect("the connection stays open");
                calls += 1;
            }
            calls
        };
        let new = async {
            let mut calls = 0;
            while !stop.is_cancelled() {
                let channel = connect(&process, ca.trusted()).await.expect("one of the certificates is served");
                Clients::of(channel).record("acme").tokens(1).await.expect("it is recorded");
                calls += 1;
            }
            calls
        };
        let replace = async {
            for round in 0..6 {
                let pair = ca.server();
                pair.write(&folder, "server");
                // In the last round the server notices the change by itself.
                if round < 5 {
                    process.signal("HUP");
                }
                eventually("new connections get the new certificate", async || {
                    let stream = handshake(process.address(), &ca, ALL_VERSIONS).await.expect("it is spoken");
                    let served = stream.get_ref().1.peer_certificates().expect("there is one").to_vec();
                    (served[0] == pair.der()).then_some(())
                })
                .await;
            }
            stop.cancel();
        };
        let (same, new, ()) = tokio::join!(same, new, replace);
        assert!(same > 20 && new > 20, "{same} calls on one connection, {new} on new ones");
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_files_that_are_wrong_leave_the_old_ones_in_use() {
    let (folder, ca) = (scratch_folder(), Ca::new("ca"));
    let url = sqlite_url(&folder.path().join("tope.db"));
    let first = ca.server();
    let (process, clients) = serve(&url, folder.path(), &first, ca.trusted(), &[]).await;
    let names = ["localhost", "127.0.0.1"];
    let (other, old) = (ca.server(), ca.issue(&names, [2001, 2002]));
    let wrong = [
        (Pair { cert: other.cert.clone(), key: first.key.clone() }, "whose key does not fit the certificate"),
        (Pair { cert: "x".to_owned(), key: first.key.clone() }, "is not PEM"),
        (old, "has expired on 2002-01-01 00:00:00 UTC"),
        (ca.issue(&names, [4001, 4002]), "is not valid before 4001-01-01 00:00:00 UTC"),
    ];
    for (pair, word) in wrong {
        pair.write(folder.path(), "server");
        process.signal("HUP");
        eventually(word, async || process.log().contains(word).then_some(())).await;
        let stream = handshake(process.address(), &ca, ALL_VERSIONS).await.expect("it is spoken");
        assert_eq!(stream.get_ref().1.peer_certificates().expect("there is one")[0], first.der());
    }
    assert!(process.log().contains("the old ones stay in use"), "{}", process.log());
    clients.resource("tokens").await.expect("the connection stays open");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_start_with_wrong_files() {
    let (folder, ca) = (scratch_folder(), Ca::new("ca"));
    let [cert, key] = ca.server().write(folder.path(), "server");
    let [_, other] = ca.server().write(folder.path(), "other");
    let text = write(folder.path(), "text", "no PEM");
    let rows: [(&[&str], &str); 7] = [
        (&["--tls-cert", &cert], "tls_cert is set, but tls_key is not"),
        (&["--tls-key", &key], "tls_key is set, but tls_cert is not"),
        (&["--tls-client-ca", &cert], "tls_client_ca is set, but tls_cert and tls_key are not"),
        (
            &["--tls-cert", "/nowhere/c.pem", "--tls-key", &key],
            "tls_cert names /nowhere/c.pem, which does not exist",
        ),
        (
            &["--tls-cert", &cert, "--tls-key", &other],
            "other.key.pem, whose key does not fit the certificate in ",
        ),
        (&["--tls-cert", &cert, "--tls-key", &cert], "server.cert.pem, which contains no private key"),
        (&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &text], "which is not PEM"),
    ];
    for (arguments, want) in rows {
        let mut command = tope();
        let url = sqlite_url(&folder.path().join("tope.db"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database", &url]).args(arguments);
        let output = run(command).await;
        assert!(said(&output).contains(want), "{arguments:?}: {}", said(&output));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
    }
    assert!(!folder.path().join("tope.db").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_says_why_it_does_not_trust_a_server() {
    let (folder, ca, stranger) = (scratch_folder(), Ca::new("ca"), Ca::new("stranger"));
    let ca_file = write(folder.path(), "ca.pem", &ca.pem());
    let others = write(folder.path(), "stranger.pem", &stranger.pem());
    let servers = [
        (ca.issue(&["tope.internal"], VALID), &ca_file, "is not for 127.0.0.1"),
        (ca.issue(&["127.0.0.1"], [2001, 2002]), &ca_file, "expired"),
        (ca.server(), &others, "not from a CA that this command trusts"),
    ];
    for (number, (pair, trusted, word)) in servers.iter().enumerate() {
        let [cert, key] = pair.write(folder.path(), &format!("server-{number}"));
        let url = sqlite_url(&folder.path().join(format!("{number}.db")));
        let process = Process::start(&url, folder.path(), &["--tls-cert", &cert, "--tls-key", &key]);
        eventually("it listens", async || TcpStream::connect(process.address()).await.ok()).await;
        let target = format!("https://{}", process.address());
        is_refused(&target, &["--ca", trusted], 4, &["certificate of the server", word]).await;
        let expired = process.log().contains("has expired on 2002-01-01 00:00:00 UTC");
        assert_eq!(expired, *word == "expired", "{}", process.log());
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_no_tls_are_distinguished() {
    let (folder, ca) = (scratch_folder(), Ca::new("ca"));
    let ca_file = write(folder.path(), "ca.pem", &ca.pem());
    let url = |name: &str| sqlite_url(&folder.path().join(name));
    let (plain, _) = Process::serving(&url("plain.db"), folder.path(), &["--demo"]).await;
    let (secret, clients) = serve(&url("tls.db"), folder.path(), &ca.server(), ca.trusted(), &[]).await;
    let (plain_address, address) = (plain.address().to_string(), secret.address().to_string());
    is_refused(
        &format!("https://{plain_address}"),
        &["--ca", &ca_file],
        4,
        &["does not speak TLS", "http://"],
    )
    .await;
    is_refused(&format!("http://{address}"), &[], 4, &["it speaks TLS", &format!("https://{address}")]).await;
    is_refused(&address, &[], 4, &["it speaks TLS"]).await;
    is_refused(&address, &["--ca", &ca_file], 2, &["--ca", "https://"]).await;
    is_refused(&format!("https://{address}"), &["--ca", "/nowhere.pem"], 2, &["/nowhere.pem", "--ca"]).await;
    is_refused(&format!("https://{address}"), &["--client-cert", &ca_file], 2, &["--client-key"]).await;

    // A client without TLS is closed, and no other client notices.
    let mut socket = TcpStream::connect(secret.address()).await.expect("it listens");
    socket.write_all(&[PREFACE, SETTINGS].concat()).await.expect("it is taken");
    let mut rest = Vec::new();
    let _ = timeout(BOUND, socket.read_to_end(&mut rest)).await.expect("it is closed in time");
    clients.resource("tokens").await.expect("others are served");
    assert!(!secret.log().contains("handshake"), "it is logged at DEBUG: {}", secret.log());
    secret.stop().await;
    plain.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_need_a_certificate_if_the_server_has_a_ca_for_them() {
    let (folder, ca, clients_ca, stranger) =
        (scratch_folder(), Ca::new("ca"), Ca::new("clients"), Ca::new("stranger"));
    let client_ca = write(folder.path(), "clients.pem", &clients_ca.pem());
    let right = clients_ca.issue(&["backend"], VALID);
    let url = sqlite_url(&folder.path().join("tope.db"));
    let trusted = ca.trusted().identity(right.identity());
    let more = ["--demo", "--tls-client-ca", &client_ca];
    let (process, clients) = serve(&url, folder.path(), &ca.server(), trusted, &more).await;
    clients.reserve("acme").tokens(1).await.expect("the certificate is right");

    let (old, foreign) = (clients_ca.issue(&["backend"], [2001, 2002]), stranger.issue(&["backend"], VALID));
    for tls in
        [ca.trusted(), ca.trusted().identity(old.identity()), ca.trusted().identity(foreign.identity())]
    {
        // In TLS 1.3 the handshake of the client ends before the server refuses its certificate.
        if let Ok(channel) = connect(&process, tls).await {
            let no =
                Clients::of(channel).reserve("acme").tokens(1).await.expect_err("the certificate is wrong");
            assert_ne!(no.code, tonic::Code::Ok, "{no:?}");
        }
    }

    let target = format!("https://{}", process.address());
    let ca_file = write(folder.path(), "ca.pem", &ca.pem());
    let trust = ["--ca", &ca_file];
    is_refused(&target, &trust, 4, &["asks for a certificate", "--client-cert"]).await;
    for (name, pair, alert) in [("old", &old, "CertificateExpired"), ("foreign", &foreign, "UnknownCA")] {
        let [cert, key] = pair.write(folder.path(), name);
        let arguments = [&trust[..], &["--client-cert", &cert, "--client-key", &key]].concat();
        is_refused(&target, &arguments, 4, &["refuses the certificate of --client-cert", alert]).await;
    }
    let [cert, key] = right.write(folder.path(), "right");
    let arguments = [&trust[..], &["--client-cert", &cert, "--client-key", &key]].concat();
    let (exit, text) = usage(&target, &arguments).await;
    assert_eq!(exit, Some(0), "{text}");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_silent_or_does_not_read_is_closed_with_tls_too() {
    let (folder, ca) = (scratch_folder(), Ca::new("ca"));
    let url = sqlite_url(&folder.path().join("tope.db"));
    let (process, clients) = serve(&url, folder.path(), &ca.server(), ca.trusted(), &[]).await;
    let begun = Instant::now();
    let mut sockets = Vec::new();
    // The second begins as a handshake does.
    for first in [&b""[..], b"\x16\x03\x01\x02\0\x01"] {
        let mut socket = TcpStream::connect(process.address()).await.expect("it listens");
        socket.write_all(first).await.expect("it is taken");
        sockets.push(socket);
    }
    let closed = join_all(sockets.iter_mut().map(async |socket| {
        let mut rest = Vec::new();
        // The server closes the socket or resets it.
        let _ = timeout(BOUND, socket.read_to_end(&mut rest)).await.expect("it is closed in time");
    }));
    let silent = async {
        // The handshake ends, and no preface comes.
        let mut stream = handshake(process.address(), &ca, ALL_VERSIONS).await.expect("it is spoken");
        let mut rest = Vec::new();
        let _ = timeout(BOUND, stream.read_to_end(&mut rest)).await.expect("it is closed in time");
    };
    let deaf = async {
        let mut stream = handshake(process.address(), &ca, ALL_VERSIONS).await.expect("it is spoken");
        stream.write_all(&[PREFACE, SETTINGS].concat()).await.expect("it is taken");
        let pings = PING.repeat(1_000);
        let cut = timeout(3 * BOUND, async { while stream.write_all(&pings).await.is_ok() {} });
        assert!(cut.await.is_ok(), "it is still open");
    };
    tokio::join!(closed, silent, deaf);
    assert!(begun.elapsed() > Duration::from_secs(9), "they had time: {:?}", begun.elapsed());
    clients.resource("tokens").await.expect("others are served");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_without_tls_cause_a_warning_where_other_machines_can_connect() {
    let (folder, ca) = (scratch_folder(), Ca::new("ca"));
    let [cert, key] = ca.server().write(folder.path(), "server");
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    for (name, tls, warned) in [("plain", &[][..], true), ("tls", &tls[..], false)] {
        let log = folder.path().join(format!("{name}.log"));
        let mut command = tope();
        let (listen, url) = (format!("0.0.0.0:{}", free_port()), sqlite_url(&folder.path().join(name)));
        command.args(["serve", "--auth", "keys", "--listen", &listen, "--database", &url]).args(tls);
        let file = fs::File::create(&log).expect("the folder can be written to");
        let mut child = command.stderr(file).spawn().expect("the binary can be started");
        let text = eventually("it is ready", async || {
            let text = fs::read_to_string(&log).expect("the file exists");
            text.contains("the server is ready").then_some(text)
        })
        .await;
        child.kill().expect("it runs");
        child.wait().expect("the process is our child");
        assert_eq!(text.contains("can read keys"), warned, "{text}");
    }
}

/// So the bench can measure what keys and TLS cost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bench_calls_a_server_with_keys_and_tls() {
    let (database, ca) = (Database::fresh(Kind::Sqlite), Ca::new("ca"));
    let folder = database.path("");
    let mut create = tope();
    create.args(["keys", "create", "--role", "admin", "--database", database.url()]);
    let created = run(create).await;
    let key_file = write(&folder, "key", &String::from_utf8(created.stdout).expect("text"));
    let ca_file = write(&folder, "ca.pem", &ca.pem());
    let [cert, key] = ca.server().write(&folder, "server");
    let arguments = ["--auth", "keys", "--tls-cert", &cert, "--tls-key", &key];
    let process = Process::start(database.url(), &folder, &arguments);
    eventually("the server accepts connections", async || connect(&process, ca.trusted()).await.ok()).await;
    let target = format!("https://{}", process.address());
    let bench = |more: &[&str]| {
        let mut bench = tope();
        bench
            .args(["bench", "--target", &target, "--tenants", "2", "--rounds", "1", "--seconds", "1"])
            .args(more);
        run(bench)
    };
    let measured = bench(&["--key-file", &key_file, "--ca", &ca_file]).await;
    assert!(measured.status.success() && said(&measured).contains("rpc/s"), "{}", said(&measured));
    let without = bench(&["--ca", &ca_file]).await;
    assert!(!without.status.success() && said(&without).contains("KEY_MISSING"), "{}", said(&without));
    let distrusted = bench(&["--key-file", &key_file]).await;
    assert!(!distrusted.status.success() && said(&distrusted).contains("--ca"), "{}", said(&distrusted));
    process.stop().await;
}
