//! `tope replay`: plays a trace of model calls against a server, as an agent backend would make them.
//!
//! Each model call reserves its context and an estimate of the generated tokens, and commits the tokens of the trace.
//! A refused call is counted and skipped. A request without an answer is repeated. This is safe: a repeated Reserve
//! has the same request_id, a repeated Commit has the same reservation, and both take effect once.

pub mod setup;
pub mod trace;

use std::{
    cmp::Ordering,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use self::trace::ModelCall;
use crate::{
    console::{
        client::{Connection, TargetArgs, find_retry_delay, print_line, run_id},
        error::CliError,
    },
    grpc::v1::{
        Amount, CommitRequest, CommitResponse, GetUsageRequest, ReserveAmount, ReserveRequest,
        ReserveResponse, quota_service_client::QuotaServiceClient,
    },
};

/// The id of the resource that the calls spend.
const RESOURCE: &str = "tokens";
/// Maximum number of attempts per request, including the first attempt.
const ATTEMPTS_MAX: u32 = 10;
/// Pause after the first failed attempt, if the server sent no `RetryInfo`. Each later pause is twice as long as the
/// previous pause.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Maximum pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Options of `tope replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// The trace: a CSV file with the columns TIMESTAMP, ContextTokens, GeneratedTokens
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,

    /// The server to call.
    #[command(flatten)]
    pub server: TargetArgs,

    /// The tenant that is charged; created, in UTC, if it is missing
    #[arg(long, value_name = "NAME", default_value = "replay")]
    pub tenant: String,

    /// Tokens that the tenant may spend in all: a HARD LIFETIME limit in the plan replay-TENANT-N, which is created if
    /// it is missing [default: the plan replay-TENANT-unlimited, without a limit]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(0..))]
    pub limit: Option<i64>,

    /// Tokens that each call reserves beyond its context
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1_000, value_parser = clap::value_parser!(i64).range(0..))]
    pub estimate: i64,

    /// Model calls at the same time; with 1, the calls come one after the other, in the order of the file
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub in_flight: u16,

    /// Keep the pauses of the trace, divided by this factor [default: no pauses]
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed)]
    pub speed: Option<f64>,
}

/// The results of the calls, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Summary {
    calls: u64,
    granted: u64,
    committed: i64,
    overruns: u64,
    overrun: i64,
}

/// Plays the trace and prints a summary.
///
/// # Errors
///
/// When the trace has a fault (then nothing is sent), when the server cannot be reached, when a request fails for
/// another reason than "no quota", or when the replay is interrupted.
pub async fn run(args: ReplayArgs) -> Result<(), CliError> {
    let calls = trace::read(&args.file)?;
    let channel = args.server.connect().await?;
    setup::create_missing(&channel, &args.tenant, args.limit).await?;
    let player = Player {
        client: QuotaServiceClient::new(channel),
        run: run_id(),
        tenant: args.tenant.clone(),
        estimate: args.estimate,
    };
    let begin = Instant::now();
    let interrupt = CancellationToken::new();
    let interrupted = tokio::spawn(cancel_on_ctrl_c(interrupt.clone()));
    let summary = player.play(&calls, &args, &interrupt).await?;
    interrupted.abort();
    let elapsed = begin.elapsed();
    print_summary(&summary, elapsed)?;
    player.print_balances().await?;
    match summary.calls.cmp(&(calls.len() as u64)) {
        Ordering::Less => {
            let (made, all) = (summary.calls, calls.len());
            Err(CliError::new(format!(
                "interrupted after {made} of {all} calls; all their reservations are settled"
            )))
        }
        _ => Ok(()),
    }
}

/// Stops new calls at the first Ctrl-C, and ends the process at the second.
async fn cancel_on_ctrl_c(interrupt: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        interrupt.cancel();
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
}

struct Player {
    client: QuotaServiceClient<Connection>,
    run: String,
    tenant: String,
    estimate: i64,
}

