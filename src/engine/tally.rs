//! Counts operations by kind and outcome, once per operation, when it is answered.

use super::ask::{Failure, Frame, Outcome, Request, TenantRef};
use crate::{
    domain::{operation::Operation, refusal::Refusal},
    metrics::{Metrics, OperationKind, OperationOutcome},
};

/// Counts one operation with its outcome.
pub(super) fn count(metrics: &Metrics, request: &Request, outcome: &Outcome) {
    match outcome {
        Ok(answer) => record(metrics, kind_of(request), OperationOutcome::Ok, Some(&answer.frame)),
        Err(failure) => count_failure(metrics, request, failure),
    }
}

/// Counts one operation that was not carried out.
pub(super) fn count_failure(metrics: &Metrics, request: &Request, failure: &Failure) {
    let outcome = match failure {
        Failure::Refused { refusal: Refusal::QuotaExceeded(violations), .. } => {
            for violation in violations {
                metrics.operations.refuse(violation.balance.limit.as_ref().map(|limit| &*limit.id));
            }
            OperationOutcome::QuotaExceeded
        }
        Failure::Refused { .. } => OperationOutcome::Refused,
        Failure::Overloaded => OperationOutcome::Overloaded,
        Failure::Draining => OperationOutcome::Draining,
        Failure::DatabaseUnavailable => OperationOutcome::DatabaseUnavailable,
        Failure::DeadlineExceeded => OperationOutcome::DeadlineExceeded,
        Failure::Internal => OperationOutcome::Internal,
        // The operation is submitted again.
        Failure::KeysChanged(_) => return,
    };
    let frame = match failure {
        Failure::Refused { frame, .. } => frame.as_deref(),
        _ => None,
    };
    record(metrics, kind_of(request), outcome, frame);
}

/// Counts an operation. A `frame` says that its tenant exists. So calls that invent tenants never push busy tenants out
/// of the metrics.
fn record(metrics: &Metrics, kind: OperationKind, outcome: OperationOutcome, frame: Option<&Frame>) {
    metrics.operations.count(kind, outcome);
    if let (Some(tenants), Some(frame)) = (metrics.tenants(), frame)
        && kind != OperationKind::Sweep
    {
        tenants.count(&frame.tenant, outcome);
    }
}

fn kind_of(request: &Request) -> OperationKind {
    match (&request.operation, &request.tenant) {
        (Operation::Reserve(_), _) => OperationKind::Reserve,
        (Operation::Commit(_), _) => OperationKind::Commit,
        (Operation::Release(_), _) => OperationKind::Release,
        (Operation::Extend(_), _) => OperationKind::Extend,
        (Operation::Record(_), _) => OperationKind::Record,
        (Operation::Amend(_), _) => OperationKind::Amend,
        (Operation::Check(_), TenantRef::Id(_)) => OperationKind::Check,
        // Only a job names the tenant of a Check by its key.
        (Operation::Check(_), TenantRef::Key(_)) => OperationKind::Sweep,
        (Operation::Reset(_), _) => OperationKind::Reset,
    }
}
