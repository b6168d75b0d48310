//! The calls of one connection, run in the connection's own task.
//!
//! hyper hands each call to an executor. As tasks of the runtime, calls that a batch has answered would be scheduled and
//! wake the connection one by one; here all of them run, and then the connection writes what they have answered. A call
//! does no more than convert and wait, so one does not hold up the others.
//!
//! A call that streams ends by itself when the server does, as long as its client reads. When the client's window is
//! used up, hyper waits for room and asks the call for nothing more; so such calls are dropped a moment later, and HTTP/2
//! tells the client of it with RST_STREAM, which needs no room.

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

use super::{
    room::{PERIOD, Share},
    rpc::Rpc,
};

type Call = BoxFuture<'static, ()>;

/// How long a connection without calls may take to end in order, once streams were dropped.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Where hyper leaves the calls of one connection.
#[derive(Clone)]
pub(super) struct Inbox(Arc<Arrivals>);

struct Arrivals {
    calls: Mutex<Vec<Call>>,
    /// Whether the next one streams: hyper asks the service for a call and executes it at once.
    streams: AtomicBool,
    /// When streams are dropped.
    cut: CancellationToken,
    share: Arc<Share>,
}

impl Inbox {
    /// One whose streaming calls are dropped when `cut` is cancelled.
    pub(super) fn new(cut: CancellationToken, share: Arc<Share>) -> Self {
        Self(Arc::new(Arrivals { calls: Mutex::default(), streams: AtomicBool::new(false), cut, share }))
    }

    /// Says what the next call is.
    pub(super) fn announce(&self, path: &str) {
        if Rpc::of(path).streams() {
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

/// A connection, and its calls. Its output is none when it was given up.
pub(super) struct WithCalls<C> {
    connection: Pin<Box<C>>,
    inbox: Inbox,
    /// Empty between polls; it keeps its room.
    arrived: Vec<Call>,
    running: FuturesUnordered<Call>,
    /// Since streams are dropped and no call runs.
    idle: Option<Pin<Box<Sleep>>>,
    /// While there are replies that the client has not taken: when their age is looked at next.
    look: Option<Pin<Box<Sleep>>>,
}

impl<C> WithCalls<C> {
    /// The connection that leaves its calls in `inbox`.
    pub(super) fn new(connection: C, inbox: Inbox) -> Self {
        Self {
            connection: Box::pin(connection),
            inbox,
            arrived: Vec::new(),
            running: FuturesUnordered::new(),
            idle: None,
            look: None,
        }
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C> WithCalls<C> {
    /// Whether it has had no calls for long enough, now that streams are dropped: what it still has to write, its client
    /// does not take.
    fn is_idle(&mut self, context: &mut Context<'_>) -> bool {
        if !self.inbox.0.cut.is_cancelled() || !self.running.is_empty() {
            return false;
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE_MAX)));
        idle.as_mut().poll(context).is_ready()
    }

    /// Whether its client has not taken a reply in time. HTTP/2 has no way to take back what it was given, but to end.
    fn is_stuck(&mut self, context: &mut Context<'_>) -> bool {
        let share = &self.inbox.0.share;
        if !share.has_untaken() {
            self.look = None;
            return false;
        }
        loop {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(PERIOD)));
            if look.as_mut().poll(context).is_pending() {
                return false;
            }
            self.look = None;
            if share.turn() {
                tracing::info!("closing a connection whose client does not take its replies");
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
            // It reads what has come, and writes what the calls have answered.
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
