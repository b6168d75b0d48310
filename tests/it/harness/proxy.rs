//! A network before PostgreSQL that fails when a test says so.

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

/// What PostgreSQL says when a transaction lasts, and what it is asked before.
const COMMITTED: &[u8] = b"COMMIT\0";

/// Bytes that are kept to be searched: what is sought may come in pieces.
const KEPT: usize = 64 * 1024;

/// The network. Connections through it end with it.
pub struct Proxy {
    url: String,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// The next COMMIT on a connection on which this was said gets no answer.
    sought: Mutex<Option<String>>,
    lost: AtomicUsize,
    silent: watch::Sender<bool>,
}

impl Proxy {
    /// Before the database of this URL.
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

    /// Where the database is, through it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Cuts the connection on which this text is written, when the database has committed it and before it says so.
    pub fn lose_commit_of(&self, text: &str) {
        *self.faults.sought.lock().expect("nobody panics with it") = Some(text.to_owned());
    }

    /// How many answers were lost.
    pub fn lost(&self) -> usize {
        self.faults.lost.load(Ordering::SeqCst)
    }

    /// Carries nothing more, and closes nothing.
    pub fn fall_silent(&self) {
        self.faults.silent.send_replace(true);
    }
}

async fn carry(client: TcpStream, port: u16, faults: Arc<Faults>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((asked, answer), (answered, ask)) = (client.into_split(), server.into_split());
    let marked = watch::Sender::new(false);
    let asks = pass(asked, ask, &faults, |heard| {
        let sought = faults.sought.lock().expect("nobody panics with it");
        if sought.as_ref().is_some_and(|text| contains(heard, text.as_bytes())) {
            marked.send_replace(true);
        }
        true
    });
    let answers = pass(answered, answer, &faults, |heard| {
        let lost = *marked.borrow()
            && contains(heard, COMMITTED)
            && faults.sought.lock().expect("nobody panics with it").take().is_some();
        faults.lost.fetch_add(usize::from(lost), Ordering::SeqCst);
        !lost
    });
    // Both ends are closed when this returns.
    tokio::select! {
        () = asks => {}
        () = answers => {}
    }
}

/// Carries bytes one way, until the end or until `look` says no.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: &Faults,
    mut look: impl FnMut(&[u8]) -> bool,
) {
    let (mut bytes, mut heard) = (vec![0; KEPT], Vec::new());
    let mut silent = faults.silent.subscribe();
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if silent.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        heard.extend_from_slice(&bytes[..count]);
        heard.drain(..heard.len().saturating_sub(KEPT));
        if !look(&heard) || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

fn contains(heard: &[u8], sought: &[u8]) -> bool {
    heard.windows(sought.len()).any(|bytes| bytes == sought)
}
