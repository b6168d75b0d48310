//! The log: to stderr, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::LogFormat;

/// What is logged when RUST_LOG says nothing.
const FILTER_DEFAULT: &str = "info,sqlx=error,sqlx_core=error,tokio_cron_scheduler=warn";

/// The same, of commands whose output is not a log.
const FILTER_QUIET: &str = "warn";

/// Starts logging. Once per process; again has no effect.
pub fn start(format: LogFormat) {
    start_with(format, FILTER_DEFAULT);
}

/// Starts logging for a command whose output is not a log. Without a start, spans cost more than with one: some of the
/// libraries turn on tracing's way to the `log` crate, which is taken when nobody listens.
pub fn start_quietly() {
    start_with(LogFormat::Text, FILTER_QUIET);
}

fn start_with(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let registry = tracing_subscriber::registry().with(filter);
    // A second start is a test's: the first one's log goes on.
    let _ = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false))
                .try_init()
        }
        LogFormat::Json => {
            let layer = fmt::layer().with_writer(std::io::stderr).json().flatten_event(true);
            registry.with(layer).try_init()
        }
    };
}

/// Logs panics like all else, in place of the standard library's text.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(panic = %panic, "a defect: something panicked")));
}
