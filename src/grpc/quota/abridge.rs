//! Shortens replies of Batch that are larger than clients accept. The outcome of each operation stays; parts that
//! other calls report are left out.

use prost::Message;

use crate::grpc::v1::{self, operation_result::Result as Answered};

/// The largest message that gRPC clients take by default. A thousand abridged results fit: the largest is a reservation
/// with 16 amounts and all of its names, 3.5 KB.
const REPLY_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The details of an error that are not left out.
const DETAILS_KEPT: [&str; 2] = ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"];

/// Makes the reply of Batch, abridged if it is too large in full.
pub(super) fn batch(results: Vec<v1::OperationResult>) -> v1::BatchResponse {
    let mut reply = v1::BatchResponse { results, abridged: false };
    if reply.encoded_len() > REPLY_MAX_BYTES {
        reply.abridged = true;
        reply.results.iter_mut().filter_map(|result| result.result.as_mut()).for_each(abridge);
    }
    reply
}

fn abridge(answered: &mut Answered) {
    let (reservation, balances) = match answered {
        Answered::Reserve(reply) => (&mut reply.reservation, &mut reply.balances),
        Answered::Commit(reply) => (&mut reply.reservation, &mut reply.balances),
        Answered::Release(reply) => (&mut reply.reservation, &mut reply.balances),
        Answered::Extend(reply) => (&mut reply.reservation, &mut reply.balances),
        Answered::Record(reply) => {
            reply.applied.clear();
            (&mut reply.reservation, &mut reply.balances)
        }
        Answered::Amend(reply) => (&mut reply.reservation, &mut reply.balances),
        Answered::Check(reply) => return reply.verdicts.clear(),
        Answered::Error(status) => {
            let kept = |url: &str| DETAILS_KEPT.iter().any(|name| url.ends_with(name));
            return status.details.retain(|detail| kept(&detail.type_url));
        }
    };
    balances.clear();
    if let Some(reservation) = reservation {
        reservation.labels.clear();
    }
}
