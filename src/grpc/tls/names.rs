//! Finds the names in the certificate of a client that may stand for a key.

use rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::{
    access::PeerNames,
    domain::san::{SanKind, san_fault},
};

/// Returns the URIs, hosts and e-mail addresses among the subject alternative names of a certificate whose issuer was
/// verified. Names that cannot stand for a key are left out, such as a host with a wildcard. So are all names of a
/// certificate that cannot be parsed.
pub(in crate::grpc) fn peer_names(certificate: &CertificateDer<'_>) -> PeerNames {
    let parsed = Certificate::from_der(certificate).and_then(|certificate| {
        Ok(certificate.tbs_certificate().get_extension::<SubjectAltName>()?.map(|(_, names)| names.0))
    });
    let names = parsed.unwrap_or_else(|error| {
        tracing::debug!(error = %error, "the names of a client's certificate cannot be read");
        None
    });
    PeerNames::of(names.unwrap_or_default().iter().filter_map(|name| {
        let (kind, name) = match name {
            GeneralName::UniformResourceIdentifier(name) => (SanKind::Uri, name.as_str()),
            GeneralName::DnsName(name) => (SanKind::Dns, name.as_str()),
            GeneralName::Rfc822Name(name) => (SanKind::Email, name.as_str()),
            _ => return None,
        };
        (san_fault(name).is_none() && SanKind::of(name) == kind).then(|| name.to_owned())
    }))
}
