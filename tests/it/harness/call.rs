//! Short methods that make requests: `world.reserve("acme").tokens(100).ttl(MINUTE).await`.
//!
//! An `await` of a call sends its request, and returns the reply or the decoded refusal. Instead, `operation()` makes
//! the request an operation of a Batch.

use std::{future::IntoFuture, pin::Pin};

use futures::future::FutureExt;
use prost_types::Duration;
use tonic::{Response, Status, transport::Channel};

use super::{
    no::No,
    v1::{
        AmendRequest, AmendResponse, Amount, CheckRequest, CheckResponse, CommitRequest, CommitResponse,
        ExtendRequest, ExtendResponse, GetReservationRequest, GetUsageRequest, GetUsageResponse,
        ListReservationsRequest, ListReservationsResponse, OnExpiry, Operation, RecordRequest,
        RecordResponse, ReleaseRequest, ReleaseResponse, Reservation, ReservationState, ReserveAmount,
        ReserveRequest, ReserveResponse, operation, quota_service_client::QuotaServiceClient,
    },
};

/// The client that sends the calls.
pub type Quota = QuotaServiceClient<Channel>;

/// The reply of a call, or its refusal.
pub type Answer<T> = Result<T, Box<No>>;

type Sending<T> = Pin<Box<dyn Future<Output = Answer<T>> + Send>>;

/// A request with the client that sends it.
#[derive(Clone, Debug)]
pub struct Call<Q> {
    quota: Quota,
    /// The request as it will be sent.
    pub request: Q,
}

impl<Q> Call<Q> {
    /// Makes a call with this request.
    pub fn new(quota: &Quota, request: Q) -> Self {
        Self { quota: quota.clone(), request }
    }

    /// Changes the request. For changes that have no short method.
    pub fn with(mut self, change: impl FnOnce(&mut Q)) -> Self {
        change(&mut self.request);
        self
    }
}

fn answer<T>(result: Result<Response<T>, Status>) -> Answer<T> {
    result.map(Response::into_inner).map_err(|status| Box::new(status.into()))
}

macro_rules! rpcs {
    ($($request:ty => $method:ident => $reply:ty;)*) => {$(
        impl IntoFuture for Call<$request> {
            type Output = Answer<$reply>;
            type IntoFuture = Sending<$reply>;

            fn into_future(mut self) -> Self::IntoFuture {
                async move { answer(self.quota.$method(self.request).await) }.boxed()
            }
        }
    )*};
}
rpcs! {
    ReserveRequest => reserve => ReserveResponse;
    CommitRequest => commit => CommitResponse;
    ReleaseRequest => release => ReleaseResponse;
    ExtendRequest => extend => ExtendResponse;
    RecordRequest => record => RecordResponse;
    AmendRequest => amend => AmendResponse;
    CheckRequest => check => CheckResponse;
    GetUsageRequest => get_usage => GetUsageResponse;
    GetReservationRequest => get_reservation => Reservation;
    ListReservationsRequest => list_reservations => ListReservationsResponse;
}

macro_rules! operations {
    ($($request:ty => $variant:ident;)*) => {$(
        impl Call<$request> {
            /// Makes the request an operation of a Batch.
            pub fn operation(self) -> Operation {
                Operation { operation: Some(operation::Operation::$variant(self.request)) }
            }
        }
    )*};
}
operations! {
    ReserveRequest => Reserve;
    CommitRequest => Commit;
    ReleaseRequest => Release;
    ExtendRequest => Extend;
    RecordRequest => Record;
    AmendRequest => Amend;
    CheckRequest => Check;
}

/// Requests with the fields `agent`, `user` and `model`.
macro_rules! subjects {
    ($($request:ty),*) => {$(
        impl Call<$request> {
            /// Sets the agent that spends.
            pub fn agent(self, agent: &str) -> Self {
                self.with(|request| request.agent = agent.into())
            }

            /// Sets the user that spends.
            pub fn user(self, user: &str) -> Self {
                self.with(|request| request.user = user.into())
            }

            /// Sets the model that is called.
            pub fn model(self, model: &str) -> Self {
                self.with(|request| request.model = model.into())
            }
        }
    )*};
}
subjects!(ReserveRequest, RecordRequest, CheckRequest);

