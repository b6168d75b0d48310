//! One call of the load, and its result.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::workload::{Workload, name_of};
use crate::{
    console::client::Connection,
    grpc::v1::{
        BatchRequest, BatchResponse, CommitRequest, Operation, OperationResult, ReserveRequest, operation,
        operation_result, quota_service_client::QuotaServiceClient,
    },
};

/// Maximum pause that a server's `RetryInfo` can cause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Pause after a failure without a `RetryInfo`. It prevents a flood of calls if no server answers.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

/// A call of the load.
#[derive(Debug)]
pub enum Call {
    /// Makes one new hold.
    Reserve(ReserveRequest),
    /// Commits one open hold.
    Commit(CommitRequest),
    /// Commits some holds, and makes new holds.
    Batch(BatchRequest),
}

/// The result of one call.
#[derive(Debug, Default)]
pub struct Answer {
    /// Number of operations that succeeded.
    pub succeeded: u64,
    /// Number of operations that an overloaded server refused.
    pub overloaded: u64,
    /// Number of operations that failed for another reason.
    pub failed: u64,
    /// A text about the first failure.
    pub failure: Option<String>,
    /// Names of the reservations that are still to be committed.
    pub held: Vec<String>,
    /// Time that the sender must wait before its next call.
    pub pause: Option<Duration>,
}

impl Call {
    /// Makes a Batch of `reserves` new holds and of the Commits of older holds.
    pub fn batch(workload: &Workload, reserves: usize, commits: Vec<String>) -> Self {
        let commits = commits.into_iter().map(|name| operation::Operation::Commit(workload.commit(name)));
        let reserves = (0..reserves).map(|_| operation::Operation::Reserve(workload.reserve()));
        let operations = commits.chain(reserves).map(|operation| Operation { operation: Some(operation) });
        Self::Batch(BatchRequest { operations: operations.collect() })
    }

    /// Sends the call, without repeats.
    pub async fn send(self, client: &mut QuotaServiceClient<Connection>) -> Answer {
        match self {
            Self::Reserve(request) => match client.reserve(request).await {
                Ok(reply) => Answer {
                    succeeded: 1,
                    held: vec![name_of(reply.into_inner().reservation.as_ref())],
                    ..Answer::default()
                },
                Err(status) => Answer::of_error(&status, 1, Vec::new()),
            },
            Self::Commit(request) => {
                let name = request.reservation.clone();
                match client.commit(request).await {
                    Ok(_) => Answer { succeeded: 1, ..Answer::default() },
                    Err(status) => Answer::of_error(&status, 1, vec![name]),
                }
            }
            Self::Batch(request) => {
                let commits = commits_in(&request);
                let operations = request.operations.len() as u64;
                match client.batch(request).await {
                    Ok(reply) => Answer::of_batch(reply.into_inner(), commits),
                    Err(status) => {
                        Answer::of_error(&status, operations, commits.into_iter().flatten().collect())
                    }
                }
            }
        }
    }
}

impl Answer {
    /// Makes the result of a call that failed. If the server is overloaded, the Commits must be sent again.
    fn of_error(status: &Status, operations: u64, commits: Vec<String>) -> Self {
        if is_overload(status.code(), &status.get_error_details()) {
            let hint = status.get_details_retry_info().and_then(|info| info.retry_delay);
            let pause = hint.unwrap_or(FAILURE_PAUSE).min(PAUSE_MAX);
            return Self { overloaded: operations, held: commits, pause: Some(pause), ..Self::default() };
        }
        let failure = Some(format!("{:?}: {}", status.code(), status.message()));
        Self { failed: operations, failure, pause: Some(FAILURE_PAUSE), ..Self::default() }
    }

    fn of_batch(reply: BatchResponse, commits: Vec<Option<String>>) -> Self {
        let mut sum = Self::default();
        if reply.results.len() != commits.len() {
            let failure =
                format!("a Batch of {} operations has {} results", commits.len(), reply.results.len());
            return Self { failed: commits.len() as u64, failure: Some(failure), ..Self::default() };
        }
        for (result, commit) in reply.results.into_iter().zip(commits) {
            sum.add(Self::of_result(result, commit));
        }
        sum
    }

