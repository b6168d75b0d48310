//! Settings of `tope serve`. Precedence: flag, then environment (`TOPE_…`), then file. Each setting is declared once,
//! below.

mod checks;
mod http;
mod otlp;

use std::{
    fmt::Display,
    net::SocketAddr,
    ops::{Bound, RangeBounds},
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

pub use self::http::HttpAddress;
use self::http::parse_http;
use crate::domain::bounds::{REQUEST_ID_RETENTION_MIN_HOURS, TENANT_COUNTERS_MAX};

/// Default of `database`: a SQLite file in the current folder.
pub const DATABASE_DEFAULT: &str = "sqlite://tope.db";

/// Default of `drain_seconds`: maximum time that open calls may still take when the server shuts down.
pub const DRAIN_DEFAULT_SECONDS: u64 = 10;

/// Largest value of `drain_seconds`: a day.
pub const DRAIN_MAX_SECONDS: u64 = 86_400;

/// Longest retention of reservations, of events and of the audit, in days: a hundred years.
pub const RETENTION_MAX_DAYS: u32 = 36_500;

/// Shortest retention of events, in days: a delivery to a webhook is retried for up to 30 hours.
pub const EVENT_RETENTION_MIN_DAYS: u32 = 2;

/// Shortest retention of counters, in days: a Record may report usage of the last 35 days.
pub const COUNTER_RETENTION_MIN_DAYS: u32 = 36;

/// Largest value of `counters_per_tenant_max`.
pub const COUNTERS_MAX: u64 = 100_000_000;

/// Largest default of `lanes`, however many cores there are.
pub const LANES_DEFAULT_MAX: usize = 8;

/// Largest value of `lanes`: each lane has a connection to PostgreSQL.
pub const LANES_MAX: usize = 64;

/// Maximum number of tenants in the metrics.
pub const METRICS_TENANTS_MAX: usize = 1_000;

/// Environment variables that begin with `TOPE_` and are not settings of the server.
const OTHER_VARIABLES: [&str; 9] = [
    "TOPE_CA_FILE",
    "TOPE_CONFIG",
    "TOPE_KEY_FILE",
    "TOPE_TARGET",
    "TOPE_TEST_GRPCURL",
    "TOPE_TEST_POSTGRES_BIN",
    "TOPE_TEST_PROMETHEUS_BIN",
    "TOPE_TEST_PYTHON",
    "TOPE_WEBHOOK_SECRET",
];

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text, for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// How the server finds out who calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Everybody may do everything.
    #[default]
    Off,
    /// Every call must have a key, or a JWT if the settings of JWTs are set.
    Keys,
}

