//! `tope watch`: prints what happens, as it happens, and goes on by itself when the server comes back.

pub(super) mod json;
pub(super) mod text;

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::time::sleep;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use super::{
    client::{TargetArgs, connect, find_retry_delay, print_line},
    error::CliError,
};
use crate::grpc::v1::{
    EventKind, WatchUsageRequest, WatchUsageResponse, quota_service_client::QuotaServiceClient,
};

/// The pause before the server is tried again without a hint; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A stream that is silent for this long is given up: the server sends a heartbeat every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line for people; with colour on a terminal, unless NO_COLOR is set.
    Table,
    /// A JSON object a line, heartbeats too; each with the cursor to go on from.
    Json,
}

/// Options of `tope watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Which server.
    #[command(flatten)]
    pub server: TargetArgs,

    /// Only of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,

    /// Only of counters that count this agent apart, and of its reservations
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,

    /// Only about this resource; may be given several times
    #[arg(long = "resource", value_name = "NAME")]
    pub resources: Vec<String>,

    /// Only of this kind, such as limit_reached; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_parser = parse_kind)]
    pub kinds: Vec<EventKind>,

    /// Of thresholds and limits, only those at or above this percentage
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=1_000))]
    pub min_percent: i32,

    /// Begin with what is left; needs --tenant
    #[arg(long, requires = "tenant", conflicts_with = "cursor")]
    pub snapshot: bool,

    /// Go on behind this one, which -o json printed [default: from now on]
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,

    /// Form of what is printed
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Prints until it is ended.
///
/// # Errors
///
/// When the server cannot be reached at first, or refuses what is asked for.
pub async fn run(args: WatchArgs) -> Result<(), CliError> {
    let channel = connect(&args.server.target).await?;
    let mut watching = Watching { request: request(&args), output: args.output, colour: colour() };
    let mut pause = PAUSE_FIRST;
    loop {
        let cursor = watching.request.cursor.clone();
        let status = match watching.print_all(&channel).await? {
            End::Refused(status) => {
                return Err(CliError::refused(refusal(&status), &status));
            }
            End::Lost(status) => status,
        };
        if watching.request.cursor != cursor {
            pause = PAUSE_FIRST;
        }
        let delay = find_retry_delay(&status).unwrap_or(pause);
        tell(&format!("{}; going on in {} ms", status.message(), delay.as_millis()));
        sleep(delay).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Why nothing more came.
enum End {
    /// It passes.
    Lost(Status),
    /// It does not.
    Refused(Status),
}

struct Watching {
    /// What is asked for next.
    request: WatchUsageRequest,
    output: Output,
    colour: bool,
}

impl Watching {
    /// Prints what comes, until the stream ends.
    async fn print_all(&mut self, channel: &Channel) -> Result<End, CliError> {
        let mut client = QuotaServiceClient::new(channel.clone());
        let mut stream = match client.watch_usage(self.request.clone()).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return Ok(ended(status)),
        };
        loop {
            let message = match next(&mut stream).await {
                Ok(message) => message,
                Err(status) => return Ok(ended(status)),
            };
            self.print(&message)?;
            if !message.cursor.is_empty() {
                // What it goes on from: a snapshot is complete by then.
                (self.request.cursor, self.request.snapshot) = (message.cursor, false);
            }
        }
    }

    fn print(&self, message: &WatchUsageResponse) -> Result<(), CliError> {
        match self.output {
            Output::Json => print_line(json::message(message)),
            Output::Table => text::lines(message, self.colour).into_iter().try_for_each(print_line),
        }
    }
}

async fn next(stream: &mut Streaming<WatchUsageResponse>) -> Result<WatchUsageResponse, Status> {
    let lost = || Status::unavailable("the stream ended");
    match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
        Ok(message) => message?.ok_or_else(lost),
        Err(_) => Err(Status::unavailable("the server is silent")),
    }
}

/// A connection that breaks is UNKNOWN or CANCELLED to the client, a server that has a defect INTERNAL.
fn ended(status: Status) -> End {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded => {
            End::Lost(status)
        }
        _ => End::Refused(status),
    }
}

fn refusal(status: &Status) -> String {
    let info = status.get_details_error_info();
    let oldest = info.and_then(|info| info.metadata.get("oldest_cursor").cloned());
    oldest.map_or_else(
        || "cannot watch".to_owned(),
        |oldest| format!("cannot go on; what is kept begins with --cursor {oldest}"),
    )
}

fn request(args: &WatchArgs) -> WatchUsageRequest {
    WatchUsageRequest {
        tenant: args.tenant.clone().unwrap_or_default(),
        agent: args.agent.clone(),
        resources: args.resources.clone(),
        kinds: args.kinds.iter().map(|&kind| kind.into()).collect(),
        min_percent: args.min_percent,
        snapshot: args.snapshot,
        cursor: args.cursor.clone().unwrap_or_default(),
        heartbeat_interval: None,
    }
}

/// A kind by its name in the contract, in letters of either case.
fn parse_kind(text: &str) -> Result<EventKind, String> {
    let name = format!("EVENT_KIND_{}", text.to_ascii_uppercase().replace('-', "_"));
    let kind = EventKind::from_str_name(&name).filter(|kind| *kind != EventKind::Unspecified);
    kind.ok_or_else(|| "must be a kind of event, such as threshold_reached or limit_reached".to_owned())
}

fn colour() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Says something that is no data.
fn tell(text: &str) {
    // Nothing is left to tell it to when stderr is closed.
    let _ = writeln!(io::stderr(), "tope: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_named_as_in_the_contract() {
        assert_eq!(parse_kind("limit_reached"), Ok(EventKind::LimitReached));
        assert_eq!(parse_kind("WINDOW-CLOSED"), Ok(EventKind::WindowClosed));
        for text in ["", "unspecified", "reached"] {
            assert!(parse_kind(text).is_err(), "{text}");
        }
    }
}
