//! The gate: lets calls in if there is room for them.
//!
//! A call of an operation goes to its handler at once. If a call may have a large reply, the gate reads its request to
//! the end, and then the call waits for room. While a call waits, it uses up no HTTP/2 window, and its reply is not
//! made yet.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
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
    body::{Arriving, Reply, ReplyGuard},
    room::{Open, Share, TakenRoom, Untaken},
    rpc::{Rpc, TALK_BYTES},
};
use crate::grpc::status;

/// Maximum time that a call waits for room for its reply.
pub(super) const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// The address from which a call came. The gate adds it to the extensions of calls that may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) struct Peer(pub(in crate::grpc) SocketAddr);

/// Room for a snapshot whose size is not known yet. [`BALANCE_BYTES`] is the room for each balance, when the number of
/// balances is known.
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

    /// Notes for the handler of a call from where the call came.
    fn note_peer(&self, request: &mut Request<Incoming>) {
        if let Some(peer) = self.share.peer() {
            request.extensions_mut().insert(Peer(peer));
        }
    }
}

type Direct = <Router as Service<Request<Arriving<Incoming>>>>::Future;

/// The future of a call that came to [`Gate`].
pub(super) enum GateFuture {
    /// There was no room for the call.
    Refused(Option<Response<Reply>>),
    /// The handler of the call is running. The fields are the handler's future, the open call with its room, and
    /// whether the call streams.
    Direct(Direct, Option<(Open, Option<Box<TakenRoom>>)>, bool),
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
        let mut room = None;
        match rpc {
            Rpc::Large(bytes) => {
                self.note_peer(&mut request);
                return GateFuture::Large(Box::pin(pass(self.routes.clone(), request, open, bytes)));
            }
            Rpc::Talk => match self.share.streams.try_take(TALK_BYTES) {
                Some(taken) => room = Some(Box::new(taken)),
                None => return GateFuture::refused(),
            },
            Rpc::Watch => {
                request.extensions_mut().insert(Arc::clone(&self.share));
            }
            Rpc::Correction => self.note_peer(&mut request),
            Rpc::Small => {}
        }
        let share = Arc::clone(&self.share);
        let request = request.map(|body| Arriving::new(body, share, rpc == Rpc::Talk));
        GateFuture::Direct(self.routes.call(request), Some((open, room)), rpc.streams())
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
                    let guard = kept.take().map(|(open, room)| ReplyGuard::new(open, room, streams));
                    response.map(|body| Reply::new(body, guard.unwrap_or_default(), streams))
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
    // `body` keeps the room of the request until there is a reply.
    let mut body = Arriving::new(body, Arc::clone(open.share()), false);
    let whole = body.read().await?;
    let room = wait(open.share().replies.take(bytes)).await?;
    let Ok(response) = routes.call(Request::from_parts(parts, Body::from(whole))).await;
    let guard = ReplyGuard::new(open, Some(Box::new(room)), false);
    Ok(response.map(|body| Reply::new(body, guard, false)))
}

async fn wait(room: impl Future<Output = TakenRoom>) -> Result<TakenRoom, Status> {
    timeout(ROOM_TIMEOUT, room).await.map_err(|_| {
        let text =
            "no room for a large reply: too many other large replies are under way; repeat the call later";
        status::unavailable("OVERLOADED", text)
    })
}

/// Waits for room for a snapshot. The whole snapshot is made at once, and its client must take the snapshot in time,
/// like a reply.
///
/// # Errors
///
/// UNAVAILABLE, if there is no room within [`ROOM_TIMEOUT`].
pub(in crate::grpc) async fn promise_snapshot(share: &Arc<Share>) -> Result<Promise, Status> {
    let room = wait(share.streams.take(SNAPSHOT_BYTES)).await?;
    Ok(Promise { room, _untaken: share.answer() })
}

/// The room of a snapshot, until the client has taken the snapshot.
#[derive(Debug)]
pub(in crate::grpc) struct Promise {
    room: TakenRoom,
    _untaken: Untaken,
}

impl Promise {
    /// Frees the room that a snapshot with this number of balances does not need.
    pub(in crate::grpc) fn fit(&mut self, balances: usize) {
        self.room.resize((balances * BALANCE_BYTES).min(SNAPSHOT_BYTES));
    }
}
