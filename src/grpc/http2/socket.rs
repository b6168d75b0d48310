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
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::room::Share;

/// An accepted connection is closed if the client's preface and SETTINGS have not arrived after this time.
pub(super) const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is closed if bytes wait to be sent and its client takes no bytes for this time.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Size of the preface, which the client sends first. The header of its first frame, which is SETTINGS, follows.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const FIRST_BYTES: usize = PREFACE_BYTES + FRAME_HEADER_BYTES;

/// A socket that does not offer vectored writes. So h2 copies short frames into one buffer, and many replies need only
/// one system call. With vectored writes, h2 would write each message of 256 bytes or more separately.
///
/// While the client takes no bytes, the server reads nothing from the socket. So a client that does not read cannot ask
/// for more replies.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// The client's preface and SETTINGS. `None` after both have arrived.
    greeting: Option<Greeting>,
    /// The timer that runs while the client takes no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Greeting {
    share: Arc<Share>,
    timer: Pin<Box<Sleep>>,
    heard: usize,
    first: [u8; FIRST_BYTES],
}

impl Socket {
    /// Makes the socket of a connection that was just accepted.
    pub(super) fn new(stream: TcpStream, share: Arc<Share>) -> Self {
        let timer = Box::pin(sleep(GREETING_TIMEOUT));
        let greeting = Greeting { share, timer, heard: 0, first: [0; FIRST_BYTES] };
        Self { stream, greeting: Some(greeting), stalled: None }
    }

    /// Handles the outcome of a write. Fails if the client has taken no bytes for [`WRITE_TIMEOUT`].
    fn written<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
            return timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        if self.stalled.take().is_some() {
            // While the write waited, nothing was read. So the task is woken to read again.
            context.waker().wake_by_ref();
        }
        outcome
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
        if this.stalled.is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
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
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
