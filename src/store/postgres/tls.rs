//! TLS towards PostgreSQL, as the parameters `sslmode`, `sslrootcert`, `sslcert` and `sslkey` of the URL say.
//!
//! The pools, the migrations and the listener leave TLS to their driver. The lanes' driver needs a configuration, which
//! this file makes so that it accepts and refuses the same servers. The files are read for each new connection, as the
//! driver of the pools does, so that renewed certificates need no restart.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use sea_orm::{
    SqlxError,
    sqlx::{
        ConnectOptions as _,
        postgres::{PgConnectOptions, PgSslMode},
    },
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::error::{StoreError, unusable};

/// The parameters of TLS in the URL of a database, or in the variables PGSSLMODE, PGSSLROOTCERT, PGSSLCERT and PGSSLKEY.
#[derive(Clone, Debug)]
pub(in crate::store) struct PostgresTls {
    mode: PgSslMode,
    /// The files, or their contents.
    root: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

impl PostgresTls {
    /// Finds the parameters in the options of the pools.
    pub(in crate::store) fn of(options: &PgConnectOptions) -> Self {
        // The options reveal the files only in a URL.
        let url = options.clone().username("name").host("host").to_url_lossy();
        let find = |name: &str| {
            let found = url.query_pairs().find(|(found, _)| found == name)?.1;
            // The driver writes this before the name of a file, and nothing before a content.
            Some(found.strip_prefix("file: ").unwrap_or(&found).to_owned())
        };
        let mode =
            if options.get_socket().is_some() && options.get_ssl_mode() as u8 == PgSslMode::Prefer as u8 {
                // No server offers TLS on a socket of Unix.
                PgSslMode::Disable
            } else {
                options.get_ssl_mode()
            };
        Self { mode, root: find("sslrootcert"), cert: find("sslcert"), key: find("sslkey") }
    }

    /// Returns whether a connection of a lane uses TLS.
    pub(in crate::store) fn mode(&self) -> SslMode {
        match self.mode {
            // The driver of the pools does not use TLS with `allow`, either.
            PgSslMode::Disable | PgSslMode::Allow => SslMode::Disable,
            PgSslMode::Prefer => SslMode::Prefer,
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => SslMode::Require,
        }
    }

    /// Reads the files, and makes the connector of a new connection.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or does not contain what it should.
    pub(in crate::store) fn load(&self) -> Result<MakeRustlsConnect, StoreError> {
        if self.root.is_some() && matches!(self.mode, PgSslMode::Prefer | PgSslMode::Require) {
            return Err(unusable(
                "sslrootcert is set, but sslmode is prefer or require, which verify no certificate; use \
                 sslmode=verify-full",
            ));
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(format!("TLS towards PostgreSQL cannot be used: {error}")))?;
        let verifier: Arc<dyn ServerCertVerifier> = match (self.mode, self.roots()?) {
            (PgSslMode::VerifyCa | PgSslMode::VerifyFull, roots) => {
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                let verifier = verifier.build().map_err(|_| {
                    unusable("sslmode verifies the certificate of PostgreSQL, but there is no CA: name one by sslrootcert")
                })?;
                match self.mode {
                    PgSslMode::VerifyFull => verifier,
                    _ => Arc::new(Lenient { chain: Some(verifier), provider }),
                }
            }
            _ => Arc::new(Lenient { chain: None, provider }),
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("sslcert", cert)?;
                let key = PrivateKeyDer::from_pem_slice(&pem("sslkey", key)?).map_err(|_| {
                    at_fault("sslkey", key, "contains no private key without a passphrase, as PEM")
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unusable(format!("sslcert and sslkey cannot be used: {error}")))?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(_), None) => {
                return Err(unusable("sslcert needs sslkey, the private key of the certificate"));
            }
            (None, Some(_)) => {
                return Err(unusable("sslkey needs sslcert, the certificate of the private key"));
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }

    /// Reads the trusted CAs: those of this system, and those of `sslrootcert`. A server that is not verified needs none.
    fn roots(&self) -> Result<RootCertStore, StoreError> {
        let mut roots = RootCertStore::empty();
        if let Some(root) = &self.root {
            for certificate in certificates("sslrootcert", root)? {
                roots
                    .add(certificate)
                    .map_err(|_| at_fault("sslrootcert", root, "contains a malformed certificate"))?;
            }
        }
        if matches!(self.mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull) {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Ok(roots)
    }
}

/// Returns whether the server's or the client's certificate is the reason of an error, so that waiting does not help.
pub(in crate::store) fn is_of_certificates(error: &SqlxError) -> bool {
    let SqlxError::Io(error) = error else { return false };
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)))
}

fn certificates(parameter: &str, value: &str) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    match CertificateDer::pem_slice_iter(&pem(parameter, value)?).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(at_fault(parameter, value, "contains no certificate, as PEM")),
    }
}

/// Reads the file that a parameter names. As for the driver of the pools, the value can also be the content.
fn pem(parameter: &str, value: &str) -> Result<Vec<u8>, StoreError> {
    if is_content(value) {
        return Ok(value.as_bytes().to_vec());
    }
    std::fs::read(value)
        .map_err(|error| unusable(format!("{parameter} names {value}, which cannot be read: {error}")))
}

fn is_content(value: &str) -> bool {
    value.trim_start().starts_with("-----BEGIN")
}

/// Makes the error of a parameter. It does not quote a content, which may be a key.
fn at_fault(parameter: &str, value: &str, fault: &str) -> StoreError {
    if is_content(value) {
        return unusable(format!("{parameter} {fault}"));
    }
    unusable(format!("{parameter} names {value}, which {fault}"))
}

/// Accepts servers whose certificate is not for their name, and without `chain` all servers.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::{
            CertificateError::{NotValidForName, NotValidForNameContext},
            Error::InvalidCertificate,
        };
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The chain is verified before the name.
            Err(InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
