//! A layer around tonic's services. It enforces the deadlines of calls, and converts tonic's errors into the errors of
//! the contract.
//!
//! tonic's own timeout ends a call as CANCELLED, and tonic answers a body that it cannot accept with OUT_OF_RANGE,
//! RESOURCE_EXHAUSTED or INTERNAL. In the contract these are DEADLINE_EXCEEDED and INVALID_ARGUMENT, with details.
//!
//! The layer changes only response headers. So a deadline does not end a stream that has begun to answer. The client
//! ends such a stream.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Layer, Service};

use super::rpc::OWN_PATHS;
use crate::grpc::status::{self, ERROR_DOMAIN};

/// Maximum size of a request, in bytes. This is tonic's default, and the services do not change it.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

const GRPC_TIMEOUT: &str = "grpc-timeout";
const TOO_LARGE: &str = "the request is larger than 4 MiB";
const NOT_A_MESSAGE: &str = "the request is not a valid tope.v1 message";

/// The instant at which the client stops waiting. The layer adds it to the extensions of each request with a
/// `grpc-timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::grpc) struct Deadline(pub(in crate::grpc) Instant);

/// The layer that puts [`Contract`] around a service.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ContractLayer;

/// Enforces `grpc-timeout`, and rewords the errors with which tonic refuses a call before one of our services gets it.
///
/// For a call without a `grpc-timeout`, this service only reads two headers and starts no timer.
#[derive(Debug, Clone)]
pub(super) struct Contract<S> {
    inner: S,
}

/// The future of a call that came to [`Contract`].
#[derive(Debug)]
pub(super) struct ContractFuture<F> {
    inner: F,
    /// The timer of a call with a deadline. The timer is boxed, because few calls have a timer but each call has memory
    /// for this field.
    timer: Option<Pin<Box<Sleep>>>,
    own: bool,
}

impl<S> Layer<S> for ContractLayer {
    type Service = Contract<S>;

    fn layer(&self, inner: S) -> Contract<S> {
        Contract { inner }
    }
}

impl<S, B, R> Service<Request<B>> for Contract<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Unpin,
    R: Default,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = ContractFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let own = request.uri().path().starts_with(OWN_PATHS);
        let timer = find_deadline(request.headers()).map(|deadline| {
            request.extensions_mut().insert(Deadline(deadline));
            Box::pin(sleep_until(deadline))
        });
        ContractFuture { inner: self.inner.call(request), timer, own }
    }
}

impl<F, R> Future for ContractFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
    R: Default,
{
    type Output = Result<Response<R>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The handler is polled first. So an answer that is ready is sent even if the deadline comes at this moment.
        if let Poll::Ready(Ok(response)) = Pin::new(&mut self.inner).poll(cx) {
            return Poll::Ready(Ok(if self.own { reword(response) } else { response }));
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Ok(out_of_time())),
            None => Poll::Pending,
        }
    }
}

/// Finds the deadline in the headers. `None` if there is no deadline, or, as in tonic, if it cannot be parsed.
fn find_deadline(headers: &HeaderMap) -> Option<Instant> {
    let timeout = parse_timeout(headers.get(GRPC_TIMEOUT)?.as_bytes())?;
    Instant::now().checked_add(timeout)
}

/// Parses `TimeoutValue TimeoutUnit` of gRPC over HTTP/2: 1-8 digits, then one of H, M, S, m, u, n.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Converts tonic's errors about a body into INVALID_ARGUMENT. Our own errors have details, and are not changed.
fn reword<R: Default>(response: Response<R>) -> Response<R> {
    let headers = response.headers();
    let Some(code) = headers.get(Status::GRPC_STATUS) else { return response };
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return response;
    }
    match Code::from_bytes(code.as_bytes()) {
        Code::OutOfRange | Code::ResourceExhausted => refused_body(TOO_LARGE),
        Code::Internal => refused_body(NOT_A_MESSAGE),
        _ => response,
    }
}

fn refused_body<R: Default>(description: &str) -> Response<R> {
    let mut details = ErrorDetails::with_error_info("INVALID_ARGUMENT", ERROR_DOMAIN, HashMap::new());
    details.add_bad_request_violation("", description);
    Status::with_error_details(Code::InvalidArgument, description, details).into_http()
}