impl Player {
    /// Makes the calls until all are made or the replay is interrupted. Calls in flight are settled in both cases.
    async fn play(
        &self,
        calls: &[ModelCall],
        args: &ReplayArgs,
        interrupt: &CancellationToken,
    ) -> Result<Summary, CliError> {
        let progress = ProgressBar::new(calls.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} calls, {per_sec}, {eta} left") {
            progress.set_style(style);
        }
        let begin = tokio::time::Instant::now();
        let played = stream::iter(calls)
            .then(|call| async move {
                if let Some(speed) = args.speed {
                    tokio::time::sleep_until(begin + call.offset.div_f64(speed)).await;
                }
                call
            })
            .take_until(interrupt.cancelled())
            .map(|call| self.play_one(call))
            .buffer_unordered(usize::from(args.in_flight))
            .inspect_ok(|_| progress.inc(1))
            .try_fold(Summary::default(), |sum, one| async move { sum.plus(&one) })
            .await;
        progress.finish_and_clear();
        played
    }

    async fn play_one(&self, call: &ModelCall) -> Result<Summary, CliError> {
        let at = |status: &Status, rpc: &str| {
            CliError::refused(format_args!("line {} of the trace: {rpc}", call.line), status)
        };
        let too_much =
            || CliError::new(format!("line {} of the trace: the sum of its tokens overflows", call.line));
        let asked = call.context.checked_add(self.estimate).ok_or_else(too_much)?;
        let used = call.context.checked_add(call.generated).ok_or_else(too_much)?;
        let reservation = match self.reserve(call.line, asked).await {
            Ok(reply) => reply.reservation.map(|reservation| reservation.name).unwrap_or_default(),
            Err(status) if status.code() == Code::ResourceExhausted => {
                return Ok(Summary { calls: 1, ..Summary::default() });
            }
            Err(status) => return Err(at(&status, "Reserve")),
        };
        let reply = self.commit(reservation, used).await.map_err(|status| at(&status, "Commit"))?;
        let amounts = reply.reservation.map(|reservation| reservation.amounts).unwrap_or_default();
        let overrun = amounts.iter().map(|amount| amount.overrun).sum();
        Ok(Summary {
            calls: 1,
            granted: 1,
            committed: amounts.iter().map(|amount| amount.committed).sum(),
            overruns: u64::from(overrun > 0),
            overrun,
        })
    }

    async fn reserve(&self, line: u64, quantity: i64) -> Result<ReserveResponse, Status> {
        // The proto demands a quantity of at least 1.
        let amount = ReserveAmount { resource: RESOURCE.to_owned(), quantity: quantity.max(1), minimum: 0 };
        let request = ReserveRequest {
            request_id: format!("{}-{line}", self.run),
            tenant: self.tenant.clone(),
            amounts: vec![amount],
            ..ReserveRequest::default()
        };
        let mut attempts = Attempts::default();
        loop {
            match self.client.clone().reserve(request.clone()).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => attempts.pause_after(status).await?,
            }
        }
    }

    async fn commit(&self, reservation: String, quantity: i64) -> Result<CommitResponse, Status> {
        let amounts = vec![Amount { resource: RESOURCE.to_owned(), quantity }];
        let request = CommitRequest { reservation, amounts, ..CommitRequest::default() };
        let mut attempts = Attempts::default();
        loop {
            match self.client.clone().commit(request.clone()).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => attempts.pause_after(status).await?,
            }
        }
    }

    async fn print_balances(&self) -> Result<(), CliError> {
        let request = GetUsageRequest {
            tenant: self.tenant.clone(),
            resources: vec![RESOURCE.to_owned()],
            ..GetUsageRequest::default()
        };
        let usage = self.client.clone().get_usage(request).await;
        let usage = usage.map_err(|status| CliError::refused("GetUsage", &status))?.into_inner();
        for balance in usage.balances {
            let limit = if balance.limit_id.is_empty() { "without a limit" } else { &balance.limit_id };
            let remaining = balance.remaining.map(|remaining| format!(", {remaining} remaining"));
            print_line(format_args!(
                "balance     {RESOURCE} ({limit}): {} committed, {} reserved{}",
                balance.committed,
                balance.reserved,
                remaining.unwrap_or_default(),
            ))?;
        }
        Ok(())
    }
}

