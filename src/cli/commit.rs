//! `tope commit`: settles a hold, and charges the quantities that were really used.

use clap::Args;

use super::quota::{self, AmountArg, CallArgs};
use crate::{
    console::error::CliError,
    grpc::v1::{Amount, CommitRequest, quota_service_client::QuotaServiceClient},
};

/// Options of `tope commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// The tenant whose hold is settled
    pub tenant: String,

    /// Quantity used of a resource, such as tokens=800; a resource that is left out is charged as reserved
    #[arg(value_name = "RESOURCE=QUANTITY")]
    pub amounts: Vec<AmountArg>,

    /// The --request-id of the `reserve` that made the hold
    #[arg(long, value_name = "ID", required_unless_present = "reservation")]
    pub request_id: Option<String>,

    /// The name of the reservation that `reserve` printed
    #[arg(long, value_name = "NAME", conflicts_with = "request_id")]
    pub reservation: Option<String>,

    /// The server, and the form of the output.
    #[command(flatten)]
    pub call: CallArgs,
}

/// Settles a hold, and prints the reservation and the balances.
///
/// # Errors
///
/// When the server cannot be reached or refuses.
pub async fn run(args: CommitArgs) -> Result<(), CliError> {
    let mut client = QuotaServiceClient::new(args.call.server.connect().await?);
    let amounts =
        args.amounts.into_iter().map(|AmountArg { resource, quantity }| Amount { resource, quantity });
    let by_name = args.reservation.is_some();
    let request = CommitRequest {
        reservation: args.reservation.unwrap_or_default(),
        tenant: if by_name { String::new() } else { args.tenant },
        reserve_request_id: args.request_id.unwrap_or_default(),
        amounts: amounts.collect(),
        ..CommitRequest::default()
    };
    let reply = client.commit(request).await.map_err(|status| quota::refused("cannot commit", &status))?;
    let reply = reply.into_inner();
    quota::print(args.call.output, reply.reservation.as_ref(), &reply.balances)
}
