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
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::rt::Executor;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::descriptors;

type Call = BoxFuture<'static, ()>;

/// The paths of all calls that stream: what the descriptors say of our services, health and reflection.
static STREAMING: LazyLock<Vec<String>> = LazyLock::new(|| streaming(&descriptors()));

fn streaming(descriptors: &FileDescriptorSet) -> Vec<String> {
    let mut paths = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            let streams =
                service.method.iter().filter(|rpc| rpc.server_streaming() || rpc.client_streaming());
            let path = |rpc: &MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), rpc.name())
            };
            paths.extend(streams.map(path));
        }
    }
    paths
}

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
}

impl Inbox {
    /// One whose streaming calls are dropped when `cut` is cancelled.
    pub(super) fn new(cut: CancellationToken) -> Self {
        Self(Arc::new(Arrivals { calls: Mutex::default(), streams: AtomicBool::new(false), cut }))
    }

    /// Says what the next call is.
    pub(super) fn announce(&self, path: &str) {
        if STREAMING.iter().any(|streaming| streaming == path) {
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
                return if this.is_idle(context) { Poll::Ready(None) } else { Poll::Pending };
            }
            this.running.extend(this.arrived.drain(..));
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{FileDescriptorProto, ServiceDescriptorProto};

    use super::*;

    #[test]
    fn each_rpc_that_streams_is_known_to() {
        let known = [
            "/tope.v1.QuotaService/WatchUsage",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ];
        assert_eq!(*STREAMING, known, "and no rpc that does not");
    }

    #[test]
    fn a_new_rpc_that_streams_is_found_by_what_its_descriptor_says() {
        let rpc = |name: &str, client, server| MethodDescriptorProto {
            name: Some(name.to_owned()),
            client_streaming: Some(client),
            server_streaming: Some(server),
            ..MethodDescriptorProto::default()
        };
        let method = vec![rpc("One", false, false), rpc("Down", false, true), rpc("Up", true, false)];
        let service = ServiceDescriptorProto { name: Some("S".to_owned()), method, ..Default::default() };
        let package = Some("some.v2".to_owned());
        let file = FileDescriptorProto { package, service: vec![service], ..Default::default() };
        assert_eq!(streaming(&FileDescriptorSet { file: vec![file] }), ["/some.v2.S/Down", "/some.v2.S/Up"]);
    }
}
