//! The log: to stderr, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::LogFormat;

/// What is logged when RUST_LOG says nothing.
const FILTER_DEFAULT: &str = "info,sqlx=warn";

/// Starts logging. Once per process; again has no effect.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER_DEFAULT));
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
