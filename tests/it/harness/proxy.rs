//! A proxy between a server and PostgreSQL. It can make the network fail, and it counts statements.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::postgres;

/// The message with which PostgreSQL says that it is ready, and in no transaction: after a COMMIT, or after a statement
/// that is a transaction of its own.
const COMMITTED: &[u8] = b"Z\0\0\0\x05I";

/// Number of the latest bytes that the proxy keeps and searches, since a text may arrive in pieces.
const KEPT: usize = 64 * 1024;

/// The version of the protocol, with which the first message of a client begins that is not about encryption.
const PROTOCOL: [u8; 4] = [0, 3, 0, 0];

/// The proxy. It listens on a free port of loopback.
pub struct Proxy {
    url: String,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// After this text was sent on a connection, the proxy drops the next answer to a COMMIT on this connection.
    sought: Mutex<Option<String>>,
    lost: AtomicUsize,
    /// Statements that were sent on all connections.
    statements: AtomicUsize,
    silent: watch::Sender<bool>,
}

impl Proxy {
    /// Starts a proxy for the database with this URL.
    pub async fn before(url: &str) -> Self {
        let (server, database) = url.rsplit_once('/').expect("the URL names a database");
        let (_, port) = server.rsplit_once(':').expect("the URL names a port");
        let port: u16 = port.parse().expect("a port");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let url = postgres::url(listener.local_addr().expect("it is bound").port(), database);
        let faults = Arc::<Faults>::default();
        tokio::spawn({
            let faults = Arc::clone(&faults);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(carry(client, port, Arc::clone(&faults)));
                }
            }
        });
        Self { url, faults }
    }

    /// Returns the URL of the database through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Closes the connection on which this text is sent, after the database has committed and before the client gets
    /// the answer.
    pub fn lose_commit_of(&self, text: &str) {
        *self.faults.sought.lock().expect("the lock is not poisoned") = Some(text.to_owned());
    }

    /// Returns how many answers to COMMIT the proxy has dropped.
    pub fn lost(&self) -> usize {
        self.faults.lost.load(Ordering::SeqCst)
    }

    /// Returns how many statements were sent on all connections, BEGIN and COMMIT included.
    pub fn statements(&self) -> usize {
        self.faults.statements.load(Ordering::SeqCst)
    }

    /// Stops all traffic, and leaves the connections open.
    pub fn fall_silent(&self) {
        self.faults.silent.send_replace(true);
    }
}

async fn carry(client: TcpStream, port: u16, faults: Arc<Faults>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((asked, answer), (answered, ask)) = (client.into_split(), server.into_split());
    let marked = watch::Sender::new(false);
    let mut messages = Messages::default();
    let asks = pass(asked, ask, &faults, |heard, new| {
        let statements = messages.count_statements(&heard[heard.len() - new..]);
        faults.statements.fetch_add(statements, Ordering::SeqCst);
        let sought = faults.sought.lock().expect("the lock is not poisoned");
        if sought.as_ref().is_some_and(|text| contains(heard, text.as_bytes())) {
            marked.send_replace(true);
        }
        true
    });
    let answers = pass(answered, answer, &faults, |heard, _| {
        if !*marked.borrow() {
            // Answers to earlier statements do not count.
            heard.clear();
        }
        let lost = contains(heard, COMMITTED)
            && faults.sought.lock().expect("the lock is not poisoned").take().is_some();
        faults.lost.fetch_add(usize::from(lost), Ordering::SeqCst);
        !lost
    });
    // When this function returns, both connections are dropped, and so closed.
    tokio::select! {
        () = asks => {}
        () = answers => {}
    }
}

/// Copies bytes in one direction, until the connection ends or `inspect` returns false. `inspect` gets the latest bytes,
/// and the number of those that are new.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: &Faults,
    mut inspect: impl FnMut(&mut Vec<u8>, usize) -> bool,
) {
    let (mut bytes, mut heard) = (vec![0; KEPT], Vec::new());
    let mut silent = faults.silent.subscribe();
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if silent.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        heard.extend_from_slice(&bytes[..count]);
        heard.drain(..heard.len().saturating_sub(KEPT));
        if !inspect(&mut heard, count) || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// The messages that a client sends on a connection.
#[derive(Default)]
struct Messages {
    /// Whether the first message of the protocol was sent. Messages before it, and it itself, have no kind.
    begun: bool,
    /// The bytes of a message that is not complete yet.
    pending: Vec<u8>,
}

impl Messages {
    /// Takes more bytes, and returns how many messages that run a statement they complete.
    fn count_statements(&mut self, bytes: &[u8]) -> usize {
        self.pending.extend_from_slice(bytes);
        let mut count = 0;
        loop {
            let kind = usize::from(self.begun);
            let Some((length, _)) = self.pending.get(kind..).and_then(<[u8]>::split_first_chunk::<4>) else {
                return count;
            };
            let end = kind + usize::try_from(u32::from_be_bytes(*length)).expect("it fits");
            if self.pending.len() < end {
                return count;
            }
            if self.begun {
                // Execute, or a simple query.
                count += usize::from(matches!(self.pending[0], b'E' | b'Q'));
            } else {
                self.begun = self.pending[4..end].starts_with(&PROTOCOL);
            }
            self.pending.drain(..end);
        }
    }
}

fn contains(heard: &[u8], sought: &[u8]) -> bool {
    heard.windows(sought.len()).any(|bytes| bytes == sought)
}
