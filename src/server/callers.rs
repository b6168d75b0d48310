//! How the server finds out who calls, by its settings.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{
        Access, Credential, Denied, Keyring,
        jwt::{JwksError, JwksSource, JwtRules, JwtVerifier},
    },
    clock::Clock,
    config::{Auth, Config},
    domain::access::{BadKey, Permit, Role},
    http::Unadmitted,
    store::Store,
};

/// Makes what finds out who calls. If callers may show JWTs, the keys of the identity provider are followed until
/// `stop` is cancelled.
///
/// # Errors
///
/// When the keys of the identity provider are in a file that cannot be used.
pub(super) async fn access(
    config: &Config,
    store: &Store,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<Access, JwksError> {
    if config.auth == Auth::Off {
        return Ok(Access::Off);
    }
    let jwts = if config.jwt_jwks.is_empty() {
        None
    } else {
        let metrics = Arc::clone(store.metrics());
        let verifier = JwtVerifier::start(rules(config), source(&config.jwt_jwks), metrics).await?;
        tokio::spawn(Arc::clone(&verifier).follow(stop.clone()));
        Some(verifier)
    };
    Ok(Access::Keys(Arc::new(Keyring::new(store.clone(), clock.clone(), jwts))))
}

fn rules(config: &Config) -> JwtRules {
    JwtRules {
        issuer: config.jwt_issuer.clone(),
        audience: config.jwt_audience.clone(),
        role_claim: config.jwt_role_claim.clone(),
        tenants_claim: config.jwt_tenants_claim.clone(),
        agents_claim: config.jwt_agents_claim.clone(),
    }
}

fn source(jwks: &str) -> JwksSource {
    if jwks.contains("://") { JwksSource::Url(jwks.to_owned()) } else { JwksSource::File(jwks.into()) }
}

/// Returns the keys that the metrics need. `None`: everybody may read the metrics.
pub(super) fn keys_of_metrics(config: &Config, access: &Access) -> Option<Arc<Keyring>> {
    match (config.metrics_auth, access) {
        (Auth::Keys, Access::Keys(keyring)) => Some(Arc::clone(keyring)),
        (Auth::Off, _) | (Auth::Keys, Access::Off) => None,
    }
}

/// Decides whether a client may read the metrics, which are about all tenants (R7.10). If the keys cannot be loaded,
/// the remembered keys count: while the database is away, the metrics are needed most.
///
/// # Errors
///
/// The client has shown no valid key, or the key is not one for the metrics.
pub(super) async fn admit_to_metrics(keyring: &Keyring, headers: &HeaderMap) -> Result<(), Unadmitted> {
    let unauthenticated = |bad: BadKey| Unadmitted::Unauthenticated(format!("{}: {bad}", bad.reason()));
    let values = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let credential = Credential::read(values, None).map_err(unauthenticated)?;
    let permit = match keyring.authenticate(&credential).await {
        Ok(permit) => permit,
        Err(Denied::Key(BadKey::JwksMissing)) => return Err(Unadmitted::Unavailable),
        Err(Denied::Key(bad)) => return Err(unauthenticated(bad)),
        Err(Denied::Unavailable | Denied::Store(_)) => {
            keyring.find(&credential).ok_or(Unadmitted::Unavailable)?
        }
    };
    if may_read_metrics(&permit) { Ok(()) } else { Err(Unadmitted::Forbidden) }
}

fn may_read_metrics(permit: &Permit) -> bool {
    let role = permit.rights().map(|rights| rights.role);
    matches!(role, Some(Role::Admin | Role::Operator | Role::Viewer)) && !permit.has_tenants()
}
