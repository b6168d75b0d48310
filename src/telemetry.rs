//! The log: written to stderr, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, filter::Directive, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{config::LogFormat, seldom::Seldom};

/// The filter of a server's log if RUST_LOG is not set.
const FILTER_DEFAULT: &str = "info,sqlx=error,sqlx_core=error,tokio_cron_scheduler=warn";

/// The filter for commands whose output is not a log.
const FILTER_QUIET: &str = "warn";

/// The words that a filter may use as levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts the log of a server. A second start in the same process has no effect.
pub fn start(format: LogFormat) {
    start_with(format, FILTER_DEFAULT);
}

/// Starts the log of a command whose output is not a log: only warnings and errors. The subscriber also saves time:
/// without one, spans would go through tracing's bridge to the `log` crate, which some libraries turn on.
pub fn start_quietly() {
    start_with(LogFormat::Text, FILTER_QUIET);
}

fn start_with(format: LogFormat, filter: &str) {
    let given = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let faults = faults_of_filter(&given);
    let usable = !given.is_empty() && faults.is_empty();
    let filter = EnvFilter::new(if usable { &given } else { filter });
    let registry = tracing_subscriber::registry().with(filter);
    // Only tests start the log twice. The first log stays in use.
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
    for fault in faults {
        tracing::warn!("RUST_LOG is ignored: {fault}");
    }
}

/// Lists the faults of a filter such as `info,tope=debug`. A single word that is no level is a fault, too: it would
/// count as the name of a module, and nothing else would be logged.
fn faults_of_filter(text: &str) -> Vec<String> {
    let level = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
    let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let faults = directives.filter_map(|directive| match directive.rsplit_once('=') {
        _ if directive.parse::<Directive>().is_err() => {
            Some(format!("{directive:?} is not a directive such as tope=debug"))
        }
        Some((_, word)) if !level(word) => {
            Some(format!("{word:?} is not a level; levels are {}", LEVELS.join(", ")))
        }
        None if !level(directive) => {
            Some(format!("{directive:?} is not a level; levels are {}", LEVELS.join(", ")))
        }
        _ => None,
    });
    faults.collect()
}

/// Logs panics as errors, instead of the standard library's text. Each place in the code is logged at most once a
/// minute.
pub fn log_panics() {
    static PANICKED: Seldom<Option<(String, u32)>> = Seldom::new();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| (place.file().to_owned(), place.line()));
        if let Some(left_out) = PANICKED.due(place) {
            tracing::error!(
                panic = %panic,
                log.left_out = left_out,
                "a task or thread panicked; please report this defect"
            );
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_silence_the_log_is_a_fault() {
        for text in ["", "debug", "WARN", "info,tope=debug", "off", "tope::store=trace,sqlx=error"] {
            assert_eq!(faults_of_filter(text), Vec::<String>::new(), "{text}");
        }
        for text in ["debg", "info,tope=debg", "tope", "a=b=c", "[x"] {
            assert_eq!(faults_of_filter(text).len(), 1, "{text}");
        }
    }
}
