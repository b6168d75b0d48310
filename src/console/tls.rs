//! TLS of the commands that call a server: which servers they trust, and with which certificate they call.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{ClientTlsConfig, Identity};

use super::error::{CliError, Exit};

/// Maximum time that the client waits for the first byte of the server after the handshake. A server of HTTP/2 sends
/// the first byte, so no byte is needed from the client.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(2);

/// The files of TLS, for https targets.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArgs {
    /// File with the CA that issued the certificate of the server, as PEM, for an https target [default: the CAs of
    /// this system]
    #[arg(long = "ca", value_name = "FILE", env = "TOPE_CA_FILE")]
    pub ca: Option<PathBuf>,

    /// File with a certificate, as PEM, for servers that ask clients for one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,

    /// File with the private key of this certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Fails if an option is set, for a target without TLS.
    ///
    /// # Errors
    ///
    /// The name of the option.
    pub(super) fn check_unused(&self, target: &str) -> Result<(), CliError> {
        let option = match self {
            TlsArgs { ca: Some(_), .. } => "--ca (TOPE_CA_FILE)",
            TlsArgs { client_cert: Some(_), .. } => "--client-cert",
            _ => return Ok(()),
        };
        Err(CliError::usage(format!(
            "{option} needs a target that begins with https://, but it is {target:?}"
        )))
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used, or this system has no CAs.
    pub(super) fn load(&self) -> Result<Trust, CliError> {
        let (roots, source) = match &self.ca {
            Some(file) => (roots_of(file)?, format!("the CAs in {}", file.display())),
            None => (roots_of_system()?, "the CAs of this system".to_owned()),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| CliError::caused("cannot use TLS", &error))?
            .with_root_certificates(roots.clone());
        let mut tonic = ClientTlsConfig::new().trust_anchors(roots.roots);
        let mut config = match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => {
                let (cert_pem, key_pem) = (read("--client-cert", cert)?, read("--client-key", key)?);
                tonic = tonic.identity(Identity::from_pem(&cert_pem, &key_pem));
                let chain = certificates("--client-cert", cert, &cert_pem)?;
                let key_der = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| {
                    let fault = "which contains no private key without a passphrase, as PEM";
                    CliError::usage(format!("--client-key names {}, {fault}", key.display()))
                })?;
                builder.with_client_auth_cert(chain, key_der).map_err(|error| {
                    let tried = format!("cannot use --client-cert {} with --client-key", cert.display());
                    CliError::caused(tried, &error).with_exit(Exit::Usage)
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Trust { config: Arc::new(config), tonic, source })
    }
}

/// What a client trusts, and with which certificate it calls.
pub(super) struct Trust {
    config: Arc<ClientConfig>,
    /// The same, for tonic.
    pub(super) tonic: ClientTlsConfig,
    /// Where the trusted CAs come from, for errors.
    source: String,
}

impl Trust {
    /// Makes a connection to a server and closes it, to find out whether the server accepts the client and the client
    /// accepts the server. tonic's own error would only say that the connection is broken: in TLS 1.3 a server refuses
    /// the certificate of a client after the client's handshake has ended.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to do.
    pub(super) async fn check(&self, target: &str, host: &str, port: u16) -> Result<(), CliError> {
        let Err(error) = self.try_handshake(host, port).await else { return Ok(()) };
        let text = match cause(&error) {
            Some(error) => format!("cannot connect to {target}: {}", self.explain(error, host)),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                format!(
                    "cannot connect to {target}: the server closed the connection during the handshake of TLS"
                )
            }
            None => {
                return Err(CliError::caused(format_args!("cannot connect to {target}"), &error)
                    .with_exit(Exit::Unreachable));
            }
        };
        Err(CliError::new(text).with_exit(Exit::Unreachable))
    }

    async fn try_handshake(&self, host: &str, port: u16) -> io::Result<()> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let socket = TcpStream::connect((host, port)).await?;
        let mut stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await?;
        // If the server sends nothing in time, the call itself waits for it.
        match timeout(FIRST_BYTE_TIMEOUT, stream.read_u8()).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    /// Says what an error of TLS means, and what to do.
    fn explain(&self, error: &rustls::Error, host: &str) -> String {
        use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
        match error {
            InvalidMessage(_) => {
                format!(
                    "the server does not speak TLS ({error}); if it has no certificate, use a target with http://"
                )
            }
            InvalidCertificate(CertificateError::UnknownIssuer) => {
                format!(
                    "the certificate of the server is not from a CA that this command trusts, which are {}; name \
                     the right CA with --ca FILE",
                    self.source
                )
            }
            InvalidCertificate(
                fault @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
            ) => format!("the certificate of the server is not for {host}: {fault}"),
            InvalidCertificate(fault) => format!("the certificate of the server is refused: {fault}"),
            AlertReceived(AlertDescription::CertificateRequired) => {
                "the server asks for a certificate of the client; name one with --client-cert and --client-key"
                    .to_owned()
            }
            AlertReceived(
                alert @ (AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied),
            ) => format!("the server refuses the certificate of --client-cert ({alert:?})"),
            AlertReceived(AlertDescription::NoApplicationProtocol) => {
                "the server does not speak HTTP/2, which gRPC needs; is it the port of `tope serve`?".to_owned()
            }
            error => error.to_string(),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Finds the error of TLS inside an I/O error.
fn cause(error: &io::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error.get_ref()?);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(file).map_err(|error| {
        CliError::caused(format_args!("cannot read the file {} of {option}", file.display()), &error)
            .with_exit(Exit::Usage)
    })
}

fn certificates(option: &str, file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CliError> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(CliError::usage(format!(
            "{option} names {}, which contains no certificate as PEM",
            file.display()
        ))),
    }
}

fn roots_of(file: &Path) -> Result<RootCertStore, CliError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--ca", file, &read("--ca", file)?)? {
        roots.add(certificate).map_err(|_| {
            CliError::usage(format!("--ca names {}, which contains a malformed certificate", file.display()))
        })?;
    }
    Ok(roots)
}

/// Reads the CAs of this system, or those that SSL_CERT_FILE and SSL_CERT_DIR name.
fn roots_of_system() -> Result<RootCertStore, CliError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(CliError::usage(
            "an https target needs --ca FILE (TOPE_CA_FILE), since this system has no CAs",
        ));
    }
    Ok(roots)
}
