//! `tope serve`: runs the server until Ctrl-C or SIGTERM.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::systemd;
use crate::{
    config::{self, Auth, Flags},
    console::{
        client::print_line,
        error::{CliError, Exit},
        without_password,
    },
    server::{Server, ServerError, ServerOptions},
    telemetry,
};

/// Options of `tope serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Also create resources, plans (free, pro) and tenants (acme, globex) to try the server with, if they are missing
    #[arg(long)]
    pub demo: bool,

    /// Settings file (TOML); its keys are the names of the flags below, with underscores
    #[arg(long, value_name = "FILE", env = "TOPE_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// Print the settings that result from flags, environment and file, and exit
    #[arg(long)]
    pub print_config: bool,

    /// The settings, as far as flags give them.
    #[command(flatten)]
    pub settings: Flags,
}

/// Runs the server.
///
/// # Errors
///
/// When a setting is wrong, or the server cannot start.
pub async fn run(args: ServeArgs) -> Result<(), CliError> {
    let config = config::load(args.config.as_deref(), &args.settings).map_err(CliError::usage)?;
    if args.print_config {
        let shown = config::print(&config, &without_password(&config.database)).map_err(CliError::new)?;
        return print_line(shown.trim_end());
    }
    telemetry::start(config.log_format);
    telemetry::log_panics();
    for line in config::unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
    {
        tracing::warn!("{line}");
    }
    let database = without_password(&config.database);
    let drain = Duration::from_secs(config.drain_seconds);
    let metrics_auth = config.metrics_auth;
    let (auth, tls) = (config.auth, !config.tls_cert.as_os_str().is_empty());
    let options = ServerOptions { demo: args.demo, ..ServerOptions::new(config) };
    let server = Server::start(options).await.map_err(|error| {
        let of_setting = matches!(error, ServerError::Tls(_) | ServerError::Jwks(_));
        let exit = if of_setting { Exit::Usage } else { Exit::Error };
        CliError::caused("cannot serve", &error).with_exit(exit)
    })?;
    // A server that says that it is ready must not be killed by the next signal.
    let mut signals = Signals::catch()?;
    if !server.address().ip().is_loopback() {
        warn_of_reach(server.address(), auth, tls);
    }
    if let Some(address) = server.http_address() {
        if !address.ip().is_loopback() && metrics_auth == Auth::Off {
            tracing::warn!(
                http.address = %address,
                "the HTTP listener is on an address that other machines can reach, and everybody can read the metrics"
            );
        }
        tracing::info!(http.address = %address, "serving /metrics, /livez and /readyz");
    }
    tracing::info!(
        net.address = %server.address(),
        net.tls = tls,
        database = %database,
        version = env!("TOPE_VERSION"),
        "the server is ready; Ctrl-C stops it"
    );
    if args.demo {
        tracing::info!(
            "demo data: resources tokens, requests, storage_bytes; plans free, pro, agent; tenants acme (free), globex \
             (pro, with an agent and an override); try: \
             tope reserve acme tokens=1000 --request-id call-1"
        );
    }
    systemd::ready(&format!("listening on {}", server.address()));
    signals.next().await;
    systemd::stopping(drain);
    tracing::info!("stopping: open calls are answered first; a second Ctrl-C stops at once");
    tokio::select! {
        () = server.shutdown() => {
            tracing::info!("stopped");
            Ok(())
        }
        () = signals.next() => {
            Err(CliError::new("stopped at once: open calls got no answer, so their clients do not know the outcome"))
        }
    }
}

/// Warns that other machines can reach the server, unless calls need keys and are encrypted.
fn warn_of_reach(address: SocketAddr, auth: Auth, tls: bool) {
    let text = match (auth, tls) {
        (Auth::Keys, true) => return,
        (Auth::Keys, false) => {
            "listening on an address that other machines can reach, without TLS: anybody on the network path can \
             read keys; set tls_cert and tls_key, unless a proxy in front of the server encrypts"
        }
        (Auth::Off, _) => {
            "listening on an address that other machines can reach, without keys: anybody who reaches this port can \
             spend quota and administer tenants"
        }
    };
    tracing::warn!(net.address = %address, "{text}");
}

/// The signals that end the server. From the moment on at which this value is made, no signal ends the process by
/// itself.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> Result<Self, CliError> {
        let caught = |kind| signal(kind).map_err(|error| CliError::caused("cannot wait for signals", &error));
        Ok(Self { interrupt: caught(SignalKind::interrupt())?, terminate: caught(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