/// Requests that reserve amounts, which may have a minimum.
macro_rules! asking {
    ($($request:ty),*) => {$(
        impl Call<$request> {
            /// Asks for units of a resource.
            pub fn amount(self, resource: &str, quantity: i64) -> Self {
                self.at_least(resource, quantity, 0)
            }

            /// Asks for units of `tokens`.
            pub fn tokens(self, quantity: i64) -> Self {
                self.amount("tokens", quantity)
            }

            /// Asks for `quantity` units of a resource, and accepts no less than `minimum`.
            pub fn at_least(self, resource: &str, quantity: i64, minimum: i64) -> Self {
                let amount = ReserveAmount { resource: resource.into(), quantity, minimum };
                self.with(|request| request.amounts.push(amount))
            }

            /// Accepts less than is asked for (`allow_partial`).
            pub fn partial(self) -> Self {
                self.with(|request| request.allow_partial = true)
            }
        }
    )*};
}
asking!(ReserveRequest, CheckRequest);

/// Requests with plain amounts.
macro_rules! naming {
    ($($request:ty),*) => {$(
        impl Call<$request> {
            /// Adds an amount of a resource.
            pub fn amount(self, resource: &str, quantity: i64) -> Self {
                self.with(|request| request.amounts.push(Amount { resource: resource.into(), quantity }))
            }

            /// Adds an amount of `tokens`.
            pub fn tokens(self, quantity: i64) -> Self {
                self.amount("tokens", quantity)
            }
        }
    )*};
}
naming!(CommitRequest, ExtendRequest, RecordRequest, AmendRequest);

/// Requests with a request_id.
macro_rules! keyed {
    ($($request:ty),*) => {$(
        impl Call<$request> {
            /// Sets the request_id, which makes a retry safe.
            pub fn id(self, request_id: &str) -> Self {
                self.with(|request| request.request_id = request_id.into())
            }
        }
    )*};
}
keyed!(ReserveRequest, ExtendRequest, RecordRequest);

/// Requests with a time until the deadline.
macro_rules! timed {
    ($($request:ty),*) => {$(
        impl Call<$request> {
            /// Sets the time until the deadline, in milliseconds.
            pub fn ttl(self, millis: i64) -> Self {
                self.with(|request| request.ttl = Some(span(millis)))
            }
        }
    )*};
}
timed!(ReserveRequest, ExtendRequest);

/// Requests that may have labels.
macro_rules! labelled {
    ($($request:ty),*) => {$(
        impl Call<$request> {
            /// Adds a label to the request.
            pub fn label(self, key: &str, value: &str) -> Self {
                self.with(|request| {
                    request.labels.insert(key.into(), value.into());
                })
            }
        }
    )*};
}
labelled!(ReserveRequest, RecordRequest, CheckRequest);

impl Call<RecordRequest> {
    /// Sets when the usage occurred, in milliseconds since 1970-01-01 UTC.
    pub fn occurred(self, millis: i64) -> Self {
        self.with(|request| request.occurred_time = Some(super::timestamp(millis)))
    }
}

impl Call<CommitRequest> {
    /// Sets the model that served the call.
    pub fn model(self, model: &str) -> Self {
        self.with(|request| request.model = Some(model.into()))
    }
}

impl Call<ReserveRequest> {
    /// Sets that the hold is charged at its deadline.
    pub fn charged_on_expiry(self) -> Self {
        self.with(|request| request.on_expiry = OnExpiry::Charge.into())
    }
}

impl Call<ListReservationsRequest> {
    /// Lists only reservations in these states.
    pub fn states(self, states: &[ReservationState]) -> Self {
        self.with(|request| request.states = states.iter().map(|&state| state.into()).collect())
    }
}

/// Converts milliseconds to a proto duration.
pub fn span(millis: i64) -> Duration {
    let nanos = i32::try_from(millis % 1_000 * 1_000_000).expect("less than a second");
    Duration { seconds: millis / 1_000, nanos }
}
