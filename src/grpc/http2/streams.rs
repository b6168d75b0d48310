//! The calls of one connection, run in the connection's own task.
//!
//! hyper hands each call to an executor. If calls were tasks of the runtime, the calls that a batch has answered would
//! be scheduled one by one, and each call would wake the connection. Here all of these calls run first, and then the
//! connection writes their replies. A call only converts messages and waits, so a call does not delay other calls.
//!
//! When the server shuts down, a call that streams ends by itself if its client reads. If the client's window is used
//! up, hyper waits for the window and does not poll the call. So the server drops such calls a moment later. HTTP/2
//! then sends RST_STREAM to the client, which needs no window.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::rt::Executor;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::room::{PERIOD, Share};

type Call = BoxFuture<'static, ()>;

/// Maximum time for which a connection without calls may stay open after streams were dropped.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// The executor to which hyper hands the calls of one connection.
#[derive(Clone)]
pub(super) struct Inbox(Arc<Arrivals>);

struct Arrivals {
    calls: Mutex<Vec<Call>>,
    /// Whether the next call streams. hyper gets a call from the service, and hands it to the executor at once.
    streams: AtomicBool,
    /// When this token is cancelled, calls that stream are dropped.
    cut: CancellationToken,
    share: Arc<Share>,
}

impl Inbox {
    /// Makes an inbox whose streaming calls are dropped when `cut` is cancelled.
    pub(super) fn new(cut: CancellationToken, share: Arc<Share>) -> Self {
        Self(Arc::new(Arrivals { calls: Mutex::default(), streams: AtomicBool::new(false), cut, share }))
    }

    /// Reports whether the next call streams.
    pub(super) fn announce(&self, streams: bool) {
        if streams {
            self.0.streams.store(true, Ordering::Relaxed);
        }
    }
}

impl<F> Executor<F> for Inbox
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let call: Call = if self.0.streams.load(Ordering::Relaxed) {
            self.0.streams.store(false, Ordering::Relaxed);
            let cut = self.0.cut.clone();
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = call => {}
                    () = cut.cancelled() => {}
                }
            })
        } else {
            Box::pin(call)
        };
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// A connection and its calls. The output of the future is `None` if the server closed the connection because the
/// client did not read.
pub(super) struct WithCalls<C> {
    connection: Pin<Box<C>>,
    inbox: Inbox,
    /// Calls that arrived during a poll. Between polls the list is empty, and only its memory is kept.
    arrived: Vec<Call>,
    running: FuturesUnordered<Call>,
    /// The timer that runs after streams were dropped, while no call runs.
    idle: Option<Pin<Box<Sleep>>>,
    /// The timer of the next check of the age of replies. The timer runs while there are replies that the client has
    /// not taken.
    check: Option<Pin<Box<Sleep>>>,
}

impl<C> WithCalls<C> {
    /// Makes the connection that hands its calls to `inbox`.
    pub(super) fn new(connection: C, inbox: Inbox) -> Self {
        Self {
            connection: Box::pin(connection),
            inbox,
            arrived: Vec::new(),
            running: FuturesUnordered::new(),
            idle: None,
            check: None,
        }
    }

    /// Returns the connection itself, without its calls.
    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C> WithCalls<C> {
    /// Returns whether the connection has had no calls for [`IDLE_MAX`] after streams were dropped. Such a connection
    /// is still open only because its client does not take the last bytes.
    fn is_idle(&mut self, context: &mut Context<'_>) -> bool {
        if !self.inbox.0.cut.is_cancelled() || !self.running.is_empty() {
            return false;
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE_MAX)));
        idle.as_mut().poll(context).is_ready()
    }

    /// Returns true if the client has not taken a reply in time. The only way to discard bytes that HTTP/2 has buffered
    /// is to close the connection.
    fn is_stuck(&mut self, context: &mut Context<'_>) -> bool {
        let share = &self.inbox.0.share;
        if !share.has_untaken() {
            self.check = None;
            return false;
        }
        loop {
            let check = self.check.get_or_insert_with(|| Box::pin(sleep(PERIOD)));
            if check.as_mut().poll(context).is_pending() {
                return false;
            }
            self.check = None;
            if share.turn() {
                tracing::info!("closing a connection whose client does not read its replies");
                return true;
            }
        }
    }
}

impl<C: Future> Future for WithCalls<C> {
    type Output = Option<C::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<C::Output>> {
        let this = &mut *self;
        loop {
            while let Poll::Ready(Some(())) = this.running.poll_next_unpin(context) {}
            // The connection reads the bytes that have arrived, and writes the replies of the calls.
            if let Poll::Ready(served) = this.connection.as_mut().poll(context) {
                return Poll::Ready(Some(served));
            }
            mem::swap(
                &mut this.arrived,
                &mut *this.inbox.0.calls.lock().unwrap_or_else(PoisonError::into_inner),
            );
            if this.arrived.is_empty() {
                let given_up = this.is_stuck(context) || this.is_idle(context);
                return if given_up { Poll::Ready(None) } else { Poll::Pending };
            }
            this.running.extend(this.arrived.drain(..));
        }
    }
}