/// Declares the settings. One declaration makes the field of [`Config`] with its default, the flag, the key of the
/// file, the environment variable, and the error text that says what the value must be. A range after that text is
/// checked, and is shown in the help and in errors.
macro_rules! settings {
    ($(
        $(#[doc = $help:literal])+
        [$($flag:tt)*]
        $name:ident: $type:ty = $default:expr, $wanted:literal $(in $range:expr)?;
    )+) => {
        /// The settings of a server.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            $($(#[doc = $help])+ pub $name: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// Settings given as flags. An absent setting comes from the environment, the file or the defaults.
        #[derive(Clone, Debug, Default, Serialize, clap::Args)]
        pub struct Flags {
            $(
                $(#[doc = $help])+
                #[arg(long, $($flag)*)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )+
        }

        /// The names of all settings, as in the file.
        const NAMES: &[&str] = &[$(stringify!($name)),+];

        /// Says what the value of a setting must be, for an error.
        fn wanted(setting: &str) -> String {
            let text = match setting {
                $(stringify!($name) => $wanted,)+
                _ => "a known setting",
            };
            range_of(setting).map_or_else(|| text.to_owned(), |range| format!("{text}, {range}"))
        }

        /// Describes the range of a setting. `None`: the setting has no range.
        fn range_of(setting: &str) -> Option<String> {
            match setting {
                $($(stringify!($name) => Some(described(&$range)),)?)+
                _ => None,
            }
        }

        /// Checks that each setting is within its range.
        fn check_ranges(config: &Config) -> Result<(), String> {
            $($(check_range(stringify!($name), config.$name, &$range)?;)?)+
            Ok(())
        }
    };
}

settings! {
    /// Address and port to listen on
    [value_name = "ADDR", value_parser = parse_address]
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 50_051)),
        "an IP address and a port, such as 127.0.0.1:50051";

    /// Address and port of the HTTP listener for /metrics, /livez and /readyz, or off
    [value_name = "ADDR|off", value_parser = parse_http]
    http: HttpAddress = HttpAddress(Some(SocketAddr::from(([127, 0, 0, 1], 50_052)))),
        "an IP address and a port, such as 127.0.0.1:50052, or off";

    /// Whether /metrics needs a key of the role viewer, operator or admin for all tenants: off or keys
    [value_name = "MODE", value_enum]
    metrics_auth: Auth = Auth::Off, "off or keys";

    /// Number of tenants whose operations the metrics show, those that are the busiest; 0 for none
    [value_name = "N"]
    metrics_tenants: usize = 0, "a number" in ..=METRICS_TENANTS_MAX;

    /// Address of a collector for traces, such as http://127.0.0.1:4317 (OTLP over gRPC); empty for no traces
    [value_name = "URL"]
    otlp_endpoint: String = String::new(), "a URL, such as http://127.0.0.1:4317";

    /// Part of the calls that are traced, of those whose caller sends no traceparent
    [value_name = "PART"]
    otlp_sample: f64 = 0.01, "a number" in 0.0..=1.0;

    /// Database: sqlite://FILE or postgres://…
    [value_name = "URL", value_parser = parse_database]
    database: String = DATABASE_DEFAULT.to_owned(), "a URL, such as sqlite://tope.db";

    /// Whether calls need a key: off (everybody may do everything) or keys
    [value_name = "MODE", value_enum]
    auth: Auth = Auth::Off, "off or keys";

    /// Issuer of the JWTs that callers may show instead of a key: the claim iss
    [value_name = "TEXT"]
    jwt_issuer: String = String::new(), "a text";

    /// Audience of the JWTs, which stands for this service: the claim aud must be or contain it
    [value_name = "TEXT"]
    jwt_audience: String = String::new(), "a text";

    /// File or URL with the public keys of the issuer, a JWK Set; http only for this machine
    [value_name = "FILE|URL"]
    jwt_jwks: String = String::new(), "the name of a file, or a URL";

    /// Claim with the role of the caller; dots lead into nested claims
    [value_name = "CLAIM"]
    jwt_role_claim: String = "tope_role".to_owned(), "the name of a claim";

    /// Claim with the tenants that the caller may name, or "*" for all
    [value_name = "CLAIM"]
    jwt_tenants_claim: String = "tope_tenants".to_owned(), "the name of a claim";

    /// Claim with the agents that a spender may name; without the claim, all
    [value_name = "CLAIM"]
    jwt_agents_claim: String = "tope_agents".to_owned(), "the name of a claim";

    /// Answer health checks and reflection without a key, also if other calls need a key
    [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"]
    auth_public_health: bool = true, "true or false";

    /// Serve without keys on an address that other machines can reach
    [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"]
    insecure: bool = false, "true or false";

    /// File with the certificate of the server, as PEM; with tls_key it turns TLS on
    [value_name = "FILE"]
    tls_cert: PathBuf = PathBuf::new(), "the name of a file";

    /// File with the private key of the certificate, as PEM
    [value_name = "FILE"]
    tls_key: PathBuf = PathBuf::new(), "the name of a file";

    /// File with CAs, as PEM; each client must then have a certificate of one of these CAs
    [value_name = "FILE"]
    tls_client_ca: PathBuf = PathBuf::new(), "the name of a file";

    /// Form of the log, which goes to stderr; RUST_LOG decides what the log contains
    [value_name = "FORMAT", value_enum]
    log_format: LogFormat = LogFormat::Text, "text or json";

    /// Maximum time, in seconds, that open calls may still take when the server shuts down
    [value_name = "SECONDS"]
    drain_seconds: u64 = DRAIN_DEFAULT_SECONDS, "a number of seconds" in ..=DRAIN_MAX_SECONDS;

    /// Batches that run at the same time on PostgreSQL (on SQLite always 1); unless set, half of the cores
    [value_name = "N"]
    lanes: usize = lanes_default(), "a number" in 1..=LANES_MAX;

    /// How long settled reservations are kept, in days
    [value_name = "DAYS"]
    reservation_retention_days: u32 = 30, "a number of days" in 1..=RETENTION_MAX_DAYS;

    /// How long request ids are kept, in hours; not longer than reservations
    [value_name = "HOURS"]
    request_id_retention_hours: u32 = REQUEST_ID_RETENTION_MIN_HOURS,
        "a number of hours" in REQUEST_ID_RETENTION_MIN_HOURS..;

    /// How long events are kept, in days
    [value_name = "DAYS"]
    event_retention_days: u32 = 30, "a number of days" in EVENT_RETENTION_MIN_DAYS..=RETENTION_MAX_DAYS;

    /// How long the audit is kept, in days; 0 for as long as events
    [value_name = "DAYS"]
    audit_retention_days: u32 = 0, "a number of days" in ..=RETENTION_MAX_DAYS;

    /// How long counters are kept after their window has ended, in days; not shorter than reservations
    [value_name = "DAYS"]
    counter_retention_days: u32 = 400, "a number of days" in COUNTER_RETENTION_MIN_DAYS..=RETENTION_MAX_DAYS;

    /// Number of counters of a tenant beyond which Reserve and Extend make no counters of new subjects
    [value_name = "N"]
    counters_per_tenant_max: u64 = TENANT_COUNTERS_MAX, "a number" in 1..=COUNTERS_MAX;

    /// Allow webhooks with http URLs, whose bodies anybody on the network path can read
    [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"]
    webhook_allow_http: bool = false, "true or false";

    /// Allow webhooks to addresses that are not public, such as those of this machine
    [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"]
    webhook_allow_private: bool = false, "true or false";
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:50051 or [::]:50051".to_owned())
}

/// Checks that the database is a URL.
///
/// # Errors
///
/// A text for a person that suggests the URL of a SQLite file.
pub fn parse_database(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((scheme, _))
            if scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter)) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("{text:?} must be a URL; for a SQLite file it is sqlite://{text}")),
    }
}

/// Returns the default of `lanes`: one lane per two cores. A lane keeps one core of the database busy, and about one
/// core of this process. More lanes make smaller batches, which cost more per operation.
pub fn lanes_default() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, LANES_DEFAULT_MAX)
}

