//! Who may call: keys, JWTs, roles, and the tenants and agents that a caller may name (R7).

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{audit::LOCAL, codes::codes, time::Time};

/// What the owner of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// May make every call.
    Admin,
    /// Reads, corrections and jobs; suspends tenants and agents.
    Operator,
    /// Reads, and changes nothing.
    Viewer,
    /// Reserves, settles and records usage, and reads balances and reservations.
    Spender,
}

codes!(Role as i16: Admin = 1 "ADMIN", Operator = 2 "OPERATOR", Viewer = 3 "VIEWER", Spender = 4 "SPENDER");

/// Whether a key is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// The key is valid until it expires.
    Active,
    /// The key is not valid. It can become active again.
    Revoked,
}

codes!(KeyState as i16: Active = 1 "ACTIVE", Revoked = 2 "REVOKED");

/// A key of a caller, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The id of the key, which is part of its text.
    pub id: String,
    /// The SHA-256 of the secret. A key with a `certificate_san` has a secret that nobody knows.
    pub hash: [u8; 32],
    /// The name in the certificate of the client that stands for the key. `None`: the secret does.
    pub certificate_san: Option<String>,
    /// What the owner may do.
    pub role: Role,
    /// The ids of the tenants that the owner may name. Empty: all tenants, and what belongs to no tenant.
    pub tenants: BTreeSet<String>,
    /// The agents that the owner may name. Empty: all agents.
    pub agents: BTreeSet<String>,
    /// A name for people to read.
    pub display_name: String,
    /// Whether the key is valid.
    pub state: KeyState,
    /// When the key ends. `None`: never.
    pub expires_at: Option<Time>,
    /// When the key was last used, to about a minute. `None`: never.
    pub last_used_at: Option<Time>,
    /// When the key was created.
    pub created_at: Time,
    /// When the key was last changed.
    pub updated_at: Time,
}

/// A verified JWT of an identity provider, as far as it decides what its subject may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// The claim `sub`, which says who calls.
    pub subject: String,
    /// What the subject may do.
    pub role: Role,
    /// The ids of the tenants that the subject may name. Empty: all tenants, and what belongs to no tenant.
    pub tenants: BTreeSet<String>,
    /// The agents that the subject may name. Empty: all agents.
    pub agents: BTreeSet<String>,
    /// From this instant on the JWT is not valid.
    pub expires_at: Time,
}

/// Who makes a call.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The owner of a key.
    Key(Arc<Key>),
    /// The subject of a JWT.
    Jwt(Arc<Jwt>),
}

/// What a caller may do. The rules are the same for all kinds of callers.
#[derive(Clone, Copy, Debug)]
pub struct Rights<'a> {
    /// The role of the caller.
    pub role: Role,
    tenants: &'a BTreeSet<String>,
    agents: &'a BTreeSet<String>,
}

/// What the caller of one operation may name. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub struct Permit {
    /// The caller. `None`: the server needs no keys, and everything is permitted.
    pub who: Option<Caller>,
    /// The revision of the policy at the last change of keys that the caller's key was compared with.
    pub revision: i64,
}