impl Summary {
    fn plus(self, other: &Self) -> Result<Self, CliError> {
        let overflow = || CliError::new("the sum of the committed tokens overflows");
        Ok(Self {
            calls: self.calls + other.calls,
            granted: self.granted + other.granted,
            committed: self.committed.checked_add(other.committed).ok_or_else(overflow)?,
            overruns: self.overruns + other.overruns,
            overrun: self.overrun.checked_add(other.overrun).ok_or_else(overflow)?,
        })
    }
}

/// Counts the failed attempts of one request.
#[derive(Debug, Default)]
struct Attempts(u32);

impl Attempts {
    /// Waits as long as the server asks, or else twice as long after each failure.
    ///
    /// # Errors
    ///
    /// Returns `status` after the last attempt, or if a repeat cannot succeed.
    async fn pause_after(&mut self, status: Status) -> Result<(), Status> {
        self.0 += 1;
        if self.0 >= ATTEMPTS_MAX || !may_succeed_later(&status) {
            return Err(status);
        }
        let pause = find_retry_delay(&status).unwrap_or_else(|| PAUSE_FIRST * (1 << (self.0 - 1)));
        tokio::time::sleep(pause.min(PAUSE_MAX)).await;
        Ok(())
    }
}

/// Returns whether the same request may succeed later, because the server replied UNAVAILABLE or the connection broke.
/// A status has a source only if tonic made the status from another error, such as a broken connection.
fn may_succeed_later(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

fn print_summary(summary: &Summary, elapsed: Duration) -> Result<(), CliError> {
    let seconds = elapsed.as_secs_f64();
    // Each call is a Reserve, and each granted call is also a Commit.
    let rpcs = summary.calls + summary.granted;
    print_line(format_args!("calls       {}", summary.calls))?;
    print_line(format_args!("granted     {}", summary.granted))?;
    print_line(format_args!("refused     {}", summary.calls - summary.granted))?;
    print_line(format_args!("committed   {}", summary.committed))?;
    print_line(format_args!("overruns    {} ({} tokens)", summary.overruns, summary.overrun))?;
    print_line(format_args!("duration    {seconds:.2} s"))?;
    print_line(format_args!("rpc/s       {:.0}", rpcs as f64 / seconds.max(f64::MIN_POSITIVE)))
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 0.001 => Ok(factor),
        _ => Err("must be a number of at least 0.001 (1 keeps the trace's pace, 10 is ten times as fast)"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn only_requests_that_may_succeed_later_are_repeated() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        let cases = [
            (Status::unavailable("the queue is full"), true),
            (Status::from_error(Box::new(broken)), true),
            (Status::resource_exhausted("no quota"), false),
            (Status::not_found("no such tenant"), false),
            (Status::internal("a defect"), false),
        ];
        for (status, expected) in cases {
            assert_eq!(may_succeed_later(&status), expected, "{status:?}");
        }
    }

    #[tokio::test]
    async fn the_last_attempt_returns_its_error() {
        let mut attempts = Attempts(ATTEMPTS_MAX - 1);
        let status = attempts.pause_after(Status::unavailable("still full")).await;
        assert_eq!(status.map_err(|status| status.code()), Err(Code::Unavailable));
    }

    #[test]
    fn a_sum_that_overflows_is_an_error() {
        let one = Summary { committed: i64::MAX, ..Summary::default() };
        assert!(one.clone().plus(&one).is_err());
    }

    #[test]
    fn a_speed_is_a_positive_number() {
        for (text, expected) in
            [("1", true), ("0.5", true), ("0", false), ("-1", false), ("inf", false), ("x", false)]
        {
            assert_eq!(parse_speed(text).is_ok(), expected, "{text}");
        }
    }
}