/// Returns whether a batch is decided while the previous batch commits. On two cores, clients and the database keep
/// both cores busy. Switching between threads then costs more than it gains.
pub fn overlap_default() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 2)
}

/// Describes a range in words, such as "1 to 64". No setting has a range that excludes its end.
fn described<T: Display>(range: &impl RangeBounds<T>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(least), Bound::Included(most)) => format!("{least} to {most}"),
        (Bound::Included(least), Bound::Unbounded) => format!("at least {least}"),
        (Bound::Unbounded, Bound::Included(most)) => format!("at most {most}"),
        _ => "within its range".to_owned(),
    }
}

fn check_range<T: Display + PartialOrd>(
    setting: &str,
    value: T,
    range: &impl RangeBounds<T>,
) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{setting} must be {}, but is {value}", described(range)))
}

/// Adds the range, the default and the environment variable to the help of each flag that is a setting.
pub fn describe(command: clap::Command) -> clap::Command {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    command.mut_args(|argument| {
        let id = argument.get_id().to_string();
        if !NAMES.contains(&id.as_str()) {
            return argument;
        }
        let default = match defaults[&id].as_str() {
            Some("") => "none".to_owned(),
            Some(text) => text.to_owned(),
            None => defaults[&id].to_string(),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let range = range_of(&id).map(|range| format!(" [{range}]")).unwrap_or_default();
        argument.help(format!("{help}{range} [default: {default}] [env: {}]", variable(&id)))
    })
}

/// Formats the settings as a settings file. The caller gives the database URL to print, without its password.
///
/// # Errors
///
/// When a value cannot be serialized, which is a defect.
pub fn print(config: &Config, shown_database: &str) -> Result<String, String> {
    let shown = Config { database: shown_database.to_owned(), ..config.clone() };
    let values = serde_json::to_value(shown).map_err(|error| error.to_string())?;
    let lines = NAMES.iter().map(|name| format!("{name} = {}\n", values[name]));
    Ok(lines.collect())
}

/// Returns a warning for each unknown environment variable that begins with `TOPE_`, with the known name that is most
/// similar.
pub fn unknown_variables(variables: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<String> =
        NAMES.iter().map(|name| variable(name)).chain(OTHER_VARIABLES.map(str::to_owned)).collect();
    let unknown = variables.filter(|name| name.starts_with("TOPE_") && !known.contains(name));
    let mut lines: Vec<String> = unknown
        .map(|name| match nearest(&name, &known) {
            Some(near) => format!("the environment variable {name} has no effect; did you mean {near}?"),
            None => format!("the environment variable {name} has no effect"),
        })
        .collect();
    lines.sort_unstable();
    lines
}

fn variable(setting: &str) -> String {
    format!("TOPE_{}", setting.to_uppercase())
}

/// Finds the known name that is most similar to a name. `None`: no known name is similar enough.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let alike =
        known.iter().map(|known| (strsim::normalized_damerau_levenshtein(name, known), known.as_str()));
    let best = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(likeness, _)| *likeness > 0.6).map(|(_, known)| known)
}

/// Loads the settings from file, environment and flags, and checks them.
///
/// # Errors
///
/// A text for a person: which setting is wrong, and where it was given.
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
        .merge(Env::prefixed("TOPE_").only(NAMES))
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|error| {
            error.into_iter().map(|one| describe_error(&one, file)).collect::<Vec<_>>().join("; ")
        })?;
    parse_database(&config.database).map_err(|error| format!("database {error}"))?;
    check_ranges(&config)?;
    checks::check(&config)?;
    Ok(config)
}

/// Describes an error, with the setting and the place where it was given.
fn describe_error(error: &figment::Error, file: Option<&Path>) -> String {
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
                "{name:?} in {} is not a setting; the settings are {}",
                file.unwrap_or_default(),
                known.join(", ")
            )
        }
        Kind::InvalidType(found, _) | Kind::InvalidValue(found, _) => {
            format!("{place} must be {}, but is {found}", wanted(setting))
        }
        // The file is not TOML: print the place and the reason, without the wrong line, which may contain a secret.
        Kind::Message(text) if setting.is_empty() => {
            let said: Vec<&str> = text.lines().filter(|line| !line.contains('|')).map(str::trim).collect();
            let file = file.unwrap_or(Path::new(""));
            format!("the settings file {} cannot be read: {}", file.display(), said.join("; "))
        }
        _ => format!("{place} must be {}", wanted(setting)),
    }
}

#[cfg(test)]
mod tests;
