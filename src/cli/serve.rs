//! `tope serve`: runs the server until Ctrl-C or SIGTERM.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{error::CliError, without_password};
use crate::{
    config::{self, Flags, LogFormat},
    events::webhook::Rules,
    server::{Server, ServerOptions},
    store::Retention,
    telemetry,
};

/// Options of `tope serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port to listen on [default: 127.0.0.1:50051] [env: TOPE_LISTEN]
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,

    /// Database: sqlite://FILE or postgres://… [default: sqlite://tope.db] [env: TOPE_DATABASE]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,

    /// Also create, once and never overwriting, resources, plans (free, pro) and tenants (acme, globex) to try it with
    #[arg(long)]
    pub demo: bool,

    /// Settings file (TOML): listen, database, log_format, drain_seconds, lanes, reservation_retention_days,
    /// request_id_retention_hours, event_retention_days, webhook_allow_http, webhook_allow_private
    #[arg(long, value_name = "FILE", env = "TOPE_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// Form of the log, which goes to stderr; RUST_LOG says what is in it [default: text] [env: TOPE_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// Longest time, in seconds, that open calls may take when the server ends; 86400 at most [default: 10]
    /// [env: TOPE_DRAIN_SECONDS]
    #[arg(long, value_name = "SECONDS")]
    pub drain_seconds: Option<u64>,

    /// Batches that run at once on PostgreSQL (SQLite has one) [default: half of the cores, 1 to 8] [env: TOPE_LANES]
    #[arg(long, value_name = "N")]
    pub lanes: Option<usize>,

    /// How long reservations are kept after they were settled, in days [default: 30]
    /// [env: TOPE_RESERVATION_RETENTION_DAYS]
    #[arg(long, value_name = "DAYS")]
    pub reservation_retention_days: Option<u32>,

    /// How long request ids are kept, in hours: 24 or more, and not longer than reservations [default: 24]
    /// [env: TOPE_REQUEST_ID_RETENTION_HOURS]
    #[arg(long, value_name = "HOURS")]
    pub request_id_retention_hours: Option<u32>,

    /// How long events are kept, in days; 2 or more [default: 30] [env: TOPE_EVENT_RETENTION_DAYS]
    #[arg(long, value_name = "DAYS")]
    pub event_retention_days: Option<u32>,

    /// Webhooks may be sent by http, too, which everybody on the way can read [default: false]
    /// [env: TOPE_WEBHOOK_ALLOW_HTTP]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub webhook_allow_http: Option<bool>,

    /// Webhooks may be sent to addresses that are not public, too, such as those of this machine [default: false]
    /// [env: TOPE_WEBHOOK_ALLOW_PRIVATE]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub webhook_allow_private: Option<bool>,
}

/// Runs the server.
///
/// # Errors
///
/// When the settings are at fault, or it cannot start.
pub async fn run(args: ServeArgs) -> Result<(), CliError> {
    let flags = Flags {
        listen: args.listen,
        database: args.database,
        log_format: args.log_format,
        drain_seconds: args.drain_seconds,
        lanes: args.lanes,
        reservation_retention_days: args.reservation_retention_days,
        request_id_retention_hours: args.request_id_retention_hours,
        event_retention_days: args.event_retention_days,
        webhook_allow_http: args.webhook_allow_http,
        webhook_allow_private: args.webhook_allow_private,
    };
    let config = config::load(args.config.as_deref(), &flags).map_err(CliError::new)?;
    telemetry::start(config.log_format);
    telemetry::log_panics();
    let options = ServerOptions {
        demo: args.demo,
        drain: Duration::from_secs(config.drain_seconds),
        lanes: config.lanes,
        retention: Retention::of(
            config.reservation_retention_days,
            config.request_id_retention_hours,
            config.event_retention_days,
        ),
        webhooks: Rules {
            allow_http: config.webhook_allow_http,
            allow_private: config.webhook_allow_private,
        },
        ..ServerOptions::new(config.listen, &config.database)
    };
    let server = Server::start(options).await.map_err(|error| CliError::caused("cannot serve", &error))?;
    if !server.address().ip().is_loopback() {
        tracing::warn!(
            net.address = %server.address(),
            "listening beyond loopback: there are no keys and no TLS, whoever reaches this port may spend and administer"
        );
    }
    tracing::info!(
        net.address = %server.address(),
        database = %without_password(&config.database),
        version = env!("CARGO_PKG_VERSION"),
        "tope serves; Ctrl-C ends it"
    );
    wait_for_signal().await?;
    tracing::info!("ending: answering what was accepted; a second Ctrl-C ends at once");
    tokio::select! {
        () = server.shutdown() => {
            tracing::info!("ended");
            Ok(())
        }
        outcome = wait_for_signal() => {
            outcome?;
            Err(CliError::new("ended at once: calls that were open have no answer"))
        }
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:50051 or [::]:50051".to_owned())
}

async fn wait_for_signal() -> Result<(), CliError> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| CliError::caused("cannot wait for signals", &error))?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => {
            outcome.map_err(|error| CliError::caused("cannot wait for signals", &error))
        }
        _ = terminate.recv() => Ok(()),
    }
}
