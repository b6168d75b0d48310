//! Settings of `tope serve`: flags over TOPE_* over a file.

use std::{net::SocketAddr, path::Path};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

use crate::domain::bounds::REQUEST_ID_RETENTION_MIN_HOURS;

/// The database when nothing says otherwise.
pub const DATABASE_DEFAULT: &str = "sqlite://tope.db";

/// Longest time that open calls may take when the server ends.
pub const DRAIN_DEFAULT_SECONDS: u64 = 10;

/// Longest time that can be set for it: a day.
pub const DRAIN_MAX_SECONDS: u64 = 86_400;

/// How long reservations are kept after they were settled.
pub const RESERVATION_RETENTION_DEFAULT_DAYS: u32 = 30;

/// Longest that reservations and events can be kept: a hundred years.
pub const RESERVATION_RETENTION_MAX_DAYS: u32 = 36_500;

/// How long events are kept.
pub const EVENT_RETENTION_DEFAULT_DAYS: u32 = 30;

/// Shortest that events can be kept: a delivery to a webhook is retried for up to 30 hours.
pub const EVENT_RETENTION_MIN_DAYS: u32 = 2;

/// How long request ids are kept.
pub const REQUEST_ID_RETENTION_DEFAULT_HOURS: u32 = REQUEST_ID_RETENTION_MIN_HOURS;

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
    /// How long reservations are kept after they were settled.
    pub reservation_retention_days: u32,
    /// How long request ids are kept: at least 24 hours, and at most as long as reservations.
    pub request_id_retention_hours: u32,
    /// How long events are kept: at least 2 days.
    pub event_retention_days: u32,
    /// Webhooks may be sent by `http`, too.
    pub webhook_allow_http: bool,
    /// Webhooks may be sent to addresses that are not public, too.
    pub webhook_allow_private: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50_051)),
            database: DATABASE_DEFAULT.to_owned(),
            log_format: LogFormat::Text,
            drain_seconds: DRAIN_DEFAULT_SECONDS,
            lanes: lanes_default(),
            reservation_retention_days: RESERVATION_RETENTION_DEFAULT_DAYS,
            request_id_retention_hours: REQUEST_ID_RETENTION_DEFAULT_HOURS,
            event_retention_days: EVENT_RETENTION_DEFAULT_DAYS,
            webhook_allow_http: false,
            webhook_allow_private: false,
        }
    }
}

/// Lanes on PostgreSQL, unless it is set: one for each two cores, since a lane keeps one core of the database busy, and
/// about as much of this process. More lanes make smaller batches, which cost more.
pub fn lanes_default() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, LANES_DEFAULT_MAX)
}

/// Whether a batch is decided while the one before commits. On two cores, which callers and database keep busy, the hops
/// from thread to thread cost more than they give.
pub fn overlap_default() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 2)
}

/// Most lanes unless it is set.
pub const LANES_DEFAULT_MAX: usize = 8;

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
    /// See [`Config::reservation_retention_days`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation_retention_days: Option<u32>,
    /// See [`Config::request_id_retention_hours`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id_retention_hours: Option<u32>,
    /// See [`Config::event_retention_days`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_retention_days: Option<u32>,
    /// See [`Config::webhook_allow_http`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_allow_http: Option<bool>,
    /// See [`Config::webhook_allow_private`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_allow_private: Option<bool>,
}

/// Those that the environment may give.
const KNOWN: [&str; 10] = [
    "listen",
    "database",
    "log_format",
    "drain_seconds",
    "lanes",
    "reservation_retention_days",
    "request_id_retention_hours",
    "event_retention_days",
    "webhook_allow_http",
    "webhook_allow_private",
];

/// Puts the settings together.
///
/// # Errors
///
/// A text for a person: which setting is at fault, and where it was given.
pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Config, String> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(file) = file {
        if !file.exists() {
            return Err(format!("the settings file {} does not exist", file.display()));
        }
        if !file.is_file() {
            return Err(format!("the settings file {} is not a file", file.display()));
        }
        if let Err(error) = std::fs::read_to_string(file) {
            return Err(format!("the settings file {} cannot be read: {error}", file.display()));
        }
        figment = figment.merge(Toml::file_exact(file));
    }
    let config: Config = figment
        .merge(Env::prefixed("TOPE_").only(&KNOWN))
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|error| error.into_iter().map(|one| told(&one, file)).collect::<Vec<_>>().join("; "))?;
    if config.drain_seconds > DRAIN_MAX_SECONDS {
        return Err(format!(
            "drain_seconds must be at most {DRAIN_MAX_SECONDS}, and is {}",
            config.drain_seconds
        ));
    }
    if config.lanes == 0 || config.lanes > LANES_MAX {
        return Err(format!("lanes must be 1 to {LANES_MAX}, and is {}", config.lanes));
    }
    check_retention(&config)?;
    Ok(config)
}

fn check_retention(config: &Config) -> Result<(), String> {
    let (events, most) = (config.event_retention_days, RESERVATION_RETENTION_MAX_DAYS);
    let least = EVENT_RETENTION_MIN_DAYS;
    if !(least..=most).contains(&events) {
        return Err(format!("event_retention_days must be {least} to {most}, and is {events}"));
    }
    let (days, hours) = (config.reservation_retention_days, config.request_id_retention_hours);
    if !(1..=RESERVATION_RETENTION_MAX_DAYS).contains(&days) {
        let most = RESERVATION_RETENTION_MAX_DAYS;
        return Err(format!("reservation_retention_days must be 1 to {most}, and is {days}"));
    }
    if hours < REQUEST_ID_RETENTION_MIN_HOURS {
        let least = REQUEST_ID_RETENTION_MIN_HOURS;
        return Err(format!("request_id_retention_hours must be at least {least}, and is {hours}"));
    }
    // A repeated request is answered from its reservation.
    if hours > days * 24 {
        return Err(format!(
            "request_id_retention_hours must be at most reservation_retention_days, which is {days} ({} hours), and is \
             {hours}",
            days * 24
        ));
    }
    Ok(())
}

