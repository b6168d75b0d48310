//! Who may call: keys, roles, and the tenants and agents that a key may name (R7).

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{codes::codes, time::Time};

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
    /// The SHA-256 of the secret.
    pub hash: [u8; 32],
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

/// What the caller of one operation may name. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub struct Permit {
    /// The key of the caller. `None`: the server needs no keys, and everything is permitted.
    pub key: Option<Arc<Key>>,
    /// The revision of the policy at the last change of keys that the caller's key was compared with.
    pub revision: i64,
}

impl Permit {
    /// Returns whether the caller may name a tenant.
    pub fn allows_tenant(&self, tenant: &str) -> bool {
        self.key.as_ref().is_none_or(|key| key.tenants.is_empty() || key.tenants.contains(tenant))
    }

    /// Returns whether the caller may name an agent. The empty text stands for calls of no agent.
    pub fn allows_agent(&self, agent: &str) -> bool {
        self.key.as_ref().is_none_or(|key| key.agents.is_empty() || key.agents.contains(agent))
    }

    /// Returns whether the caller may see only some agents.
    pub fn has_agents(&self) -> bool {
        self.key.as_ref().is_some_and(|key| !key.agents.is_empty())
    }

    /// Returns whether the caller may see only some tenants.
    pub fn has_tenants(&self) -> bool {
        self.key.as_ref().is_some_and(|key| !key.tenants.is_empty())
    }

    /// Returns whether a call of this caller may create a tenant.
    pub fn may_create_tenants(&self) -> bool {
        self.key.as_ref().is_none_or(|key| matches!(key.role, Role::Admin | Role::Spender))
    }

    /// Returns whether the key was compared with all keys of a policy.
    pub fn is_current(&self, keys_revision: i64) -> bool {
        self.key.is_none() || self.revision >= keys_revision
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
    #[error("the call has no key: send the metadata `authorization: Bearer tope_...`")]
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
        }
    }
}

/// What a key does not permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// The role may not call the rpc.
    Role(Role),
    /// The role may change only the state of the thing.
    OnlyState(Role),
    /// The key is not for the tenant.
    Tenant,
    /// The key is not for the agent.
    Agent,
    /// The key is for some tenants only, and the call is about all tenants, or about no tenant.
    AllTenants,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forbidden::Role(role) => write!(formatter, "a key with the role {} may not make this call", role.name()),
            Forbidden::OnlyState(role) => write!(
                formatter,
                "a key with the role {} may change only the state: update_mask must be \"state\"",
                role.name()
            ),
            Forbidden::Tenant => formatter.write_str("the key is not valid for the tenant that the call names"),
            Forbidden::Agent => formatter.write_str(
                "the key is valid for some agents only: the call must name one of them, and a reservation must be of one of them",
            ),
            Forbidden::AllTenants => {
                formatter.write_str("the key is valid for some tenants only, and the call is not about one of them")
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
        Permit { key: Some(Arc::new(key)), revision: 3 }
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
        }
    }

    #[test]
    fn a_key_must_be_compared_again_after_a_change_of_keys() {
        assert!(permit(&[], &[]).is_current(3));
        assert!(!permit(&[], &[]).is_current(4));
        assert!(Permit::default().is_current(4));
    }
}
