//! Reads and checks the files of TLS: certificate, key, and the CAs of clients.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::DateTime;
use rustls::{
    CertificateError, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// The only protocol that is spoken over TLS: HTTP/2.
const ALPN_H2: &[u8] = b"h2";

/// Maximum size of each file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The files of TLS, as the settings name them.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate of the server and those of its issuers, as PEM (`tls_cert`).
    pub cert: PathBuf,
    /// The private key of the certificate, as PEM (`tls_key`).
    pub key: PathBuf,
    /// The CAs that issue the certificates of clients, as PEM (`tls_client_ca`). `None`: clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// A file of TLS that cannot be used. The text names the setting and the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} names {}, {fault}", file.display())]
pub struct TlsError {
    setting: &'static str,
    file: PathBuf,
    fault: String,
}

/// A time as a certificate has it: unix time in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    /// Returns the time of this machine.
    pub(super) fn now() -> Self {
        Self(UnixTime::now().as_secs())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%d %H:%M:%S UTC")),
            None => write!(f, "unix time {}", self.0),
        }
    }
}

/// What the files contain.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The settings of new connections.
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate of the server becomes valid.
    begins: Moment,
    /// When the certificate of the server expires.
    pub(super) expires: Moment,
    cert: PathBuf,
}

impl Loaded {
    /// Checks that the certificate is valid at a time.
    ///
    /// # Errors
    ///
    /// When the certificate has expired, or is not valid yet.
    pub(super) fn check_time(&self, now: Moment) -> Result<(), TlsError> {
        let fault = match now {
            now if now > self.expires => format!("whose certificate has expired on {}", self.expires),
            now if now < self.begins => format!("whose certificate is not valid before {}", self.begins),
            _ => return Ok(()),
        };
        Err(File { setting: "tls_cert", path: &self.cert }.at_fault(fault))
    }
}

impl TlsFiles {
    /// Reads and checks the files. Does not check whether the certificate is valid now.
    ///
    /// # Errors
    ///
    /// When a file is missing or malformed, or the key does not fit the certificate.
    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let cert = File { setting: "tls_cert", path: &self.cert };
        let chain = cert.certificates()?;
        let (begins, expires) = validity(&chain[0], &provider).map_err(|fault| cert.at_fault(fault))?;
        let key = File { setting: "tls_key", path: &self.key };
        let key = CertifiedKey::from_der(chain, key.private_key()?, &provider).map_err(|error| {
            key.at_fault(match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    format!("whose key does not fit the certificate in {}", self.cert.display())
                }
                error => format!("whose key cannot be used: {error}"),
            })
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| cert.at_fault(format!("which cannot be used: {error}")))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let file = File { setting: "tls_client_ca", path };
                let verifier = WebPkiClientVerifier::builder_with_provider(file.roots()?, provider).build();
                let verifier =
                    verifier.map_err(|error| file.at_fault(format!("which cannot be used: {error}")))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        if self.client_ca.is_some() {
            // A session that is resumed brings its client's certificate along without verifying it again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded { config: Arc::new(config), begins, expires, cert: self.cert.clone() })
    }

    /// Returns the stamps of the files, which differ after a file was replaced or written.
    pub(super) fn stamps(&self) -> [Option<Stamp>; 3] {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].map(|path| Stamp::of(path?))
    }
}

/// The signs by which a change of a file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    node: u64,
}

impl Stamp {
    /// Returns `None` if the file cannot be read.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok(), bytes: metadata.len(), node: metadata.ino() })
    }
}

/// A file and the setting that names it.
#[derive(Clone, Copy)]
struct File<'a> {
    setting: &'static str,
    path: &'a Path,
}

impl File<'_> {
    fn at_fault(self, fault: impl Into<String>) -> TlsError {
        TlsError { setting: self.setting, file: self.path.to_owned(), fault: fault.into() }
    }

    fn read(self) -> Result<Vec<u8>, TlsError> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.at_fault("which does not exist"),
            _ => self.at_fault(format!("which cannot be read: {error}")),
        };
        let metadata = fs::metadata(self.path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(self.at_fault("which is not a file"));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(self.at_fault("which is larger than 1 MiB"));
        }
        let bytes = fs::read(self.path).map_err(unreadable)?;
        if !contains(&bytes, b"-----BEGIN ") {
            return Err(self.at_fault("which is not PEM: no line begins with -----BEGIN"));
        }
        Ok(bytes)
    }

    /// Reads all certificates of the file, at least one.
    fn certificates(self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(&self.read()?).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| self.malformed(&error))?;
        if certificates.is_empty() {
            return Err(self.at_fault("which contains no certificate"));
        }
        Ok(certificates)
    }

    fn private_key(self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound if contains(&bytes, b"ENCRYPTED PRIVATE KEY") => {
                self.at_fault("whose key is encrypted; Tope needs a key without a passphrase")
            }
            pem::Error::NoItemsFound => self.at_fault("which contains no private key"),
            error => self.malformed(&error),
        })
    }

    /// Reads the CAs of the file.
    fn roots(self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|_| self.at_fault("which contains a malformed certificate"))?;
        }
        Ok(Arc::new(roots))
    }

    /// The texts of the parser are not shown where they contain bytes of the file, which may be a key.
    fn malformed(self, error: &pem::Error) -> TlsError {
        self.at_fault(match error {
            pem::Error::MissingSectionEnd { .. } => "which is not PEM: a line -----END is missing",
            pem::Error::IllegalSectionStart { .. } => "which is not PEM: a line -----BEGIN is malformed",
            pem::Error::Base64Decode(_) => "which is not PEM: it contains malformed base64",
            _ => "which is not PEM",
        })
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Returns when a certificate becomes valid, and when it expires. rustls shows neither. So a verifier is asked about a
/// time before and a time after all certificates, and its refusals contain the bounds.
///
/// # Errors
///
/// What is wrong with the certificate, for [`TlsError`].
fn validity(
    certificate: &CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> Result<(Moment, Moment), &'static str> {
    let malformed = "which contains a malformed certificate";
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).map_err(|_| malformed)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let verifier = verifier.map_err(|_| malformed)?;
    let refusal = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        match verifier.verify_client_cert(certificate, &[], time) {
            Err(rustls::Error::InvalidCertificate(error)) => Some(error),
            Ok(_) | Err(_) => None,
        }
    };
    let begins = match refusal(0) {
        Some(CertificateError::NotValidYetContext { not_before, .. }) => not_before.as_secs(),
        _ => 0,
    };
    match refusal(u64::MAX) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => {
            Ok((Moment(begins), Moment(not_after.as_secs())))
        }
        _ => Err(malformed),
    }
}
