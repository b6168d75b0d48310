//! Connecting and printing, for all commands that call a server.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    Code, Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use super::{
    error::{CliError, Exit},
    tls::TlsArgs,
};
use crate::access::KeyText;

/// Default of `--target`, the address of the server.
pub const TARGET_DEFAULT: &str = "127.0.0.1:50051";

/// The server that a command calls.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// Address of the server: host and port, or an http or https URL
    #[arg(long, value_name = "ADDR", env = "TOPE_TARGET", default_value = TARGET_DEFAULT)]
    pub target: String,

    /// The key and the files of TLS.
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

/// How a command shows a server who calls, and whom it trusts.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CredentialArgs {
    /// File with the text of a key, for servers that need one
    #[arg(long, value_name = "FILE", env = "TOPE_KEY_FILE")]
    pub key_file: Option<PathBuf>,

    /// The files of TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// A connection to a server, whose calls have the key of `--key-file`.
pub type Connection = InterceptedService<Channel, KeyHeader>;

/// Adds a key to the metadata of calls, if there is one.
#[derive(Clone, Debug, Default)]
pub struct KeyHeader(Option<AsciiMetadataValue>);

impl Interceptor for KeyHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl KeyHeader {
    /// Reads the text of a key from a file. Blanks around the text do not matter.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or does not contain one key.
    pub fn read(file: Option<&Path>) -> Result<Self, CliError> {
        let Some(file) = file else { return Ok(Self(None)) };
        let text = std::fs::read_to_string(file).map_err(|error| {
            CliError::caused(format_args!("cannot read the key in {}", file.display()), &error)
        })?;
        let value = KeyText::parse(text.trim()).and_then(|_| format!("Bearer {}", text.trim()).parse().ok());
        let mut value: AsciiMetadataValue = value.ok_or_else(|| {
            let wanted = "must contain one key, tope_<id>_<secret>, as `tope keys create` prints it";
            CliError::usage(format!("the key file {} {wanted}", file.display()))
        })?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl TargetArgs {
    /// Connects to the server at once.
    ///
    /// # Errors
    ///
    /// As [`CredentialArgs::connect`].
    pub async fn connect(&self) -> Result<Connection, CliError> {
        self.credentials.connect(&self.target).await
    }
}

impl CredentialArgs {
    /// Connects to a server at once, with TLS if the target is an `https` URL.
    ///
    /// # Errors
    ///
    /// When the key cannot be read, an argument is wrong, no server answers there, or server and client do not trust
    /// each other.
    pub async fn connect(&self, target: &str) -> Result<Connection, CliError> {
        let key = KeyHeader::read(self.key_file.as_deref())?;
        Ok(InterceptedService::new(self.channel(target).await?, key))
    }

    async fn channel(&self, target: &str) -> Result<Channel, CliError> {
        if !target.starts_with("https://") {
            self.tls.check_unused(target)?;
            return connect(target).await;
        }
        let endpoint = parse(target, "https")?;
        let trust = self.tls.load()?;
        let host = host_of(&endpoint).to_owned();
        let check = trust.check(target, &host, endpoint.uri().port_u16().unwrap_or(443));
        timeout(CONNECT_TIMEOUT, check).await.unwrap_or_else(|_| {
            let text = format!("cannot connect to {target}: the server does not answer");
            Err(CliError::new(text).with_exit(Exit::Unreachable))
        })?;
        let failed = |error| {
            CliError::caused(format_args!("cannot connect to {target}"), &error).with_exit(Exit::Unreachable)
        };
        let endpoint =
            kept_alive(endpoint).tls_config(trust.tonic.timeout(CONNECT_TIMEOUT)).map_err(failed)?;
        endpoint.connect().await.map_err(failed)
    }
}

/// Maximum time to connect to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// While a call is open, the client pings a connection that was silent for this time.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Maximum time in which the server must answer a keepalive ping. After this time the client closes the connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time that the client waits for the answer to [`HTTP1_REQUEST`].
const SNIFF_TIMEOUT: Duration = Duration::from_secs(2);

/// A request that every HTTP/1 server answers, but no HTTP/2 server.
const HTTP1_REQUEST: &[u8] = b"HEAD / HTTP/1.1\r\nHost: tope\r\nConnection: close\r\n\r\n";

/// The first bytes of each HTTP/1 answer. They are as many as the bytes of an alert of TLS.
const HTTP1_ANSWER: [u8; 7] = *b"HTTP/1.";

/// The first two bytes of the alert with which a server of TLS answers [`HTTP1_REQUEST`].
const TLS_ALERT: u8 = 21;
const TLS_MAJOR: u8 = 3;

/// Parses the address of a server without TLS: `127.0.0.1:50051` or `http://127.0.0.1:50051`.
///
/// # Errors
///
/// When the address is neither an `http` URL nor a host and a port.
pub fn endpoint(target: &str) -> Result<Endpoint, CliError> {
    parse(target, "http")
}

/// Parses the address of a server. Without a scheme the address is that of an `http` URL.
fn parse(target: &str, scheme: &str) -> Result<Endpoint, CliError> {
    let malformed = || {
        CliError::usage(format!(
            "the target {target:?} must be a host and a port, such as 127.0.0.1:50051, or an {scheme} URL"
        ))
    };
    let with_scheme = if target.contains("://") { target.to_owned() } else { format!("http://{target}") };
    let endpoint = Endpoint::from_shared(with_scheme).map_err(|_| malformed())?;
    if endpoint.uri().port().is_none() && !target.contains("://") {
        return Err(malformed());
    }
    if endpoint.uri().scheme_str() != Some(scheme) || endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(malformed());
    }
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true))
}