fn out_of_time<R: Default>() -> Response<R> {
    status::out_of_time("the call's time ran out before it was answered").into_http()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use axum::body::Body;
    use tower::{ServiceExt, service_fn};

    use super::*;

    type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn request(path: &str, timeout: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().expect("the paths of the tests are URIs");
        if let Some(timeout) = timeout {
            let value = timeout.parse().expect("the timeouts of the tests are header values");
            request.headers_mut().insert(GRPC_TIMEOUT, value);
        }
        request
    }

    async fn answer(request: Request<()>, inner: impl Fn(Request<()>) -> Answer) -> Status {
        let service = ContractLayer.layer(service_fn(inner));
        let Ok(response) = service.oneshot(request).await;
        Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""))
    }

    async fn reworded(path: &str, status: Status) -> Status {
        answer(request(path, None), move |_| Box::pin(ready(Ok(status.clone().into_http())))).await
    }

    #[test]
    fn grpc_timeout_is_parsed_as_the_protocol_defines_it() {
        let cases: [(&str, Option<Duration>); 15] = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("0S", Some(Duration::ZERO)),
            ("250m", Some(Duration::from_millis(250))),
            ("82u", Some(Duration::from_micros(82))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("1.5S", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[tokio::test]
    async fn a_call_whose_deadline_has_passed_fails_with_deadline_exceeded() {
        let status =
            answer(request("/tope.v1.QuotaService/Reserve", Some("1m")), |_| Box::pin(pending())).await;
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("DEADLINE_EXCEEDED", "tope"));
    }

    #[tokio::test]
    async fn an_answer_that_is_ready_at_the_deadline_is_sent() {
        let status = answer(request("/tope.v1.QuotaService/Reserve", Some("0n")), |_| {
            Box::pin(ready(Ok(Response::new(Body::empty()))))
        });
        assert_eq!(status.await.code(), Code::Ok);
    }

    #[tokio::test]
    async fn the_handler_gets_a_deadline_only_if_the_call_has_one() {
        for timeout in [None, Some("1H"), Some("soon")] {
            let status = answer(request("/x", timeout), move |request| {
                let seen = request.extensions().get::<Deadline>().is_some();
                assert_eq!(seen, timeout == Some("1H"), "{timeout:?}");
                Box::pin(ready(Ok(Response::new(Body::empty()))))
            });
            assert_eq!(status.await.code(), Code::Ok);
        }
    }

    #[tokio::test]
    async fn errors_of_tonic_about_a_body_become_invalid_argument() {
        let cases = [
            (Status::out_of_range("found 5 bytes"), TOO_LARGE),
            (Status::resource_exhausted("decompressed"), TOO_LARGE),
            (Status::internal("failed to decode"), NOT_A_MESSAGE),
        ];
        for (status, text) in cases {
            let status = reworded("/tope.v1.QuotaService/Reserve", status).await;
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
            let details = status.get_error_details();
            let info = details.error_info().expect("an ErrorInfo");
            assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_ARGUMENT", "tope"));
            let violations = &details.bad_request().expect("a BadRequest").field_violations;
            assert_eq!(violations.len(), 1);
            assert_eq!((violations[0].field.as_str(), violations[0].description.as_str()), ("", text));
        }
    }

    #[tokio::test]
    async fn our_own_errors_and_errors_of_other_services_are_not_changed() {
        let details = ErrorDetails::with_error_info("QUOTA_EXCEEDED", ERROR_DOMAIN, HashMap::new());
        let own = Status::with_error_details(Code::ResourceExhausted, "no quota", details);
        let path = "/tope.v1.QuotaService/Reserve";
        assert_eq!(reworded(path, own).await.message(), "no quota");
        assert_eq!(reworded(path, Status::unimplemented("")).await.code(), Code::Unimplemented);
        let elsewhere = reworded("/grpc.health.v1.Health/Check", Status::internal("theirs")).await;
        assert_eq!((elsewhere.code(), elsewhere.message()), (Code::Internal, "theirs"));
    }
}
