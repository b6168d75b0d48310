//! `tope reserve`: reserves quota, as a backend does before a model call.

use clap::Args;
use prost_types::Duration;

use super::quota::{self, AmountArg, CallArgs, LabelArg};
use crate::{
    console::error::CliError,
    grpc::v1::{OnExpiry, ReserveAmount, ReserveRequest, quota_service_client::QuotaServiceClient},
};

/// Options of `tope reserve`.
#[derive(Debug, Args)]
pub struct ReserveArgs {
    /// The tenant whose quota is reserved
    pub tenant: String,

    /// Quantity to reserve of a resource, such as tokens=1000; may be given several times
    #[arg(value_name = "RESOURCE=QUANTITY", required = true)]
    pub amounts: Vec<AmountArg>,

    /// The agent that spends
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub agent: String,

    /// The user that spends
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub user: String,

    /// The model that is called
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub model: String,

    /// Label of the call, such as team=search; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<LabelArg>,

    /// Id of this call. A repeat with the same id does not reserve twice; `tope commit` takes the id, too
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub request_id: String,

    /// How long the hold lasts, in seconds [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..=86_400))]
    pub ttl_seconds: Option<i64>,

    /// If the quota does not suffice, reserve the quantity that is left instead of refusing the call
    #[arg(long)]
    pub allow_partial: bool,

    /// If the hold expires, charge it instead of releasing it
    #[arg(long)]
    pub charge_on_expiry: bool,

    /// The server, and the form of the output.
    #[command(flatten)]
    pub call: CallArgs,
}

/// Reserves quota, and prints the reservation and the balances.
///
/// # Errors
///
/// When the server cannot be reached or refuses. The exit code is 3 if the quota does not suffice.
pub async fn run(args: ReserveArgs) -> Result<(), CliError> {
    let mut client = QuotaServiceClient::new(args.call.server.connect().await?);
    let amounts = args.amounts.into_iter().map(|AmountArg { resource, quantity }| ReserveAmount {
        resource,
        quantity,
        minimum: 0,
    });
    let request = ReserveRequest {
        request_id: args.request_id,
        tenant: args.tenant,
        agent: args.agent,
        user: args.user,
        model: args.model,
        amounts: amounts.collect(),
        ttl: args.ttl_seconds.map(|seconds| Duration { seconds, nanos: 0 }),
        allow_partial: args.allow_partial,
        on_expiry: if args.charge_on_expiry { OnExpiry::Charge } else { OnExpiry::Unspecified }.into(),
        labels: quota::labels(args.labels),
    };
    let reply = client.reserve(request).await.map_err(|status| quota::refused("cannot reserve", &status))?;
    let reply = reply.into_inner();
    quota::print(args.call.output, reply.reservation.as_ref(), &reply.balances)
}
