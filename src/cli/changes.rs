//! `tope changes`: prints who changed what.

use chrono::{DateTime, SecondsFormat};
use clap::{Args, ValueEnum};
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::jobs::Output;
use crate::{
    console::{
        client::{TargetArgs, print_line},
        error::CliError,
    },
    grpc::v1::{Change, ChangeKind, ListChangesRequest, admin_service_client::AdminServiceClient},
};

/// The largest page that a server returns.
const PAGE_MAX: u32 = 1_000;

/// Options of `tope changes`.
#[derive(Debug, Args)]
pub struct ChangesArgs {
    /// Only changes of this tenant and its agents, overrides, reservations and usage
    #[arg(long, value_name = "ID", default_value = "")]
    pub tenant: String,

    /// Only changes of things of this kind
    #[arg(long, value_enum)]
    pub kind: Option<KindArg>,

    /// Only changes of the thing with this id
    #[arg(long, value_name = "ID", default_value = "")]
    pub thing: String,

    /// Only changes of this caller, such as key:tj3k9x0a2bqz
    #[arg(long, value_name = "NAME", default_value = "")]
    pub caller: String,

    /// Only changes by this rpc, such as UpdatePlan
    #[arg(long, value_name = "NAME", default_value = "")]
    pub rpc: String,

    /// Only changes at or after this instant, such as 2026-12-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<DateTime<chrono::FixedOffset>>,

    /// Only changes before this instant
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<DateTime<chrono::FixedOffset>>,

    /// Number of changes to print, from the newest on
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,

    /// The server to call.
    #[command(flatten)]
    pub server: TargetArgs,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// A kind of thing, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A resource of the policy.
    Resource,
    /// A plan of the policy.
    Plan,
    /// A tenant of the server.
    Tenant,
    /// An agent of a tenant.
    Agent,
    /// An override of a tenant.
    Override,
    /// The settings of the policy.
    Settings,
    /// A key of a caller.
    Key,
    /// A webhook, or its deliveries.
    Webhook,
    /// A job that was run by hand.
    Job,
    /// The usage of a tenant.
    Usage,
    /// A reservation of a tenant.
    Reservation,
}

impl From<KindArg> for ChangeKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Resource => ChangeKind::Resource,
            KindArg::Plan => ChangeKind::Plan,
            KindArg::Tenant => ChangeKind::Tenant,
            KindArg::Agent => ChangeKind::Agent,
            KindArg::Override => ChangeKind::Override,
            KindArg::Settings => ChangeKind::Settings,
            KindArg::Key => ChangeKind::Key,
            KindArg::Webhook => ChangeKind::Webhook,
            KindArg::Job => ChangeKind::Job,
            KindArg::Usage => ChangeKind::Usage,
            KindArg::Reservation => ChangeKind::Reservation,
        }
    }
}

/// Prints the changes, the newest first.
///
/// # Errors
///
/// When the server cannot be reached, or refuses.
pub async fn run(args: ChangesArgs) -> Result<(), CliError> {
    let mut admin = AdminServiceClient::new(args.server.connect().await?);
    let mut request = ListChangesRequest {
        tenant: args.tenant,
        kind: args.kind.map_or(ChangeKind::Unspecified, ChangeKind::from).into(),
        thing: args.thing,
        caller: args.caller,
        rpc: args.rpc,
        start_time: args.since.map(timestamp),
        end_time: args.until.map(timestamp),
        page_size: 0,
        page_token: String::new(),
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut changes: Vec<Change> = Vec::new();
    loop {
        let left = args.limit.saturating_sub(u32::try_from(changes.len()).unwrap_or(u32::MAX));
        request.page_size = i32::try_from(left.min(PAGE_MAX)).unwrap_or(i32::MAX);
        let reply = admin.list_changes(request.clone()).await;
        let page =
            reply.map_err(|status| CliError::refused("cannot list the changes", &status))?.into_inner();
        changes.extend(page.changes);
        if page.next_page_token.is_empty() || changes.len() >= limit {
            break;
        }
        request.page_token = page.next_page_token;
    }
    match args.output {
        Output::Json => {
            let all: Value = changes.iter().map(change_json).collect();
            print_line(format!("{all:#}"))
        }
        Output::Table => print_table(&changes),
    }
}

fn print_table(changes: &[Change]) -> Result<(), CliError> {
    let mut rows = vec![["TIME", "CALLER", "RPC", "THING", "TENANT"].map(str::to_owned)];
    for change in changes {
        let thing = format!("{} {}", kind(change), change.thing);
        let at = time(change.change_time.as_ref());
        rows.push([at, change.caller.clone(), change.rpc.clone(), thing, change.tenant.clone()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [at, caller, rpc, thing] = [width(0), width(1), width(2), width(3)];
    for row in &rows {
        let [time, by, name, what, tenant] = row;
        let line = format!("{time:at$}  {by:caller$}  {name:rpc$}  {what:thing$}  {tenant}");
        print_line(line.trim_end())?;
    }
    Ok(())
}

fn change_json(change: &Change) -> Value {
    json!({
        "id": change.id,
        "change_time": time(change.change_time.as_ref()),
        "caller": change.caller,
        "address": change.address,
        "rpc": change.rpc,
        "kind": kind(change),
        "thing": change.thing,
        "tenant": change.tenant,
        "before": document(&change.before),
        "after": document(&change.after),
        "request_id": change.request_id,
        "revision": change.revision.to_string(),
    })
}

/// Parses the JSON of a thing. `null`: the thing did not exist, or does not exist.
fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn kind(change: &Change) -> String {
    match change.kind() {
        ChangeKind::Unspecified => format!("kind {}", change.kind),
        kind => kind.as_str_name().trim_start_matches("CHANGE_KIND_").to_ascii_lowercase(),
    }
}

fn parse_time(text: &str) -> Result<DateTime<chrono::FixedOffset>, String> {
    DateTime::parse_from_rfc3339(text)
        .map_err(|_| "must be an instant of RFC 3339, such as 2026-12-01T00:00:00Z".to_owned())
}

fn timestamp(at: DateTime<chrono::FixedOffset>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}

fn time(at: Option<&Timestamp>) -> String {
    let at = at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).unwrap_or(0)));
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default()
}