/// Returns the host of an address, without the brackets of an IPv6 address.
fn host_of(endpoint: &Endpoint) -> &str {
    endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']'])
}

/// Makes keepalive pings break the connection if the server disappears during a call.
fn kept_alive(endpoint: Endpoint) -> Endpoint {
    endpoint.http2_keep_alive_interval(KEEPALIVE_INTERVAL).keep_alive_timeout(KEEPALIVE_TIMEOUT)
}

/// Connects to a server without TLS at once. Keepalive pings break the connection if the server disappears during a
/// call.
///
/// # Errors
///
/// When the address is malformed, or no server answers there.
pub async fn connect(target: &str) -> Result<Channel, CliError> {
    let endpoint = kept_alive(endpoint(target)?);
    let channel = endpoint.connect().await.map_err(|error| {
        CliError::caused(format_args!("cannot connect to {target}"), &error).with_exit(Exit::Unreachable)
    })?;
    let fault = match spoken(&endpoint).await.unwrap_or(Spoken::Other) {
        Spoken::Other => return Ok(channel),
        Spoken::Http1 => {
            "it speaks HTTP/1, and gRPC needs HTTP/2; is it the port of `tope serve`?".to_owned()
        }
        Spoken::Tls => {
            let address = target.trim_start_matches("http://");
            format!("it speaks TLS; use the target https://{address}, with --ca FILE if its CA is not public")
        }
    };
    Err(CliError::new(format!("cannot connect to {target}: {fault}")).with_exit(Exit::Unreachable))
}

/// What a server speaks, as its answer to a request of HTTP/1 shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Tls,
    /// HTTP/2 or a protocol that is not known.
    Other,
}

/// Finds out what a server speaks. Without this check, the error would only say that the server sent a frame of the
/// wrong size.
async fn spoken(endpoint: &Endpoint) -> io::Result<Spoken> {
    let sniff = async {
        let mut socket =
            TcpStream::connect((host_of(endpoint), endpoint.uri().port_u16().unwrap_or(80))).await?;
        socket.write_all(HTTP1_REQUEST).await?;
        let mut first = [0; HTTP1_ANSWER.len()];
        socket.read_exact(&mut first).await?;
        Ok(match first {
            HTTP1_ANSWER => Spoken::Http1,
            [TLS_ALERT, TLS_MAJOR, ..] => Spoken::Tls,
            _ => Spoken::Other,
        })
    };
    // If the server sends nothing in time, the call itself waits for it.
    timeout(SNIFF_TIMEOUT, sniff).await.unwrap_or(Ok(Spoken::Other))
}

/// Reads the reply of a Create call. Returns true if the object was created, and false if it existed already.
///
/// # Errors
///
/// When the server refused for another reason than ALREADY_EXISTS.
pub fn created<T>(tried: impl fmt::Display, reply: Result<Response<T>, Status>) -> Result<bool, CliError> {
    match reply {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::AlreadyExists => Ok(false),
        Err(status) => Err(CliError::refused(tried, &status)),
    }
}

/// Returns the delay after which the server asks to repeat the call, from `RetryInfo`.
pub fn find_retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Returns sixteen random hex digits, so that two runs never use the same request_ids.
pub fn run_id() -> String {
    // The keys of the standard library's hash are random, and this is random enough here.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Writes one line of data to stdout.
///
/// # Errors
///
/// When stdout is closed.
pub fn print_line(line: impl fmt::Display) -> Result<(), CliError> {
    writeln!(io::stdout().lock(), "{line}")
        .map_err(|error| CliError::caused("cannot write to stdout", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port_or_an_http_url() {
        for target in ["127.0.0.1:50051", "localhost:50051", "http://[::1]:50051", "http://tope.internal"] {
            assert!(endpoint(target).is_ok(), "{target}");
        }
        for target in ["https://tope.internal", "https://[::1]:50051"] {
            assert!(parse(target, "https").is_ok(), "{target}");
        }
        for target in ["localhost", "https://tope.internal", "", "http://", "a b:1", ":50051"] {
            assert!(endpoint(target).is_err(), "{target}");
        }
    }

    #[test]
    fn two_runs_have_different_ids() {
        assert_ne!(run_id(), run_id());
        assert_eq!(run_id().len(), 16);
    }
}
