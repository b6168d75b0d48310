//! How the server finds out who calls, by its settings.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    access::{
        Access, Keyring,
        jwt::{JwksError, JwksSource, JwtRules, JwtVerifier},
    },
    clock::Clock,
    config::{Auth, Config},
    store::Store,
};

/// Makes what finds out who calls. If callers may show JWTs, the keys of the identity provider are followed until `stop`
/// is cancelled.
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