impl Permit {
    /// Returns what the caller may do. `None`: everything.
    pub fn rights(&self) -> Option<Rights<'_>> {
        Some(match self.who.as_ref()? {
            Caller::Key(key) => Rights { role: key.role, tenants: &key.tenants, agents: &key.agents },
            Caller::Jwt(jwt) => Rights { role: jwt.role, tenants: &jwt.tenants, agents: &jwt.agents },
        })
    }

    /// Returns the name of the caller in the audit and in events.
    pub fn caller(&self) -> String {
        match &self.who {
            None => LOCAL.to_owned(),
            Some(Caller::Key(key)) => match &key.certificate_san {
                Some(name) => format!("certificate:{name}"),
                None => format!("key:{}", key.id),
            },
            Some(Caller::Jwt(jwt)) => format!("jwt:{}", jwt.subject),
        }
    }

    /// Returns whether the caller's releases of holds are corrections, because no program that spends makes them.
    pub fn corrects(&self) -> bool {
        self.rights().is_some_and(|rights| matches!(rights.role, Role::Admin | Role::Operator))
    }

    /// Returns whether the caller may read keys.
    pub fn may_read_keys(&self) -> bool {
        self.rights().is_none_or(|rights| rights.role == Role::Admin)
    }

    /// Returns whether the caller may name a tenant.
    pub fn allows_tenant(&self, tenant: &str) -> bool {
        self.rights().is_none_or(|rights| rights.tenants.is_empty() || rights.tenants.contains(tenant))
    }

    /// Returns whether the caller may name an agent. The empty text stands for calls of no agent.
    pub fn allows_agent(&self, agent: &str) -> bool {
        self.rights().is_none_or(|rights| rights.agents.is_empty() || rights.agents.contains(agent))
    }

    /// Returns whether the caller may see only some agents.
    pub fn has_agents(&self) -> bool {
        self.rights().is_some_and(|rights| !rights.agents.is_empty())
    }

    /// Returns whether the caller may see only some tenants.
    pub fn has_tenants(&self) -> bool {
        self.rights().is_some_and(|rights| !rights.tenants.is_empty())
    }

    /// Returns whether a call of this caller may create a tenant.
    pub fn may_create_tenants(&self) -> bool {
        self.rights().is_none_or(|rights| matches!(rights.role, Role::Admin | Role::Spender))
    }

    /// Returns whether the caller was compared with all keys of a policy. A change of keys changes no JWT.
    pub fn is_current(&self, keys_revision: i64) -> bool {
        !matches!(self.who, Some(Caller::Key(_))) || self.revision >= keys_revision
    }

    /// Refuses an operation on a tenant or an agent that the caller may not name. The refusal is the same whether the
    /// tenant exists or not (R7.5).
    ///
    /// # Errors
    ///
    /// The tenant or the agent is not one of the key.
    pub fn check(&self, tenant: &str, agent: Option<&str>) -> Result<(), Forbidden> {
        if !self.allows_tenant(tenant) {
            return Err(Forbidden::Tenant);
        }
        match agent {
            Some(agent) if !self.allows_agent(agent) => Err(Forbidden::Agent),
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a key is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The call has no key.
    #[error(
        "the call has no key: send the metadata `authorization: Bearer tope_...`, or connect with a certificate whose name \
         stands for a key"
    )]
    Missing,
    /// The metadata is not that of one key.
    #[error(
        "the metadata `authorization` must be given once, as `Bearer ` and the text of a key, `tope_<id>_<secret>`"
    )]
    Malformed,
    /// No key has this text.
    #[error("no key of this server has this text")]
    Unknown,
    /// The key has expired.
    #[error("the key has expired")]
    Expired,
    /// The key was revoked.
    #[error("the key was revoked")]
    Revoked,
    /// Names of the client's certificate stand for several keys.
    #[error(
        "names in the certificate of the client stand for several keys: show one key, or use another certificate"
    )]
    Ambiguous,
    /// The text is not that of a JWT which this server could verify.
    #[error(
        "a JWT must have three parts in base64url with a dot between them, at most 8 KiB, and an `alg` of RS256, ES256 \
         or EdDSA"
    )]
    JwtMalformed,
    /// No key of the identity provider has signed the JWT.
    #[error("no key of the identity provider has signed the JWT")]
    JwtUntrusted,
    /// The JWT was signed by the identity provider, but is not valid now.
    #[error("the JWT has expired, or is not valid yet")]
    JwtExpired,
    /// The JWT was signed by the identity provider, but is not for this server, or not complete. The text says which
    /// claim is missing or wrong.
    #[error("{0} of the JWT is missing or not as this server needs it")]
    JwtClaim(&'static str),
    /// The keys of the identity provider were not read yet.
    #[error("the keys of the identity provider cannot be read; repeat the call later")]
    JwksMissing,
}

impl BadKey {
    /// Returns the reason in the error of a call.
    pub fn reason(self) -> &'static str {
        match self {
            BadKey::Missing => "KEY_MISSING",
            BadKey::Malformed => "KEY_MALFORMED",
            BadKey::Unknown => "KEY_UNKNOWN",
            BadKey::Expired => "KEY_EXPIRED",
            BadKey::Revoked => "KEY_REVOKED",
            BadKey::Ambiguous => "KEY_AMBIGUOUS",
            BadKey::JwtMalformed => "JWT_MALFORMED",
            BadKey::JwtUntrusted => "JWT_UNTRUSTED",
            BadKey::JwtExpired => "JWT_EXPIRED",
            BadKey::JwtClaim(_) => "JWT_CLAIM_INVALID",
            BadKey::JwksMissing => "JWKS_UNAVAILABLE",
        }
    }
}

