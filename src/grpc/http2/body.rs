//! Bodies whose bytes take room: a request while it arrives, and a reply until its client has taken it.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status};

use super::{
    layer::REQUEST_BYTES_MAX,
    room::{FREE_BYTES, Open, Share, TakenRoom, Untaken},
};
use crate::{grpc::status, metrics::RpcTimer};

/// Maximum time for a request's body to arrive, from when the server first waits for it.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of bytes before each message: one byte for a flag, and four bytes for the length of the message.
const PREFIX_BYTES: usize = 5;

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request. The body takes room for its whole message as soon as the message's length is known. So the
/// rest of the message always has room. The body ends with an error if it does not arrive in time.
pub(super) struct Arriving<B> {
    body: B,
    share: Arc<Share>,
    /// Whether the body is a stream of messages. Such a body may never end, so it has no timer, and it takes no room
    /// for its length.
    streams: bool,
    prefix: [u8; PREFIX_BYTES],
    received: usize,
    /// Number of bytes for which room was taken.
    counted: usize,
    room: Option<Box<TakenRoom>>,
    /// The error of a refused request. The server still reads the rest of the body, and drops it. If the stream ended
    /// earlier, the bytes that the client has already sent would belong to no stream. HTTP/2 closes connections with
    /// many such bytes.
    refused: Option<Box<Status>>,
    /// The timer of the body. `None` until the server first waits for the body.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Arriving<B> {
    /// Makes the request body of a call on the connection of `share`.
    pub(super) fn new(body: B, share: Arc<Share>, streams: bool) -> Self {
        Self {
            body,
            share,
            streams,
            prefix: [0; PREFIX_BYTES],
            received: 0,
            counted: FREE_BYTES,
            room: None,
            refused: None,
            timer: None,
        }
    }

    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        if self.received < PREFIX_BYTES {
            let rest = &mut self.prefix[self.received..];
            let count = rest.len().min(data.len());
            rest[..count].copy_from_slice(&data[..count]);
        }
        self.received += data.len();
        let [_, length @ ..] = self.prefix;
        let length = u32::from_be_bytes(length) as usize;
        let whole = if self.received < PREFIX_BYTES { 0 } else { length + PREFIX_BYTES };
        let bytes = self.received.max(whole);
        if self.streams || bytes <= self.counted {
            return Ok(());
        }
        if bytes > REQUEST_BYTES_MAX + PREFIX_BYTES {
            // tonic uses the same status, and the layer rewords it.
            return Err(Status::out_of_range("the message is too large"));
        }
        self.room = None;
        let room = self.share.take_request(bytes).ok_or_else(|| {
            status::unavailable(
                "OVERLOADED",
                "no room for this request: too many other requests are under way; repeat the call later",
            )
        })?;
        (self.room, self.counted) = (Some(Box::new(room)), bytes);
        Ok(())
    }
}

impl<B> Arriving<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// Reads the whole body into one piece. The body keeps its room until it is dropped.
    pub(super) async fn read(&mut self) -> Result<Bytes, Status> {
        let mut whole = BytesMut::new();
        let mut first = None;
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut *self).poll_frame(context)).await
        {
            let Ok(data) = frame.map_err(Status::from_error)?.into_data() else { continue };
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                None => whole.extend_from_slice(&data),
                Some(first) => {
                    whole.reserve(self.counted);
                    whole.extend_from_slice(&first);
                    whole.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| whole.freeze()))
    }
}

