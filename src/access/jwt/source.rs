//! Reads the keys of an identity provider, from a file or a URL, within bounds of time and size.

use std::{error::Error, fmt, path::PathBuf, time::Duration};

use reqwest::{Client, StatusCode, redirect};
use tokio::{fs::File, io::AsyncReadExt};

/// Maximum size of a set of keys.
const SET_BYTES_MAX: usize = 1024 * 1024;

/// The pause between two reads of a file.
const FILE_PAUSE: Duration = Duration::from_secs(5);

/// The pause between two reads of a URL.
const URL_PAUSE: Duration = Duration::from_secs(300);

/// Maximum duration of a read, from finding the address to the end of the answer. Calls wait for it.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the keys of an identity provider are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A file, which is read every 5 seconds.
    File(PathBuf),
    /// An `http` or `https` URL, which is read every 5 minutes.
    Url(String),
}

impl fmt::Display for JwksSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JwksSource::File(file) => write!(formatter, "{}", file.display()),
            JwksSource::Url(url) => formatter.write_str(url),
        }
    }
}

/// Reads the keys of one source.
#[derive(Debug)]
pub(super) struct Reader {
    source: JwksSource,
    client: Client,
}

impl Reader {
    /// Makes a reader of a source.
    ///
    /// # Errors
    ///
    /// When the HTTP client cannot be built, such as on a machine without CAs.
    pub(super) fn new(source: JwksSource) -> Result<Self, String> {
        // Fails only if a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("tope/", env!("CARGO_PKG_VERSION")))
            .timeout(READ_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| format!("{source}, but the HTTP client cannot be built: {}", cause(&error)))?;
        Ok(Self { source, client })
    }

    pub(super) fn source(&self) -> &JwksSource {
        &self.source
    }

    /// Returns the pause after a read.
    pub(super) fn pause(&self) -> Duration {
        match self.source {
            JwksSource::File(_) => FILE_PAUSE,
            JwksSource::Url(_) => URL_PAUSE,
        }
    }

    /// Reads the text of the set of keys.
    ///
    /// # Errors
    ///
    /// The source, and what is wrong with it, for a person.
    pub(super) async fn read(&self) -> Result<Vec<u8>, String> {
        let read = match &self.source {
            JwksSource::File(file) => read_file(file).await,
            JwksSource::Url(url) => self.fetch(url).await,
        };
        read.map_err(|fault| format!("{}, which {fault}", self.source))
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        let failed = |error: reqwest::Error| match error.is_timeout() {
            true => format!("did not answer within {} seconds", READ_TIMEOUT.as_secs()),
            false => format!("cannot be read: {}", cause(&error)),
        };
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(format!("answered {}, and redirects are not followed", status.as_u16()));
            }
            status => return Err(format!("answered {}", status.as_u16())),
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if text.len() + chunk.len() > SET_BYTES_MAX {
                return Err("is larger than 1 MiB".to_owned());
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    }
}

async fn read_file(path: &PathBuf) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let file = File::open(path).await.map_err(failed)?;
    if !file.metadata().await.map_err(failed)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut text = Vec::new();
    let most = u64::try_from(SET_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    file.take(most).read_to_end(&mut text).await.map_err(failed)?;
    if text.len() > SET_BYTES_MAX {
        return Err("is larger than 1 MiB".to_owned());
    }
    Ok(text)
}

/// Returns the innermost cause of an error, which does not contain the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