/// An error in terms of where the setting was given.
fn told(error: &figment::Error, file: Option<&Path>) -> String {
    use figment::error::Kind;
    let source = error.metadata.as_ref();
    let from_environment = source.is_some_and(|metadata| metadata.name.contains("environment"));
    let setting = error.path.last().map(String::as_str).unwrap_or_default();
    let place = match source.and_then(|metadata| metadata.source.as_ref()) {
        _ if from_environment => format!("environment variable TOPE_{}", setting.to_uppercase()),
        Some(figment::Source::File(file)) => format!("setting {setting:?} in {}", file.display()),
        Some(_) | None => format!("setting {setting:?}"),
    };
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let file = source.and_then(|metadata| metadata.source.as_ref()).map(ToString::to_string);
            format!(
                "{name:?} in {} is not a setting; those are {}",
                file.unwrap_or_default(),
                known.join(", ")
            )
        }
        Kind::InvalidType(found, _) | Kind::InvalidValue(found, _) => {
            format!("{place} must be {}, and is {found}", wanted(setting))
        }
        // Where the file is no TOML, and why. Between them stands the line at fault, which may have a secret.
        Kind::Message(text) if setting.is_empty() => {
            let said: Vec<&str> = text.lines().filter(|line| !line.contains('|')).map(str::trim).collect();
            let file = file.unwrap_or(Path::new(""));
            format!("the settings file {} cannot be read: {}", file.display(), said.join("; "))
        }
        _ => format!("{place} must be {}", wanted(setting)),
    }
}

fn wanted(setting: &str) -> &'static str {
    match setting {
        "listen" => "an IP address and a port, such as 127.0.0.1:50051",
        "database" => "a URL, such as sqlite://tope.db",
        "log_format" => "text or json",
        "drain_seconds" => "a number of seconds",
        "lanes" => "a number, 1 to 64",
        "reservation_retention_days" | "event_retention_days" => "a number of days",
        "request_id_retention_hours" => "a number of hours",
        "webhook_allow_http" | "webhook_allow_private" => "true or false",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_setting_and_where_it_was_given() {
        let directory = tempfile::tempdir().expect("a folder");
        let cases = [
            ("listen = \"nonsense\"", "setting \"listen\" in "),
            ("lanes = \"two\"", "must be a number, 1 to 64, and is string \"two\""),
            ("lanes = 65", "lanes must be 1 to 64, and is 65"),
            ("lsten = \"127.0.0.1:1\"", "\"lsten\" in "),
            ("log_format = \"xml\"", "must be text or json"),
            ("drain_seconds = -1", "must be a number of seconds"),
            ("drain_seconds = 86401", "drain_seconds must be at most 86400, and is 86401"),
            ("lanes = [", "tope.toml cannot be read: TOML parse error at line 1, column 10; "),
            (
                "lanes = 1\nlanes = 2",
                "tope.toml cannot be read: TOML parse error at line 2, column 1; duplicate key",
            ),
            ("reservation_retention_days = 0", "reservation_retention_days must be 1 to 36500, and is 0"),
            ("reservation_retention_days = \"x\"", "must be a number of days"),
            ("event_retention_days = 1", "event_retention_days must be 2 to 36500, and is 1"),
            ("event_retention_days = \"x\"", "must be a number of days"),
            ("request_id_retention_hours = -1", "must be a number of hours"),
            ("webhook_allow_http = \"yes\"", "must be true or false"),
            ("webhook_allow_private = 1", "must be true or false"),
            ("request_id_retention_hours = 23", "request_id_retention_hours must be at least 24, and is 23"),
            (
                "request_id_retention_hours = 49\nreservation_retention_days = 2",
                "request_id_retention_hours must be at most reservation_retention_days, which is 2 (48 hours), and is 49",
            ),
        ];
        for (text, said) in cases {
            let file = directory.path().join("tope.toml");
            std::fs::write(&file, text).expect("written");
            let error = load(Some(&file), &Flags::default()).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
        std::fs::write(directory.path().join("bytes"), [0xff, 0xfe]).expect("written");
        let bytes = load(Some(&directory.path().join("bytes")), &Flags::default()).expect_err("no text");
        assert!(bytes.contains("bytes cannot be read: "), "{bytes}");
        let missing = load(Some(&directory.path().join("none")), &Flags::default()).expect_err("missing");
        assert!(missing.ends_with("does not exist"), "{missing}");
        let folder = load(Some(directory.path()), &Flags::default()).expect_err("a folder");
        assert!(folder.ends_with("is not a file"), "{folder}");
    }

    #[test]
    fn flags_come_before_the_file() {
        let directory = tempfile::tempdir().expect("a folder");
        let file = directory.path().join("tope.toml");
        std::fs::write(&file, "lanes = 3\ndrain_seconds = 4").expect("written");
        let config = load(Some(&file), &Flags { lanes: Some(5), ..Flags::default() }).expect("loaded");
        assert_eq!((config.lanes, config.drain_seconds), (5, 4));
    }
}
