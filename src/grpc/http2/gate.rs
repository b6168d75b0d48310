//! The gate: lets calls in if there is room for them.
//!
//! An operation goes straight to its handler. If a call has a large reply, its request is read to the end, and then
//! the call waits for room. A call that waits occupies no window of HTTP/2, and its reply is not made yet.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::Status;
use tower::Service;

use super::{
    body::{Arriving, Hold, Reply},
    room::{Held, Open, Share, Untaken},
    rpc::{Rpc, TALK_BYTES},
};
use crate::grpc::status;

/// Maximum time that a call waits for room for its reply.
pub(super) const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// Room for a snapshot whose size is not known yet; below, the room for each balance once the size is known.
const SNAPSHOT_BYTES: usize = 4 * 1024 * 1024;
const BALANCE_BYTES: usize = SNAPSHOT_BYTES / 10_000;

/// The routes of the server, guarded by the bounds of one connection.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    routes: Router,
    share: Arc<Share>,
}

impl Gate {
    /// Makes the gate before these routes.
    pub(super) fn new(routes: Router, share: Arc<Share>) -> Self {
        Self { routes, share }
    }
}

type Direct = <Router as Service<Request<Arriving<Incoming>>>>::Future;

/// The future of a call that came to [`Gate`].
pub(super) enum GateFuture {
    /// There was no room for the call.
    Refused(Option<Response<Reply>>),
    /// The call's handler runs. The fields are the handler, the open call with its room, and whether the call streams.
    Direct(Direct, Option<(Open, Option<Box<Held>>)>, bool),
    /// The call may have a large reply.
    Large(BoxFuture<'static, Response<Reply>>),
}

impl Service<Request<Incoming>> for Gate {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = GateFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> GateFuture {
        let rpc = Rpc::of(request.uri().path());
        let Some(open) = self.share.open(request.headers()) else { return GateFuture::refused() };
        let mut held = None;
        match rpc {
            Rpc::Large(bytes) => {
                return GateFuture::Large(Box::pin(pass(self.routes.clone(), request, open, bytes)));
            }
            Rpc::Talk => match self.share.streams.try_take(TALK_BYTES) {
                Some(taken) => held = Some(Box::new(taken)),
                None => return GateFuture::refused(),
            },
            Rpc::Watch => {
                request.extensions_mut().insert(Arc::clone(&self.share));
            }
            Rpc::Small => {}
        }
        let share = Arc::clone(&self.share);
        let request = request.map(|body| Arriving::new(body, share, rpc == Rpc::Talk));
        GateFuture::Direct(self.routes.call(request), Some((open, held)), rpc.streams())
    }
}

impl GateFuture {
    fn refused() -> Self {
        let text = "too many calls are open; repeat the call later";
        GateFuture::Refused(Some(status::unavailable("OVERLOADED", text).into_http()))
    }
}

impl Future for GateFuture {
    type Output = Result<Response<Reply>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            GateFuture::Refused(response) => Poll::Ready(Ok(response.take().unwrap_or_default())),
            GateFuture::Direct(future, kept, streams) => {
                let streams = *streams;
                Pin::new(future).poll(context).map_ok(|response| {
                    let hold = kept.take().map(|(open, held)| Hold::new(open, held, streams));
                    response.map(|body| Reply::new(body, hold.unwrap_or_default(), streams))
                })
            }
            GateFuture::Large(future) => future.as_mut().poll(context).map(Ok),
        }
    }
}

async fn pass(routes: Router, request: Request<Incoming>, open: Open, bytes: usize) -> Response<Reply> {
    answer(routes, request, open, bytes).await.unwrap_or_else(|status| status.into_http())
}

async fn answer(
    mut routes: Router,
    request: Request<Incoming>,
    open: Open,
    bytes: usize,
) -> Result<Response<Reply>, Status> {
    let (parts, body) = request.into_parts();
    // The body holds the request's room until there is a reply.
    let mut body = Arriving::new(body, Arc::clone(open.share()), false);
    let whole = body.read().await?;
    let held = wait(open.share().replies.take(bytes)).await?;
    let Ok(response) = routes.call(Request::from_parts(parts, Body::from(whole))).await;
    let hold = Hold::new(open, Some(Box::new(held)), false);
    Ok(response.map(|body| Reply::new(body, hold, false)))
}

async fn wait(room: impl Future<Output = Held>) -> Result<Held, Status> {
    timeout(ROOM_TIMEOUT, room).await.map_err(|_| {
        let text =
            "no room for a large reply: too many are under way or unread by clients; repeat the call later";
        status::unavailable("OVERLOADED", text)
    })
}

/// Waits for room for a snapshot. The whole snapshot is made at once, and its client must take it in time, like a
/// reply.
///
/// # Errors
///
/// UNAVAILABLE, if there is no room within [`ROOM_TIMEOUT`].
pub(in crate::grpc) async fn promise_snapshot(share: &Arc<Share>) -> Result<Promise, Status> {
    let held = wait(share.streams.take(SNAPSHOT_BYTES)).await?;
    Ok(Promise { held, _untaken: share.answer() })
}

/// The room that a snapshot holds until its client has taken it.
#[derive(Debug)]
pub(in crate::grpc) struct Promise {
    held: Held,
    _untaken: Untaken,
}

impl Promise {
    /// Gives back the room that a snapshot of this many balances does not need.
    pub(in crate::grpc) fn fit(&mut self, balances: usize) {
        self.held.resize((balances * BALANCE_BYTES).min(SNAPSHOT_BYTES));
    }
}
