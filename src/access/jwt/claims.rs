//! The claims of a JWT (RFC 7519): whom they are for, how long they are valid, and what their subject may do.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value};

use crate::domain::{
    access::{BadKey, Jwt, Role},
    bounds::{KEY_NAMES_MAX, TEXT_LENGTH_MAX_BYTES},
    id::{name_fault, text_fault},
    time::{Span, Time},
};

/// Two clocks may differ by this time: a JWT is valid for this time before `nbf` and after `exp`.
const LEEWAY: Span = Span::seconds(60);

/// The latest instant of a claim, in seconds: the end of the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

/// The name that stands for all tenants, or for all agents.
const ALL: &str = "*";

/// What the claims of each JWT must be, and which claims say what its subject may do.
#[derive(Clone, Debug)]
pub struct JwtRules {
    /// The claim `iss` must be this text.
    pub issuer: String,
    /// The claim `aud` must be this text, or contain it.
    pub audience: String,
    /// The claim with the role. As the names of the claims below: the name of a claim, or names with dots between them,
    /// each within the one before.
    pub role_claim: String,
    /// The claim with the tenants.
    pub tenants_claim: String,
    /// The claim with the agents.
    pub agents_claim: String,
}

type Claims = Map<String, Value>;

impl JwtRules {
    /// Judges the claims of a JWT whose signature was verified.
    ///
    /// # Errors
    ///
    /// Which claim is missing or wrong, or that the JWT is not valid now.
    pub(super) fn judge(&self, payload: &[u8], now: Time) -> Result<Jwt, BadKey> {
        let claims: Claims = serde_json::from_slice(payload).map_err(|_| BadKey::JwtMalformed)?;
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(BadKey::JwtClaim("the claim `iss`"));
        }
        if !names(claims.get("aud")).is_some_and(|names| names.contains(&self.audience.as_str())) {
            return Err(BadKey::JwtClaim("the claim `aud`"));
        }
        let expires_at = claims.get("exp").and_then(instant).ok_or(BadKey::JwtClaim("the claim `exp`"))?;
        let expires_at = expires_at.saturating_add(LEEWAY);
        let begins_at =
            claims.get("nbf").map(|begin| instant(begin).ok_or(BadKey::JwtClaim("the claim `nbf`")));
        let begins_at = begins_at.transpose()?.unwrap_or(Time::MIN).saturating_sub(LEEWAY);
        if now >= expires_at || now < begins_at {
            return Err(BadKey::JwtExpired);
        }
        let is_subject = |text: &&str| {
            !text.is_empty() && text.len() <= TEXT_LENGTH_MAX_BYTES && text_fault(text).is_none()
        };
        let subject = claims.get("sub").and_then(Value::as_str).filter(is_subject);
        let subject = subject.ok_or(BadKey::JwtClaim("the claim `sub`"))?.to_owned();
        let role = self.role(&claims).ok_or(BadKey::JwtClaim("the claim that jwt_role_claim names"))?;
        let tenants = find(&claims, &self.tenants_claim).and_then(set);
        let tenants = tenants.ok_or(BadKey::JwtClaim("the claim that jwt_tenants_claim names"))?;
        let agents = match find(&claims, &self.agents_claim) {
            Some(claim) => set(claim).filter(|agents| agents.is_empty() || role == Role::Spender),
            None => Some(BTreeSet::new()),
        };
        let agents = agents.ok_or(BadKey::JwtClaim("the claim that jwt_agents_claim names"))?;
        Ok(Jwt { subject, role, tenants, agents, expires_at })
    }

    /// Finds the role: a text, or a list of texts of which exactly one is a role.
    fn role(&self, claims: &Claims) -> Option<Role> {
        let given = names(Some(find(claims, &self.role_claim)?))?;
        let role_of =
            |given: &str| Role::ALL.into_iter().find(|role| role.name().eq_ignore_ascii_case(given));
        let mut roles = given.into_iter().filter_map(role_of);
        let role = roles.next()?;
        roles.all(|other| other == role).then_some(role)
    }
}

/// Finds a claim by its whole name, or else by the names between the dots. So a name such as `https://a.example/role`
/// is found, too.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    if let Some(claim) = claims.get(name) {
        return Some(claim);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |claim, name| claim.as_object()?.get(name))
}

/// Reads a text, or a list of texts. `None`: the claim is neither.
fn names(claim: Option<&Value>) -> Option<Vec<&str>> {
    match claim? {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Reads a set of tenants or agents: one name or a list of names, or `*` alone for all, which is the empty set. `None`:
/// the claim is neither. An empty list is no set, since it would otherwise permit everything.
fn set(claim: &Value) -> Option<BTreeSet<String>> {
    let names = names(Some(claim))?;
    if names == [ALL] {
        return Some(BTreeSet::new());
    }
    let fits = (1..=KEY_NAMES_MAX).contains(&names.len())
        && names.iter().all(|name| name_fault(name).is_none() && *name != ALL);
    fits.then(|| names.into_iter().map(str::to_owned).collect())
}

/// Reads an instant: a number of seconds since 1970, which may have a fraction.
fn instant(claim: &Value) -> Option<Time> {
    let since = match claim.as_u64() {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::try_from_secs_f64(claim.as_f64()?).ok()?,
    };
    let within = since.as_secs() <= SECONDS_MAX;
    i64::try_from(since.as_millis()).ok().filter(|_| within).map(Time)
}
