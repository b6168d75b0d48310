//! `tope usage`: prints the balances of a tenant.

use clap::Args;

use super::quota::{self, CallArgs, LabelArg};
use crate::{
    console::error::CliError,
    grpc::v1::{GetUsageRequest, quota_service_client::QuotaServiceClient},
};

/// Options of `tope usage`.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// The tenant whose balances are printed
    pub tenant: String,

    /// Only limits that count this agent, and limits that count all agents together
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,

    /// Only limits that count this user, and limits that count all users together
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Only limits that count this model, and limits that count all models together
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// Only limits that count this label's value, and limits that count all values together; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<LabelArg>,

    /// Only balances of this resource; may be given several times
    #[arg(long = "resource", value_name = "NAME")]
    pub resources: Vec<String>,

    /// The server, and the form of the output.
    #[command(flatten)]
    pub call: CallArgs,
}

/// Prints the tenant's balances, from all pages of the reply.
///
/// # Errors
///
/// When the server cannot be reached or refuses.
pub async fn run(args: UsageArgs) -> Result<(), CliError> {
    let mut client = QuotaServiceClient::new(args.call.server.connect().await?);
    let mut request = GetUsageRequest {
        tenant: args.tenant,
        agent: args.agent,
        user: args.user,
        model: args.model,
        resources: args.resources,
        labels: quota::labels(args.labels),
        ..GetUsageRequest::default()
    };
    let mut balances = Vec::new();
    loop {
        let reply = client.get_usage(request.clone()).await;
        let reply = reply.map_err(|status| quota::refused("cannot read the usage", &status))?.into_inner();
        balances.extend(reply.balances);
        if reply.next_page_token.is_empty() {
            return quota::print(args.call.output, None, &balances);
        }
        request.page_token = reply.next_page_token;
    }
}
