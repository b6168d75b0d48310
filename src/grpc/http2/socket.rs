//! A socket that joins writes, and closes a connection whose client does not send its preface or does not read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;

use super::{room::Share, tcp::Tcp};

/// An accepted connection is closed if the handshake of TLS, the client's preface and SETTINGS have not arrived after
/// this time.
pub(super) const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Size of the preface, which the client sends first. The header of its first frame, which is SETTINGS, follows.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const FIRST_BYTES: usize = PREFACE_BYTES + FRAME_HEADER_BYTES;

/// A socket that does not offer vectored writes. So h2 copies short frames into one buffer, and many replies need only
/// one system call, and with TLS one record. With vectored writes, h2 would write each message of 256 bytes or more
/// separately.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    /// The client's preface and SETTINGS. `None` after both have arrived.
    greeting: Option<Greeting>,
}

/// The way of a connection's bytes. The choice is an enum, so that a connection without TLS pays only for one
/// comparison per read and write.
#[derive(Debug)]
pub(super) enum Stream {
    /// The bytes go over TCP as they are.
    Plain(Tcp),
    /// The bytes are encrypted.
    Tls(Box<TlsStream<Tcp>>),
}

#[derive(Debug)]
struct Greeting {
    share: Arc<Share>,
    timer: Pin<Box<Sleep>>,
    heard: usize,
    first: [u8; FIRST_BYTES],
}

impl Socket {
    /// Makes the socket of a new connection. Its client must have sent the preface and SETTINGS until `greeted_until`.
    pub(super) fn new(stream: Stream, share: Arc<Share>, greeted_until: Instant) -> Self {
        let timer = Box::pin(sleep_until(greeted_until));
        let greeting = Greeting { share, timer, heard: 0, first: [0; FIRST_BYTES] };
        Self { stream, greeting: Some(greeting) }
    }
}

impl Greeting {
    /// Counts these bytes. Returns whether the whole preface and the whole SETTINGS have arrived.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        if let Some(rest) = self.first.get_mut(self.heard..) {
            let count = rest.len().min(bytes.len());
            rest[..count].copy_from_slice(&bytes[..count]);
        }
        self.heard += bytes.len();
        let [.., high, middle, low, _, _, _, _, _, _] = self.first;
        let settings = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.heard >= FIRST_BYTES + settings
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        };
        if let Some(greeting) = &mut this.greeting {
            if greeting.hear(&buffer.filled()[before..]) {
                greeting.share.greet();
                this.greeting = None;
            } else if greeting.timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
