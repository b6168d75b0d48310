//! Remembers JWTs that were verified, by their SHA-256, so that a signature is verified once per JWT.

use std::{
    collections::HashMap,
    mem::take,
    sync::{Arc, PoisonError, RwLock},
};

use crate::domain::{access::Jwt, time::Time};

/// Maximum number of JWTs of a generation. There are two generations.
const GENERATION_MAX: usize = 2_048;

/// The JWTs that were verified last. If the young generation is full, it becomes the old one, and the old one is
/// forgotten.
#[derive(Debug, Default)]
pub(super) struct Verified(RwLock<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<[u8; 32], Arc<Jwt>>,
    old: HashMap<[u8; 32], Arc<Jwt>>,
}

impl Verified {
    /// Finds a JWT that was verified and has not expired.
    pub(super) fn find(&self, print: &[u8; 32], now: Time) -> Option<Arc<Jwt>> {
        let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = generations.young.get(print).or_else(|| generations.old.get(print));
        found.filter(|jwt| now < jwt.expires_at).map(Arc::clone)
    }

    /// Remembers a JWT that was verified.
    pub(super) fn insert(&self, print: [u8; 32], jwt: Arc<Jwt>) {
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION_MAX {
            generations.old = take(&mut generations.young);
        }
        generations.young.insert(print, jwt);
    }

    /// Returns the number of JWTs that are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        generations.young.len() + generations.old.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::access::Role;

    fn jwt(expires_at: i64) -> Arc<Jwt> {
        let (tenants, agents) = (BTreeSet::new(), BTreeSet::new());
        let (subject, role, expires_at) = (String::new(), Role::Viewer, Time(expires_at));
        Arc::new(Jwt { subject, role, tenants, agents, expires_at })
    }

    fn print(number: usize) -> [u8; 32] {
        let mut print = [0; 32];
        print[..8].copy_from_slice(&number.to_be_bytes());
        print
    }

    #[test]
    fn a_jwt_is_found_until_it_expires_and_the_number_of_jwts_is_bounded() {
        let verified = Verified::default();
        for number in 0..3 * GENERATION_MAX {
            verified.insert(print(number), jwt(10));
            assert!(verified.len() <= 2 * GENERATION_MAX);
        }
        let newest = print(3 * GENERATION_MAX - 1);
        assert!(verified.find(&newest, Time(9)).is_some());
        assert!(verified.find(&newest, Time(10)).is_none(), "it has expired");
        assert!(verified.find(&print(0), Time(9)).is_none(), "it is forgotten");
    }
}
