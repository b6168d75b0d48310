//! CAs and certificates that exist only for a test.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// An authority that issues certificates.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Pair {
    /// The certificate, without those of its issuers.
    pub cert: String,
    /// The private key of the certificate.
    pub key: String,
}

/// The years in which a certificate is valid, if a test does not depend on them.
pub const VALID: [i32; 2] = [2001, 4096];

impl Ca {
    /// Makes an authority with this name.
    pub fn new(name: &str) -> Self {
        let mut params = params(&[], VALID);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Returns the certificate of the authority, as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for these names.
    pub fn issue(&self, names: &[&str], years: [i32; 2]) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let cert = params(names, years).signed_by(&key, &self.0).expect("a certificate").pem();
        Pair { cert, key: key.serialize_pem() }
    }

    /// Issues a certificate for a user of PostgreSQL, whom the common name of the certificate names.
    pub fn user(&self, name: &str) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(&[], VALID);
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Pair { cert, key: key.serialize_pem() }
    }

    /// Issues a certificate of a client with these names: URIs, hosts and e-mail addresses.
    pub fn client(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(&[], VALID);
        params.subject_alt_names = names
            .iter()
            .map(|&name| {
                let text = name.try_into().expect("ASCII");
                match name {
                    name if name.contains(':') => SanType::URI(text),
                    name if name.contains('@') => SanType::Rfc822Name(text),
                    _ => SanType::DnsName(text),
                }
            })
            .collect();
        let cert = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Pair { cert, key: key.serialize_pem() }
    }

    /// Issues a certificate for this machine.
    pub fn server(&self) -> Pair {
        self.issue(&["127.0.0.1", "localhost"], VALID)
    }

    /// Returns the settings of a client that trusts this authority.
    pub fn trusted(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem()))
    }
}

impl Pair {
    /// Writes both to files in a folder, whose names begin with `name`. Returns the paths of certificate and key.
    pub fn write(&self, folder: &Path, name: &str) -> [String; 2] {
        let cert = write(folder, &format!("{name}.cert.pem"), &self.cert);
        [cert, write(folder, &format!("{name}.key.pem"), &self.key)]
    }

    /// Returns the certificate of a client, for tonic.
    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.cert, &self.key)
    }

    /// Returns the bytes of the certificate.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate")
    }
}

/// Writes a file that replaces an older file at once, as certificate managers do. Returns its path.
pub fn write(folder: &Path, name: &str, text: &str) -> String {
    let (path, new): (PathBuf, PathBuf) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&new, text).expect("the folder can be written to");
    fs::rename(&new, &path).expect("the folder can be written to");
    path.display().to_string()
}

fn params(names: &[&str], years: [i32; 2]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names and addresses");
    params.not_before = date_time_ymd(years[0], 1, 1);
    params.not_after = date_time_ymd(years[1], 1, 1);
    params
}

/// Makes the handshake of a client that trusts this authority, with these versions of TLS, and nothing more.
///
/// # Errors
///
/// When client and server do not agree.
pub async fn handshake(
    address: SocketAddr,
    ca: &Ca,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("a certificate")).expect("a CA");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}
