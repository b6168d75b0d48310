//! The empty service. It shows the cost of a gRPC call that does nothing.
//!
//! The empty service has the proto, the server settings and the layers of the real server, and decodes the same Reserve
//! and Commit requests. It answers with bytes that were made before: replies of the real server.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    marker::PhantomData,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes};
use clap::Args;
use data_encoding::HEXLOWER;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
    server::{Grpc, NamedService, UnaryService},
    service::Routes,
};
use tonic_prost::ProstDecoder;
use tower::Service;

use super::workload::Replies;
use crate::{
    console::error::CliError,
    grpc::{
        http2::{Observers, codec::buffer_settings, serve},
        v1::{CommitRequest, ReserveRequest, quota_service_server::SERVICE_NAME},
    },
};

/// Maximum time that open calls may still take when the service shuts down.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Options of `tope bench-empty`.
#[derive(Debug, Args)]
pub struct EmptyArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50052")]
    pub listen: SocketAddr,

    /// The reply to Reserve, as hex of its protobuf bytes [default: a reply of typical size]
    #[arg(long, value_name = "HEX")]
    pub reserve_reply: Option<String>,

    /// The reply to Commit, in the same form
    #[arg(long, value_name = "HEX")]
    pub commit_reply: Option<String>,
}

/// Serves Reserve and Commit without doing anything, until Ctrl-C.
///
/// # Errors
///
/// When a reply is not hex, or the address cannot be listened on.
pub async fn run(args: EmptyArgs) -> Result<(), CliError> {
    let typical = Replies::typical();
    let service = EmptyService {
        reserve: prebuilt(args.reserve_reply, &typical.reserve)?,
        commit: prebuilt(args.commit_reply, &typical.commit)?,
    };
    let tried = format!("cannot listen on {}", args.listen);
    let listener = TcpListener::bind(args.listen).await.map_err(|error| CliError::caused(&tried, &error))?;
    let shutdown = CancellationToken::new();
    let stopped = shutdown.clone();
    tokio::spawn(async move {
        // An error ends the service, too. Without a handler for Ctrl-C the service could not shut down in order.
        let _ = tokio::signal::ctrl_c().await;
        stopped.cancel();
    });
    serve(listener, service.routes(), shutdown, DRAIN, Observers::default(), None)
        .await
        .map_err(|error| CliError::caused("cannot serve", &error))
}

fn prebuilt(hex: Option<String>, typical: &impl Message) -> Result<Bytes, CliError> {
    match hex {
        None => Ok(typical.encode_to_vec().into()),
        Some(hex) => match HEXLOWER.decode(hex.as_bytes()) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => {
                Err(CliError::caused("--reserve-reply or --commit-reply is not lower-case hex", &error))
            }
        },
    }
}

/// A QuotaService that answers only Reserve and Commit. Clones share the bytes of the replies.
#[derive(Debug, Clone)]
pub struct EmptyService {
    /// The bytes of each ReserveResponse.
    pub reserve: Bytes,
    /// The bytes of each CommitResponse.
    pub commit: Bytes,
}

impl EmptyService {
    /// Returns the routes of this service and of a health service, for `serve`.
    pub fn routes(self) -> Routes {
        // A new reporter reports SERVING for the server as a whole.
        let (_, health) = tonic_health::server::health_reporter();
        Routes::new(self).add_service(health)
    }
}

impl NamedService for EmptyService {
    const NAME: &'static str = SERVICE_NAME;
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for EmptyService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        match request.uri().path() {
            "/tope.v1.QuotaService/Reserve" => answer::<ReserveRequest>(request, self.reserve.clone()),
            "/tope.v1.QuotaService/Commit" => answer::<CommitRequest>(request, self.commit.clone()),
            _ => Box::pin(ready(Ok(Status::unimplemented(
                "the empty service answers only Reserve and Commit",
            )
            .into_http()))),
        }
    }
}

fn answer<T: Message + Default + 'static>(request: http::Request<Body>, reply: Bytes) -> Answer {
    Box::pin(async move {
        let mut grpc = Grpc::new(PrebuiltCodec::<T>(PhantomData));
        Ok(grpc.unary(Prebuilt(reply), request).await)
    })
}

/// A handler that answers each call with these bytes.
struct Prebuilt(Bytes);

impl<T> UnaryService<T> for Prebuilt {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<T>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

/// A codec that decodes requests like the real service, and sends the bytes of replies unchanged.
struct PrebuiltCodec<T>(PhantomData<T>);

impl<T: Message + Default + 'static> Codec for PrebuiltCodec<T> {
    type Encode = Bytes;
    type Decode = T;
    type Encoder = PrebuiltEncoder;
    type Decoder = ProstDecoder<T>;

    fn encoder(&mut self) -> PrebuiltEncoder {
        PrebuiltEncoder
    }

    fn decoder(&mut self) -> ProstDecoder<T> {
        ProstDecoder::new(buffer_settings())
    }
}

struct PrebuiltEncoder;

impl Encoder for PrebuiltEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tonic::{Code, client, transport::Channel};
    use tonic_types::StatusExt;

    use super::*;
    use crate::{
        console::client::connect,
        grpc::{
            http2::REQUEST_BYTES_MAX,
            v1::{ReserveResponse, quota_service_client::QuotaServiceClient},
        },
    };

    /// Starts an empty service with typical replies. Returns its URL, and the token that ends it.
    pub(in crate::bench) async fn start_typical() -> (String, CancellationToken) {
        let typical = Replies::typical();
        let service = EmptyService {
            reserve: typical.reserve.encode_to_vec().into(),
            commit: typical.commit.encode_to_vec().into(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let target = format!("http://{}", listener.local_addr().expect("a bound address"));
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, service.routes(), shutdown.clone(), DRAIN, Observers::default(), None));
        (target, shutdown)
    }

    async fn start() -> (Channel, CancellationToken) {
        let (target, shutdown) = start_typical().await;
        (connect(&target).await.expect("it accepts"), shutdown)
    }

    #[tokio::test]
    async fn the_empty_service_sends_the_given_replies() {
        let (channel, shutdown) = start().await;
        let _stop = shutdown.drop_guard();
        let mut client = QuotaServiceClient::new(channel);
        let reserved = client.reserve(ReserveRequest::default()).await.expect("an answer").into_inner();
        assert_eq!(reserved, Replies::typical().reserve);
        let committed = client.commit(CommitRequest::default()).await.expect("an answer").into_inner();
        assert_eq!(committed, Replies::typical().commit);
    }

    #[tokio::test]
    async fn a_body_that_cannot_be_decoded_fails_with_invalid_argument() {
        let (channel, shutdown) = start().await;
        let _stop = shutdown.drop_guard();
        let bodies = [
            (vec![0xff; 40], "the request is not a valid tope.v1 message"),
            (vec![0; REQUEST_BYTES_MAX + 1], "the request is larger than 4 MiB"),
        ];
        for (body, text) in bodies {
            let mut grpc = client::Grpc::new(channel.clone());
            grpc.ready().await.expect("a connection");
            let path = http::uri::PathAndQuery::from_static("/tope.v1.QuotaService/Reserve");
            let codec = PrebuiltCodec::<ReserveResponse>(PhantomData);
            let status = grpc.unary(Request::new(body.into()), path, codec).await.expect_err("a refusal");
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
            assert!(status.get_details_bad_request().is_some(), "{status:?}");
        }
    }
}