impl<B> HttpBody for Arriving<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(_))) if this.refused.is_some() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    let counted = frame.data_ref().map_or(Ok(()), |data| this.count(data));
                    match counted {
                        Ok(()) => return Poll::Ready(Some(Ok(frame))),
                        Err(status) => this.refused = Some(Box::new(status)),
                    }
                }
                Poll::Ready(end) => {
                    let refused = this.refused.take().map(|status| Err((*status).into()));
                    return Poll::Ready(refused.or(end.map(|frame| frame.map_err(Into::into))));
                }
                Poll::Pending if this.streams => return Poll::Pending,
                Poll::Pending => {
                    let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(BODY_TIMEOUT)));
                    ready!(timer.as_mut().poll(context));
                    let late = || {
                        status::out_of_time(&format!(
                            "the body of the request did not come within {} seconds",
                            BODY_TIMEOUT.as_secs()
                        ))
                    };
                    return Poll::Ready(Some(Err(this
                        .refused
                        .take()
                        .map_or_else(late, |status| *status)
                        .into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The open call and the room of a reply. They are kept until the client has taken the reply.
#[derive(Debug, Default)]
pub(super) struct ReplyGuard {
    open: Option<Open>,
    _untaken: Option<Untaken>,
    room: Option<Box<TakenRoom>>,
}

impl ReplyGuard {
    /// Makes the guard of an open call's reply, with the room that was taken for the reply. A reply that streams may
    /// wait for its client without a bound.
    pub(super) fn new(open: Open, room: Option<Box<TakenRoom>>, streams: bool) -> Self {
        let untaken = (!streams).then(|| open.share().answer());
        Self { open: Some(open), _untaken: untaken, room }
    }

    /// Takes room for a reply of this size, and returns whether there was enough.
    fn fit(&mut self, bytes: usize) -> bool {
        match (&mut self.room, &self.open) {
            (Some(room), _) => room.resize(bytes),
            (None, Some(open)) if bytes > FREE_BYTES => {
                self.room = open.share().small.try_take(bytes).map(Box::new);
                self.room.is_some()
            }
            (None, _) => true,
        }
    }
}

/// The body of a reply, with the open call and the room of the reply. If the body has one message, it hands both to the
/// bytes of the message, which keep them until the socket has taken the bytes.
#[derive(Debug, Default)]
pub(super) struct Reply {
    body: Body,
    guard: ReplyGuard,
    streams: bool,
    /// The timer of a call that streams, until the stream ends.
    timer: Option<RpcTimer>,
}

impl Reply {
    /// Makes the body of a reply that `guard` belongs to.
    pub(super) fn new(body: Body, guard: ReplyGuard, streams: bool) -> Self {
        Self { body, guard, streams, timer: None }
    }

    /// Measures the call until its stream ends.
    pub(super) fn measure(&mut self, timer: RpcTimer) {
        self.timer = Some(timer);
    }
}

/// The bytes of a message, with the open call and the room of the reply. All are dropped when the socket has taken the
/// bytes.
#[derive(Debug)]
pub(super) struct Counted {
    bytes: Bytes,
    _guard: ReplyGuard,
}

impl Buf for Counted {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl HttpBody for Reply {
    type Data = Counted;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Counted>, axum::Error>>> {
        let this = &mut *self;
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => {
                return Poll::Ready(end.map(|frame| frame.map(|_| Frame::trailers(http::HeaderMap::new()))));
            }
        };
        let frame = match frame.into_data() {
            Ok(bytes) if this.streams => Frame::data(Counted { bytes, _guard: ReplyGuard::default() }),
            Ok(bytes) if this.guard.fit(bytes.len()) => {
                Frame::data(Counted { bytes, _guard: std::mem::take(&mut this.guard) })
            }
            // The call has taken effect already. The client learns the outcome when it repeats the call.
            Ok(_) => {
                this.body = Body::empty();
                Frame::trailers(untaken())
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                if let (Some(code), Some(timer)) = (code_of(&trailers), this.timer.take()) {
                    timer.end(code);
                }
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Makes the trailers of a call whose reply is not sent because there is no room for it.
fn untaken() -> http::HeaderMap {
    let text = "no room for this reply: the client has not read earlier replies; repeat the call later";
    let mut trailers = http::HeaderMap::new();
    if status::unavailable("OVERLOADED", text).add_header(&mut trailers).is_err() {
        trailers.insert(Status::GRPC_STATUS, (Code::Unavailable as i32).into());
    }
    trailers
}

/// Returns the code in headers or trailers. `None`: they have no code.
pub(super) fn code_of(headers: &http::HeaderMap) -> Option<i32> {
    Some(Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes()).into())
}
