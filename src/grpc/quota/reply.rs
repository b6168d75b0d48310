//! Answers of the engine → replies of the data plane.

use crate::{
    domain::{
        decide::{Checked, Held, Outcome, Reply, Verdict},
        plan::Policy,
        reservation::Reservation,
    },
    engine::{Answer, Frame},
    grpc::{
        v1::{self, operation_result::Result as Answered},
        wire,
    },
};

/// Returns the reply to an operation of the data plane. `None` for a ResetUsage, which belongs to the control plane.
pub(super) fn of(answer: &Answer) -> Option<Answered> {
    let frame = &answer.frame;
    Some(match &answer.reply {
        Reply::Reserved(held) => {
            let (reservation, balances) = self::held(held, frame);
            Answered::Reserve(v1::ReserveResponse { reservation, balances })
        }
        Reply::Committed(held) => {
            let (reservation, balances) = self::held(held, frame);
            Answered::Commit(v1::CommitResponse { reservation, balances })
        }
        Reply::Released(held) => {
            let (reservation, balances) = self::held(held, frame);
            Answered::Release(v1::ReleaseResponse { reservation, balances })
        }
        Reply::Extended(held) => {
            let (reservation, balances) = self::held(held, frame);
            Answered::Extend(v1::ExtendResponse { reservation, balances })
        }
        Reply::Recorded { held, applied } => {
            let (reservation, balances) = self::held(held, frame);
            Answered::Record(v1::RecordResponse { reservation, balances, applied: applied.clone() })
        }
        Reply::Amended(held) => {
            let (reservation, balances) = self::held(held, frame);
            Answered::Amend(v1::AmendResponse { reservation, balances })
        }
        Reply::Checked(checked) => Answered::Check(check(checked, frame)),
        Reply::Reset { .. } => return None,
    })
}

fn held(held: &Held, frame: &Frame) -> (Option<v1::Reservation>, Vec<v1::Balance>) {
    (Some(reservation(&held.reservation, frame)), wire::balances(&held.balances, &frame.policy))
}

fn check(checked: &Checked, frame: &Frame) -> v1::CheckResponse {
    let Checked { verdicts, granted, violations, suspended, too_many_counters } = checked;
    let policy = &frame.policy;
    let amount =
        |&(resource, quantity)| v1::Amount { resource: policy.resource_id(resource).to_owned(), quantity };
    let mut granted: Vec<v1::Amount> = granted.iter().map(amount).collect();
    granted.sort_unstable_by(|a, b| a.resource.cmp(&b.resource));
    // Waiting does not help a suspended tenant, or a tenant with too many counters; an operator must act.
    let is_stopped = *suspended || *too_many_counters;
    let retry_delay = if is_stopped { None } else { wire::retry_delay(violations, frame.now) };
    v1::CheckResponse {
        allowed: violations.is_empty() && !is_stopped,
        verdicts: verdicts.iter().map(|verdict| self::verdict(verdict, policy)).collect(),
        granted,
        retry_delay: retry_delay.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        suspended: *suspended,
        too_many_counters: *too_many_counters,
    }
}

/// Returns the message of a reservation of the answer's tenant.
pub(super) fn reservation(reservation: &Reservation, frame: &Frame) -> v1::Reservation {
    let name = |resource| frame.policy.resource_id(resource);
    wire::reservation(reservation, frame.tenant_key, &frame.tenant, name)
}

/// Returns the message of a reservation with its amendments.
pub(super) fn reservation_in_full(found: &Reservation, frame: &Frame) -> v1::Reservation {
    let name = |resource| frame.policy.resource_id(resource);
    let amendments = found.amendments().iter().map(|amendment| wire::amendment(amendment, name));
    v1::Reservation { amendments: amendments.collect(), ..reservation(found, frame) }
}

fn verdict(verdict: &Verdict, policy: &Policy) -> v1::Verdict {
    use v1::verdict::Outcome as Wire;
    let remaining = verdict.balance.remaining().unwrap_or(0).max(0);
    let requested = verdict.requested;
    let (outcome, text) = match verdict.outcome {
        Outcome::Pass => (Wire::Pass, "the request fits"),
        Outcome::Partial => (Wire::Partial, "the request fits in part"),
        Outcome::Refuse => (Wire::Refuse, "the request does not fit, and the limit is HARD"),
        Outcome::Exceed => {
            (Wire::Exceed, "the request does not fit, and passes because the limit is not HARD")
        }
    };
    v1::Verdict {
        outcome: outcome.into(),
        reason: match &verdict.balance.limit {
            Some(limit) => {
                format!("limit {:?} has {remaining} left, {requested} requested: {text}", limit.id)
            }
            None => {
                let resource = policy.resource_id(verdict.balance.key.resource());
                format!(
                    "no limit of the plan covers {resource:?}, {requested} requested: the plan refuses them"
                )
            }
        },
        requested,
        balance: Some(wire::balance(&verdict.balance, policy)),
    }
}