    fn of_result(result: OperationResult, commit: Option<String>) -> Self {
        match result.result {
            Some(operation_result::Result::Reserve(reply)) => {
                Self { succeeded: 1, held: vec![name_of(reply.reservation.as_ref())], ..Self::default() }
            }
            Some(operation_result::Result::Commit(_)) => Self { succeeded: 1, ..Self::default() },
            Some(operation_result::Result::Error(error)) => {
                let status = Status::with_details(
                    Code::from_i32(error.code),
                    error.message.clone(),
                    prost::Message::encode_to_vec(&error).into(),
                );
                Self::of_error(&status, 1, commit.into_iter().collect())
            }
            _ => Self {
                failed: 1,
                failure: Some("a result of a Batch is of the wrong kind".to_owned()),
                ..Self::default()
            },
        }
    }

    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.overloaded += other.overloaded;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.held.extend(other.held);
        self.pause = self.pause.max(other.pause);
    }
}

/// Lists the reservation that each operation commits; `None` for operations that are no Commit.
fn commits_in(request: &BatchRequest) -> Vec<Option<String>> {
    let commit = |operation: &Operation| match &operation.operation {
        Some(operation::Operation::Commit(commit)) => Some(commit.reservation.clone()),
        _ => None,
    };
    request.operations.iter().map(commit).collect()
}

/// Returns whether an overloaded server made this status. If no server answers, the code is UNAVAILABLE, too, but the
/// status has no details.
fn is_overload(code: Code, details: &ErrorDetails) -> bool {
    code == Code::Unavailable && details.error_info().is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::grpc::v1::{CommitResponse, Reservation, ReserveResponse};

    fn overload() -> Status {
        let mut details = ErrorDetails::with_error_info("OVERLOADED", "tope", HashMap::new());
        details.set_retry_info(Some(Duration::from_millis(70)));
        Status::with_error_details(Code::Unavailable, "the queue is full", details)
    }

    #[test]
    fn commits_are_sent_again_after_the_pause_that_an_overloaded_server_asks_for() {
        let answer = Answer::of_error(&overload(), 1, vec!["r".to_owned()]);
        assert_eq!((answer.overloaded, answer.failed), (1, 0));
        assert_eq!((answer.held, answer.pause), (vec!["r".to_owned()], Some(Duration::from_millis(70))));
    }

    #[test]
    fn any_other_error_is_a_failure_even_if_no_server_answers() {
        for status in [Status::not_found("gone"), Status::unavailable("tcp connect error")] {
            let answer = Answer::of_error(&status, 3, vec!["r".to_owned()]);
            assert_eq!((answer.overloaded, answer.failed, answer.held.len()), (0, 3, 0));
            assert!(answer.failure.is_some_and(|failure| failure.contains(status.message())));
        }
    }

    #[test]
    fn each_result_of_a_batch_is_counted_separately() {
        let reserved = Reservation { name: "new".to_owned(), ..Reservation::default() };
        let reserved = ReserveResponse { reservation: Some(reserved), ..ReserveResponse::default() };
        let error = tonic_types::pb::Status {
            code: i32::from(overload().code()),
            message: "the queue is full".to_owned(),
            details: prost::Message::decode(overload().details())
                .map(|status: tonic_types::pb::Status| status.details)
                .expect("details are a google.rpc.Status"),
        };
        let results = [
            operation_result::Result::Commit(CommitResponse::default()),
            operation_result::Result::Error(error),
            operation_result::Result::Reserve(reserved),
        ];
        let results = results.into_iter().map(|result| OperationResult { result: Some(result) }).collect();
        let commits = vec![Some("a".to_owned()), Some("b".to_owned()), None];
        let answer = Answer::of_batch(BatchResponse { results, ..BatchResponse::default() }, commits);
        assert_eq!((answer.succeeded, answer.overloaded, answer.failed), (2, 1, 0));
        assert_eq!(answer.held, ["b", "new"]);
    }
}
