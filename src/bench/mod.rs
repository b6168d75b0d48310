//! Commands that load a server, behind the feature `bench`: `tope bench` in this file, `tope replay` in `replay`.
//!
//! `tope bench` measures how fast a server is, and how near it comes to a gRPC call that does nothing. Both sides are
//! separate processes on this machine. This process loads the two sides alternately, so that other work on the machine
//! slows both sides alike. The ratio is the ratio of the median rates. Read [`run`] first, then `load.rs`, which makes
//! the calls.

pub mod audience;
pub mod call;
pub mod disk;
pub mod empty;
pub mod load;
pub mod process;
pub mod replay;
pub mod report;
pub mod workload;

use std::{ops::RangeInclusive, str::FromStr, sync::Arc, time::Duration};

use clap::Args;

use self::{
    audience::Audience,
    load::{Figures, Pace, Servers, Side},
    process::{ScratchDatabase, Server},
    report::Report,
    workload::{Replies, Workload},
};
use crate::{
    console::{
        client::{CredentialArgs, print_line},
        error::CliError,
        without_password,
    },
    store::{Store, StoreOptions},
};

/// Time for which each side is loaded before the first round.
const WARM_UP: Duration = Duration::from_secs(1);
/// Time for which the speed of the disk is measured.
const DISK_TIME: Duration = Duration::from_millis(500);
/// Duration of each step of a search.
const SEARCH_STEP: Duration = Duration::from_secs(1);
/// First and last number of single calls in flight that a search tries. Each step doubles the number.
const SEARCH_UNARY: RangeInclusive<usize> = 32..=8_192;
const SEARCH_BATCH: RangeInclusive<usize> = 1..=64;

/// Options of `tope bench`. Without options the bench ends within 40 seconds.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Load this server, such as http://127.0.0.1:50051, instead of starting one. The bench leaves a resource, a plan
    /// and tenants (bench-00000 …) there. May be given several times, for replicas on one database; they share the
    /// channels
    #[arg(long, value_name = "URL", conflicts_with = "database")]
    pub target: Vec<String>,

    /// The key and the files of TLS for the servers of `--target`.
    #[command(flatten)]
    pub credentials: CredentialArgs,

    /// Database of the server that the bench starts; it should be empty, and the rows of the bench stay in it
    /// [default: a new SQLite file in the current folder, removed afterwards]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,

    /// Tenants that the load is spread over
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tenants: u32,

    /// Give the plan five limits, one of them for each value of a label, and each tenant an override. Otherwise the plan
    /// has two limits
    #[arg(long)]
    pub contract: bool,

    /// HTTP/2 connections to each side
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub channels: u16,

    /// Number of single calls in flight, over all channels, on each side; with "best", the bench first searches for the
    /// number that gives the highest rate, for each side
    #[arg(long, value_name = "N|best", default_value = "512")]
    pub in_flight: InFlight,

    /// Seconds per round and side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,

    /// Number of rounds; each round loads both sides
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,

    /// Send Batch calls of this many operations, half Reserve and half Commit; the server's operations a second are
    /// compared with the single calls a second of the empty service
    #[arg(long, value_name = "OPERATIONS", value_parser = clap::value_parser!(u16).range(2..=1_000))]
    pub batch: Option<u16>,

    /// Number of Batch calls in flight, over all channels; with "best", the bench first searches for the number that
    /// gives the highest rate
    #[arg(long, value_name = "N|best", default_value = "8", requires = "batch")]
    pub batch_in_flight: InFlight,

    /// Open loop: send this many calls a second to each side, and measure the latency of a call from the time when it
    /// was due
    #[arg(long, value_name = "CALLS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with_all = ["in_flight", "batch_in_flight"])]
    pub rate: Option<u32>,

    /// Send calls only to the server, and none to the empty service: to fill a database, or to see how a server behaves
    /// under load
    #[arg(long, conflicts_with_all = ["watchers", "rate"])]
    pub alone: bool,

    /// Open this many watchers and add one webhook. They receive the events of an extra tenant, named bench-events. With
    /// --target, the server needs --webhook-allow-http and --webhook-allow-private
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub watchers: u32,

    /// Events a second for the watchers and the webhook while the server is loaded
    #[arg(long, value_name = "EVENTS_PER_SECOND", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000), requires = "watchers")]
    pub events: u32,
}

/// How many calls are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// This number of calls.
    Fixed(usize),
    /// The number with the highest rate, which a search finds.
    Best,
}

impl FromStr for InFlight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "best" => Ok(Self::Best),
            Ok(number @ 1..=100_000) => Ok(Self::Fixed(number)),
            _ => Err("must be a number from 1 to 100000, or \"best\"".to_owned()),
        }
    }
}

/// Measures, and prints each figure as soon as it is measured.
///
/// # Errors
///
/// When a server cannot be started or reached, when it refuses the data that the bench creates, when an operation fails
/// for another reason than overload, or when the bench is interrupted. In each case, the servers that the bench started
/// are stopped, too.
pub async fn run(args: BenchArgs) -> Result<(), CliError> {
    tokio::select! {
        measured = measure(args) => measured,
        () = interrupted() => Err(CliError::new("interrupted")),
    }
}

