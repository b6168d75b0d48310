//! Settings of `aforo serve`: flags over AFORO_* over a file.

use std::{net::SocketAddr, path::Path};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

/// The database when nothing says otherwise.
pub const DATABASE_DEFAULT: &str = "sqlite://aforo.db";

/// Longest time that open calls may take when the server ends.
pub const DRAIN_DEFAULT_SECONDS: u64 = 10;

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port.
    pub listen: SocketAddr,
    /// URL of the database.
    pub database: String,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Longest time that open calls may take when the server ends.
    pub drain_seconds: u64,
    /// Batches that run at once, on PostgreSQL; SQLite has one.
    pub lanes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50_051)),
            database: DATABASE_DEFAULT.to_owned(),
            log_format: LogFormat::Text,
            drain_seconds: DRAIN_DEFAULT_SECONDS,
            lanes: LANES_DEFAULT,
        }
    }
}

/// Lanes on PostgreSQL: while one commits another decides.
pub const LANES_DEFAULT: usize = 2;

/// Most lanes: each has a connection.
pub const LANES_MAX: usize = 64;

/// Settings that flags give; those that are absent come from elsewhere.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flags {
    /// See [`Config::listen`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// See [`Config::database`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// See [`Config::log_format`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// See [`Config::drain_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<u64>,
    /// See [`Config::lanes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lanes: Option<usize>,
}

/// Puts the settings together.
///
/// # Errors
///
/// A text for a person: which setting is at fault, and where it was given.
pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Config, String> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = file {
        if !file.is_file() {
            return Err(format!("the settings file {} does not exist", file.display()));
        }
        figment = figment.merge(Toml::file_exact(file));
    }
    let known = ["listen", "database", "log_format", "drain_seconds", "lanes"];
    let config: Config = figment
        .merge(Env::prefixed("AFORO_").only(&known))
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|error| error.to_string())?;
    if config.lanes == 0 || config.lanes > LANES_MAX {
        return Err(format!("lanes must be 1 to {LANES_MAX}, and is {}", config.lanes));
    }
    Ok(config)
}