/// What a caller may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// The role may not call the rpc.
    Role(Role),
    /// The role may change only the state of the thing.
    OnlyState(Role),
    /// The caller may not name the tenant.
    Tenant,
    /// The caller may not name the agent.
    Agent,
    /// The caller may name only some tenants, and the call is about all tenants, or about no tenant.
    AllTenants,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forbidden::Role(role) => write!(formatter, "a caller with the role {} may not make this call", role.name()),
            Forbidden::OnlyState(role) => write!(
                formatter,
                "a caller with the role {} may change only the state: update_mask must be \"state\"",
                role.name()
            ),
            Forbidden::Tenant => formatter.write_str("the caller may not name the tenant of this call"),
            Forbidden::Agent => formatter.write_str(
                "the caller may name only some agents: the call must name one of them, and a reservation must be of one \
                 of them",
            ),
            Forbidden::AllTenants => {
                formatter.write_str("the caller may name only some tenants, and the call is not about one of them")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(tenants: &[&str], agents: &[&str]) -> Permit {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let key = Key {
            id: "k".to_owned(),
            hash: [0; 32],
            certificate_san: None,
            role: Role::Spender,
            tenants: set(tenants),
            agents: set(agents),
            display_name: String::new(),
            state: KeyState::Active,
            expires_at: None,
            last_used_at: None,
            created_at: Time::EPOCH,
            updated_at: Time::EPOCH,
        };
        Permit { who: Some(Caller::Key(Arc::new(key))), revision: 3 }
    }

    /// Returns the permit of a JWT with the same rights as the key of another permit.
    fn by_jwt(permit: &Permit) -> Permit {
        let rights = permit.rights().expect("a key has rights");
        let jwt = Jwt {
            subject: "somebody".to_owned(),
            role: rights.role,
            tenants: rights.tenants.clone(),
            agents: rights.agents.clone(),
            expires_at: Time::NEVER,
        };
        Permit { who: Some(Caller::Jwt(Arc::new(jwt))), revision: 0 }
    }

    #[test]
    fn a_key_permits_its_tenants_and_agents_and_an_empty_list_permits_all() {
        let cases = [
            (permit(&[], &[]), ["t", "a"], true),
            (permit(&["t"], &[]), ["t", "a"], true),
            (permit(&["t"], &[]), ["T", "a"], false),
            (permit(&["t"], &["a"]), ["t", "a"], true),
            (permit(&["t"], &["a"]), ["t", ""], false),
            (permit(&[], &["a"]), ["u", "b"], false),
            (Permit::default(), ["u", "b"], true),
        ];
        for (permit, [tenant, agent], passes) in cases {
            assert_eq!(permit.check(tenant, Some(agent)).is_ok(), passes, "{permit:?} {tenant} {agent}");
            if permit.who.is_some() {
                let jwt = by_jwt(&permit);
                assert_eq!(jwt.check(tenant, Some(agent)).is_ok(), passes, "{jwt:?} {tenant} {agent}");
            }
        }
    }

    #[test]
    fn the_audit_names_each_kind_of_caller() {
        let by_key = permit(&[], &[]);
        let mut key = match &by_key.who {
            Some(Caller::Key(key)) => Key::clone(key),
            other => panic!("{other:?}"),
        };
        key.certificate_san = Some("spiffe://example.org/backend".to_owned());
        let by_certificate = Permit { who: Some(Caller::Key(Arc::new(key))), revision: 3 };
        let names = [&Permit::default(), &by_key, &by_certificate, &by_jwt(&by_key)].map(Permit::caller);
        assert_eq!(names, ["local", "key:k", "certificate:spiffe://example.org/backend", "jwt:somebody"]);
    }

    #[test]
    fn a_key_must_be_compared_again_after_a_change_of_keys() {
        assert!(permit(&[], &[]).is_current(3));
        assert!(!permit(&[], &[]).is_current(4));
        assert!(Permit::default().is_current(4));
        assert!(by_jwt(&permit(&[], &[])).is_current(4), "keys do not change JWTs");
    }
}