async fn measure(args: BenchArgs) -> Result<(), CliError> {
    let scratch = ScratchDatabase::in_current_folder();
    let database = args.database.clone().unwrap_or_else(|| scratch.url());
    print_surroundings(&args, &database).await?;
    let (mut targets, mut credentials, mut server) = (args.target.clone(), args.credentials.clone(), None);
    if targets.is_empty() {
        let started = Server::start(&database).await?;
        print_durability(&database).await?;
        targets.push(started.target.clone());
        credentials = CredentialArgs::default();
        server = Some(started);
    }
    let workload = Arc::new(Workload::new(args.tenants, args.contract));
    let replies = workload.prepare(&credentials.connect(&targets[0]).await?).await?;
    let audience = match args.watchers {
        0 => None,
        watchers => Some(Audience::open(&credentials, &targets[0], watchers, args.events).await?),
    };
    let servers = Servers { targets, credentials };
    let report = compare(&args, &servers, &replies, workload, audience.as_ref()).await?;
    if let Some(audience) = audience {
        audience.finish().await?;
    }
    // The server is dropped first: it must have closed the database file before the file is removed.
    drop(server);
    drop(scratch);
    report.finish()
}

async fn print_surroundings(args: &BenchArgs, database: &str) -> Result<(), CliError> {
    let folder = process::folder_of(database);
    match &args.database {
        _ if !args.target.is_empty() => print_line(format_args!("server    {}", args.target.join(", ")))?,
        Some(_) => print_line(format_args!("database  {}", without_password(database)))?,
        None => print_line(format_args!("database  {database} (new, removed afterwards)"))?,
    }
    let shown = folder.display().to_string();
    let measured = tokio::task::spawn_blocking(move || disk::measure(&folder, DISK_TIME)).await;
    let measured = measured.map_err(|error| CliError::caused("cannot measure the disk", &error))?;
    let disk = measured.map_err(|error| CliError::caused(format_args!("cannot write in {shown}"), &error))?;
    print_line(format_args!(
        "disk      {:.0} fsyncs/s in {shown}, p50 {:.3} ms, p99 {:.3} ms",
        disk.per_second,
        report::milliseconds(disk.p50),
        report::milliseconds(disk.p99),
    ))
}

/// Prints the settings of the database that decide what survives a power failure.
async fn print_durability(database: &str) -> Result<(), CliError> {
    let failed = |error| CliError::caused("cannot read the database's settings", &error);
    let store = Store::connect(database, StoreOptions::default()).await.map_err(failed)?;
    let settings = store.durability().await.map_err(failed)?;
    store.close().await.map_err(failed)?;
    let texts: Vec<String> = settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    print_line(format_args!("durable   {}", texts.join(", ")))
}

async fn compare(
    args: &BenchArgs,
    servers: &Servers,
    replies: &Replies,
    workload: Arc<Workload>,
    audience: Option<&Audience>,
) -> Result<Report, CliError> {
    let empty_server = Server::start_empty(replies).await?;
    let channels = usize::from(args.channels);
    let batch = args.batch.map(usize::from);
    let empty_servers =
        Servers { targets: vec![empty_server.target.clone()], credentials: CredentialArgs::default() };
    let empty = Side::connect(&empty_servers, channels, Arc::clone(&workload), None).await?;
    let tope = Side::connect(servers, channels, workload, batch).await?;
    let (empty, tope) = (Arc::new(empty), Arc::new(tope));
    let in_flight = if batch.is_some() { args.batch_in_flight } else { args.in_flight };
    let range = if batch.is_some() { SEARCH_BATCH } else { SEARCH_UNARY };
    let empty_pace = match args.alone {
        false => Some(pace_of(&empty, args.rate, args.in_flight, SEARCH_UNARY).await),
        true => None,
    };
    let tope_pace = pace_of(&tope, args.rate, in_flight, range).await;
    let mut report = Report::new(batch.is_some(), args.alone);
    report.print_head(args, empty_pace, tope_pace)?;
    // The figures of the warm-up are not reported. An operation that fails in the warm-up fails in the rounds, too.
    if let Some(pace) = empty_pace {
        empty.run(pace, WARM_UP).await;
    }
    tope.run(tope_pace, WARM_UP).await;
    let seconds = Duration::from_secs(args.seconds);
    for _ in 0..args.rounds {
        let of_empty = match empty_pace {
            Some(pace) => Some(empty.run(pace, seconds).await),
            None => None,
        };
        audience.inspect(|audience| audience.cause_events(true));
        let of_tope = tope.run(tope_pace, seconds).await;
        audience.inspect(|audience| audience.cause_events(false));
        report.add_round(of_empty, of_tope)?;
    }
    Ok(report)
}

async fn pace_of(
    side: &Arc<Side>,
    rate: Option<u32>,
    in_flight: InFlight,
    range: RangeInclusive<usize>,
) -> Pace {
    match (rate, in_flight) {
        (Some(rate), _) => Pace::Open(rate),
        (None, InFlight::Fixed(calls)) => Pace::Closed(calls),
        (None, InFlight::Best) => Pace::Closed(find_best(side, range).await),
    }
}

/// Doubles the calls in flight until two steps in a row give no higher rate. Returns the best number.
async fn find_best(side: &Arc<Side>, range: RangeInclusive<usize>) -> usize {
    let mut calls = *range.start();
    side.run(Pace::Closed(calls), SEARCH_STEP).await;
    let (mut best, mut best_rate, mut without_gain) = (calls, 0.0, 0);
    while range.contains(&calls) && without_gain < 2 {
        let Figures { per_second, .. } = side.run(Pace::Closed(calls), SEARCH_STEP).await;
        if per_second > best_rate {
            (best, best_rate, without_gain) = (calls, per_second, 0);
        } else {
            without_gain += 1;
        }
        calls *= 2;
    }
    best
}

/// Waits for Ctrl-C or SIGTERM, so that the servers and files of the bench do not outlive it.
async fn interrupted() {
    let ctrl_c = tokio::signal::ctrl_c();
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = ctrl_c => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    let _ = ctrl_c.await;
}
