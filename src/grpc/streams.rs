//! The calls of one connection, run in the connection's own task.
//!
//! hyper hands each call to an executor. As tasks of the runtime, calls that a batch has answered would be scheduled and
//! wake the connection one by one; here all of them run, and then the connection writes what they have answered. A call
//! does no more than convert and wait, so one does not hold up the others.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::rt::Executor;

type Call = BoxFuture<'static, ()>;

/// Where hyper leaves the calls of one connection.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<Vec<Call>>>);

impl<F> Executor<F> for Inbox
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(call));
    }
}

/// A connection, and its calls.
pub(super) struct WithCalls<C> {
    connection: Pin<Box<C>>,
    inbox: Inbox,
    /// Empty between polls; it keeps its room.
    arrived: Vec<Call>,
    running: FuturesUnordered<Call>,
}

impl<C> WithCalls<C> {
    /// The connection that leaves its calls in `inbox`.
    pub(super) fn new(connection: C, inbox: Inbox) -> Self {
        Self {
            connection: Box::pin(connection),
            inbox,
            arrived: Vec::new(),
            running: FuturesUnordered::new(),
        }
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C: Future> Future for WithCalls<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        loop {
            while let Poll::Ready(Some(())) = this.running.poll_next_unpin(context) {}
            // It reads what has come, and writes what the calls have answered.
            if let Poll::Ready(served) = this.connection.as_mut().poll(context) {
                return Poll::Ready(served);
            }
            mem::swap(&mut this.arrived, &mut *this.inbox.0.lock().unwrap_or_else(PoisonError::into_inner));
            if this.arrived.is_empty() {
                return Poll::Pending;
            }
            this.running.extend(this.arrived.drain(..));
        }
    }
}
