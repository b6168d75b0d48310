//! gRPC over plain HTTP/2, for tests that do what a gRPC client would not do: send malformed bytes, ignore the deadline
//! of a call, or leave replies unread.

use std::{net::SocketAddr, pin::Pin};

use axum::body::Body;
use http::{HeaderMap, Request, Response, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use super::no::No;

/// An HTTP/2 connection to the server.
#[derive(Clone)]
pub struct Raw {
    address: SocketAddr,
    sender: SendRequest<Body>,
}

impl Raw {
    /// Opens a connection that reads all replies.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, http2::Builder::new(TokioExecutor::new())).await
    }

    /// Opens a connection whose client reads no byte of a reply: its stream windows are 0.
    pub async fn connect_deaf(address: SocketAddr) -> Self {
        Self::connect_narrow(address, 0).await
    }

    /// Opens a connection whose client reads at most this number of bytes of each reply.
    pub async fn connect_narrow(address: SocketAddr, bytes: u32) -> Self {
        let mut settings = http2::Builder::new(TokioExecutor::new());
        settings.initial_stream_window_size(bytes);
        Self::connect_as(address, settings).await
    }

    async fn connect_as(address: SocketAddr, settings: http2::Builder<TokioExecutor>) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        // Otherwise a call that follows another one waits for an acknowledgement, up to 40 ms.
        stream.set_nodelay(true).expect("a connection takes it");
        let handshake = settings.handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("the server speaks HTTP/2");
        tokio::spawn(connection);
        Self { address, sender }
    }

    /// Returns whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Posts this body, and does not read the body of the reply.
    ///
    /// # Errors
    ///
    /// When the stream or the connection breaks.
    pub async fn open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("the headers are valid");
        let mut sender = self.sender.clone();
        sender.ready().await?;
        sender.send_request(request).await
    }

    /// Posts this body, and returns the refusal with which the call ended. `None`: the call succeeded.
    ///
    /// # Errors
    ///
    /// When the stream or the connection breaks.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Option<No>, hyper::Error> {
        let (parts, mut body) = self.open(path, headers, body).await?.into_parts();
        let mut trailers = parts.headers;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if let Ok(last) = frame?.into_trailers() {
                trailers.extend(last);
            }
        }
        Ok(ending(&trailers))
    }
}

/// Makes a gRPC frame around a message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message that fits a frame");
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// Posts these bytes in a gRPC frame, and returns the refusal with which the call ended. `None`: the call succeeded.
pub async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], bytes: &[u8]) -> Option<No> {
    let raw = Raw::connect(address).await;
    raw.post(path, headers, Body::from(frame(bytes))).await.expect("a whole answer")
}

fn ending(trailers: &HeaderMap) -> Option<No> {
    let status = Status::from_header_map(trailers).expect("every gRPC call ends with a status");
    (status.code() != Code::Ok).then(|| status.into())
}
