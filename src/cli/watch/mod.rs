//! `tope watch`: prints events as they happen, and resumes by itself when the server comes back.

pub(super) mod json;
pub(super) mod text;

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::time::sleep;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::{
    console::{
        client::{Connection, TargetArgs, find_retry_delay, print_line},
        error::CliError,
    },
    grpc::v1::{EventKind, WatchUsageRequest, WatchUsageResponse, quota_service_client::QuotaServiceClient},
};

/// First pause before a new attempt, if the server sent no `RetryInfo`. Each further pause is twice as long as the
/// previous pause.
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// Maximum pause before a new attempt, if the server sent no `RetryInfo`.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A stream without a message for this long counts as lost: the server sends a heartbeat every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line per event, for people; in colour on a terminal, unless NO_COLOR is set.
    Table,
    /// One JSON object per line, heartbeats included, each with the cursor to resume from.
    Json,
}

/// Options of `tope watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// The server to call.
    #[command(flatten)]
    pub server: TargetArgs,

    /// Only events of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,

    /// Only events about counters that count this agent separately, and about reservations of this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,

    /// Only events about this resource; may be given several times
    #[arg(long = "resource", value_name = "NAME")]
    pub resources: Vec<String>,

    /// Only events of this kind, such as limit_reached; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_parser = parse_kind)]
    pub kinds: Vec<EventKind>,

    /// Of events about thresholds and reached limits, only those at or above this percentage
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=1_000))]
    pub min_percent: i32,

    /// Begin with a snapshot of the balances; needs --tenant
    #[arg(long, requires = "tenant", conflicts_with = "cursor")]
    pub snapshot: bool,

    /// Resume after this cursor, which `-o json` printed [default: from now on]
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,

    /// Form of the output
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Prints events until the process is ended.
///
/// # Errors
///
/// When the server cannot be reached at the start, or refuses the watch.
pub async fn run(args: WatchArgs) -> Result<(), CliError> {
    let channel = args.server.connect().await?;
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
        print_notice(&format!(
            "the watch was interrupted: {}; resuming in {} ms",
            status.message(),
            delay.as_millis()
        ));
        sleep(delay).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Why a stream ended.
enum End {
    /// The fault may be temporary, so the watch resumes.
    Lost(Status),
    /// The server refused the watch, so the command ends.
    Refused(Status),
}

struct Watching {
    /// The next request, with the cursor of the last message.
    request: WatchUsageRequest,
    output: Output,
    colour: bool,
}

impl Watching {
    /// Prints messages until the stream ends.
    async fn print_all(&mut self, channel: &Connection) -> Result<End, CliError> {
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
                // Only the last part of a snapshot has a cursor, so a watch that resumes needs no new snapshot.
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
        Err(_) => Err(Status::unavailable(format!(
            "no message and no heartbeat for {} seconds",
            SILENCE_MAX.as_secs()
        ))),
    }
}

/// Decides whether the watch resumes. The client reports a broken connection as UNKNOWN or CANCELLED, and the server
/// reports a defect as INTERNAL.
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
        |oldest| {
            format!(
                "cannot resume, because the cursor is too old; to begin with the oldest event that is kept, use \
                 --cursor {oldest}"
            )
        },
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

/// Parses the name of a kind in the proto, without its prefix and in upper or lower case.
fn parse_kind(text: &str) -> Result<EventKind, String> {
    let name = format!("EVENT_KIND_{}", text.to_ascii_uppercase().replace('-', "_"));
    let kind = EventKind::from_str_name(&name).filter(|kind| *kind != EventKind::Unspecified);
    kind.ok_or_else(|| "must be a kind of event, such as threshold_reached or limit_reached".to_owned())
}

fn colour() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Prints a message to stderr, since stdout is for data.
fn print_notice(text: &str) {
    // If stderr is closed, the message cannot be written anywhere.
    let _ = writeln!(io::stderr(), "tope: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_named_as_in_the_protos() {
        assert_eq!(parse_kind("limit_reached"), Ok(EventKind::LimitReached));
        assert_eq!(parse_kind("WINDOW-CLOSED"), Ok(EventKind::WindowClosed));
        for text in ["", "unspecified", "reached"] {
            assert!(parse_kind(text).is_err(), "{text}");
        }
    }
}
