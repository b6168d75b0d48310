//! A server that systemd starts with `Type=notify` reports when it is ready and when it stops.

use std::{
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram as Blocking},
    },
    time::Duration,
};

use tokio::{
    net::{TcpStream, UnixDatagram},
    time::timeout,
};

use crate::harness::{process::tope, *};

async fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 1_000];
    let length =
        timeout(wait::PATIENCE, socket.recv(&mut buffer)).await.expect("in time").expect("a datagram");
    String::from_utf8(buffer[..length].to_vec()).expect("text")
}

/// Listens like systemd, and returns the value of NOTIFY_SOCKET.
fn listen(address: &SocketAddr) -> (UnixDatagram, OsString) {
    let socket = Blocking::bind_addr(address).expect("the name is free");
    socket.set_nonblocking(true).expect("a socket");
    let name = match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => path.as_os_str().to_owned(),
        (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)).into(),
        (None, None) => panic!("an address without a name"),
    };
    (UnixDatagram::from_std(socket).expect("inside of a runtime"), name)
}

async fn assert_reports(address: &SocketAddr) {
    let (socket, name) = listen(address);
    let database = Database::fresh(Kind::Sqlite);
    let mut command = tope();
    command.env("NOTIFY_SOCKET", name);
    let arguments = ["--drain-seconds", "100"];
    let mut process = Process::start_as(command, database.url(), &database.path(""), &arguments);
    let ready = receive(&socket).await;
    assert_eq!(ready, format!("READY=1\nSTATUS=listening on {}", process.address()));
    TcpStream::connect(process.address()).await.expect("a server that is ready listens");
    process.signal("TERM");
    // It ends ten seconds after drain_seconds at the latest.
    let asked = Duration::from_secs(110).as_micros();
    let stopping = receive(&socket).await;
    assert_eq!(stopping, format!("STOPPING=1\nSTATUS=shutting down\nEXTEND_TIMEOUT_USEC={asked}"));
    assert!(process.ended().await.success(), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_gets_a_report_when_the_server_is_ready_and_when_it_stops() {
    // The path of a socket must be short, and that of the folder of the build may be long.
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = SocketAddr::from_pathname(folder.path().join("notify")).expect("a short path");
    let unnamed = format!("tope-test-{}", std::process::id());
    let unnamed = SocketAddr::from_abstract_name(unnamed).expect("a short name");
    tokio::join!(assert_reports(&path), assert_reports(&unnamed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_serves_although_nobody_listens_to_its_reports() {
    for name in ["/nowhere/notify", "@tope-test-nobody", "notify"] {
        let database = Database::fresh(Kind::Sqlite);
        let mut command = tope();
        command.env("NOTIFY_SOCKET", name);
        let process = Process::start_as(command, database.url(), &database.path(""), &["--demo"]);
        let channel = process.connect().await;
        clients::serving(&channel).await;
        Clients::of(channel).reserve("acme").tokens(1).await.expect("it serves");
        let log = process.log();
        assert!(log.contains("NOTIFY_SOCKET") && log.contains(name), "the log names the socket: {log}");
        process.stop().await;
    }
}
