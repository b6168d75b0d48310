//! Measures each call: how long it took until it was answered, and with which code. A call that streams is measured
//! until its stream ends.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use tonic::Code;

use super::{
    body::{Reply, code_of},
    rpc::paths,
};
use crate::{
    grpc::descriptors,
    metrics::{Metrics, RpcTable, RpcTimer},
};

/// Makes the table of all rpcs that the server serves.
pub(super) fn rpc_table(metrics: &Metrics) -> RpcTable {
    metrics.rpcs.table(paths(&descriptors()))
}

/// The future of a call, with the timer of the call.
pub(super) struct Measured<F> {
    inner: F,
    /// `None` after the call was answered.
    timer: Option<RpcTimer>,
    streams: bool,
}

impl<F> Measured<F> {
    /// Makes the future of a call whose timer runs. `streams`: whether the request or the reply is a stream.
    pub(super) fn new(inner: F, timer: RpcTimer, streams: bool) -> Self {
        Self { inner, timer: Some(timer), streams }
    }
}

impl<F> Future for Measured<F>
where
    F: Future<Output = Result<Response<Reply>, Infallible>> + Unpin,
{
    type Output = Result<Response<Reply>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(mut response)) = Pin::new(&mut self.inner).poll(context) else {
            return Poll::Pending;
        };
        if let Some(timer) = self.timer.take() {
            match code_of(response.headers()) {
                Some(code) => timer.end(code),
                None if !response.status().is_success() => timer.end(Code::Unknown.into()),
                None if self.streams => response.body_mut().measure(timer),
                None => timer.end(Code::Ok.into()),
            }
        }
        Poll::Ready(Ok(response))
    }
}
