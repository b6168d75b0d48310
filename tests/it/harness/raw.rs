//! gRPC without a gRPC client: bytes that no client would send, and deadlines that no client would wait for.

use std::{net::SocketAddr, pin::Pin};

use axum::body::Body;
use http::{HeaderMap, Request, header};
use http_body::Body as _;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use super::no::No;

/// Posts a frame around these bytes, and answers how the call ended: `None` is OK.
pub async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], bytes: &[u8]) -> Option<No> {
    let length = u32::try_from(bytes.len()).expect("a body that fits a frame");
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);

    let stream = TcpStream::connect(address).await.expect("the server listens");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("the server speaks HTTP/2");
    tokio::spawn(connection);

    let mut request = Request::post(format!("http://{address}{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(frame)).expect("the headers are valid");
    let response = sender.send_request(request).await.expect("an answer");
    let (parts, mut body) = response.into_parts();
    let mut trailers = parts.headers;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(last) = frame.expect("a whole answer").into_trailers() {
            trailers.extend(last);
        }
    }
    ending(&trailers)
}

fn ending(trailers: &HeaderMap) -> Option<No> {
    let status = Status::from_header_map(trailers).expect("every gRPC call ends with a status");
    (status.code() != Code::Ok).then(|| status.into())
}
