//! Checks of settings that depend on each other.

use std::path::PathBuf;

use http::Uri;

use super::{Auth, Config, otlp::check_endpoint};

/// Checks the settings that have no fault of their own.
///
/// # Errors
///
/// A text for a person that names the settings.
pub(super) fn check(config: &Config) -> Result<(), String> {
    check_auth(config)?;
    check_metrics(config)?;
    check_jwt(config)?;
    check_otlp(config)?;
    check_tls(config)?;
    check_request_ids(config)?;
    check_counters(config)
}

/// Checks that a server without keys listens only for this machine, unless `insecure` says otherwise.
fn check_auth(config: &Config) -> Result<(), String> {
    if config.auth == Auth::Off && !config.listen.ip().is_loopback() && !config.insecure {
        return Err(format!(
            "listen is {}, which other machines can reach, and auth is off, so that anybody there could spend quota \
             and administer tenants; create a key with `tope keys create --role admin` and set auth to keys, or set \
             insecure to true",
            config.listen
        ));
    }
    Ok(())
}

/// Checks that metrics need keys only if calls do, since only then are there keys.
fn check_metrics(config: &Config) -> Result<(), String> {
    if config.metrics_auth == Auth::Keys && config.auth == Auth::Off {
        return Err(
            "metrics_auth is keys, but auth is off; /metrics can need a key only if calls do".to_owned()
        );
    }
    Ok(())
}

/// Checks that the settings of JWTs are complete, and that keys are needed at all.
fn check_jwt(config: &Config) -> Result<(), String> {
    let settings = [
        ("jwt_issuer", &config.jwt_issuer),
        ("jwt_audience", &config.jwt_audience),
        ("jwt_jwks", &config.jwt_jwks),
    ];
    let Some((given, _)) = settings.iter().find(|(_, text)| !text.is_empty()) else { return Ok(()) };
    if let Some((missing, _)) = settings.iter().find(|(_, text)| text.is_empty()) {
        return Err(format!("{given} is set, but {missing} is not; JWTs need both"));
    }
    if config.auth == Auth::Off {
        return Err(format!("{given} is set, but auth is off; JWTs count only if auth is keys"));
    }
    for (claim, name) in [
        ("jwt_role_claim", &config.jwt_role_claim),
        ("jwt_tenants_claim", &config.jwt_tenants_claim),
        ("jwt_agents_claim", &config.jwt_agents_claim),
    ] {
        if name.is_empty() {
            return Err(format!("{claim} must be the name of a claim, but is empty"));
        }
    }
    if config.jwt_jwks.contains("://") { check_jwks_url(&config.jwt_jwks) } else { Ok(()) }
}

/// Checks the URL of the keys: whoever can change its answer can make JWTs. The text of a wrong URL is not shown, since
/// it may contain a password.
fn check_jwks_url(text: &str) -> Result<(), String> {
    let url: Option<Uri> = text.parse().ok();
    let parts =
        url.as_ref().and_then(|url| Some((url.scheme_str()?, url.authority()?.as_str(), url.host()?)));
    let Some((scheme, authority, host)) = parts else {
        return Err("jwt_jwks must be the name of a file, or an https URL".to_owned());
    };
    if authority.contains('@') {
        return Err("jwt_jwks must be a URL without user and password".to_owned());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_here =
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match scheme {
        "https" => Ok(()),
        "http" if is_here => Ok(()),
        "http" => Err("jwt_jwks must be an https URL, since anybody on the network path could replace the keys; http is \
                       only for this machine"
            .to_owned()),
        _ => Err("jwt_jwks must be the name of a file, or an https URL".to_owned()),
    }
}

/// Checks that the address of the collector is a URL.
fn check_otlp(config: &Config) -> Result<(), String> {
    if config.otlp_endpoint.is_empty() {
        return Ok(());
    }
    check_endpoint(&config.otlp_endpoint).map_err(|wanted| format!("otlp_endpoint {wanted}"))
}

/// Checks that a certificate has a key, and that the CAs of clients come with a certificate.
fn check_tls(config: &Config) -> Result<(), String> {
    let is_set = |file: &PathBuf| !file.as_os_str().is_empty();
    let (cert, key, client_ca) =
        (is_set(&config.tls_cert), is_set(&config.tls_key), is_set(&config.tls_client_ca));
    match (cert, key) {
        (true, false) => Err("tls_cert is set, but tls_key is not; TLS needs both".to_owned()),
        (false, true) => Err("tls_key is set, but tls_cert is not; TLS needs both".to_owned()),
        (false, false) if client_ca => {
            Err("tls_client_ca is set, but tls_cert and tls_key are not; without TLS, clients have no certificates"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks that reservations are kept as long as request ids, since a repeated request is answered from its reservation.
fn check_request_ids(config: &Config) -> Result<(), String> {
    let (days, hours) = (config.reservation_retention_days, config.request_id_retention_hours);
    if hours > days * 24 {
        return Err(format!(
            "request_id_retention_hours must be at most reservation_retention_days, which is {days} ({} hours), but is \
             {hours}",
            days * 24
        ));
    }
    Ok(())
}

/// Checks that counters are kept as long as reservations, since a reservation that is kept may still change them.
fn check_counters(config: &Config) -> Result<(), String> {
    let (reservations, counters) = (config.reservation_retention_days, config.counter_retention_days);
    if counters < reservations {
        return Err(format!(
            "counter_retention_days must be at least reservation_retention_days, which is {reservations}, but is \
             {counters}"
        ));
    }
    Ok(())
}
