//! Finds out who calls, by the key or the JWT of the call, or by the certificate of the connection.
//!
//! `credential.rs` reads what a call shows. `text.rs` makes and parses the text of a key. This file remembers all keys,
//! and compares the text of a call with them. A valid key is found without the database; the engine compares the
//! revision of the keys in the batch (R7.4). Before a key is refused, the keys are loaded again, since another server
//! may have created it a moment ago. `jwt` verifies JWTs.

mod credential;
pub mod jwt;
mod text;

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::{sync::Mutex, time::timeout};

use self::jwt::JwtVerifier;
pub use self::{
    credential::{Credential, PeerNames},
    text::{KeyText, NewText, new_key},
};
use crate::{
    clock::{Clock, system_now},
    domain::{
        access::{BadKey, Caller, Jwt, Key, KeyState, Permit},
        time::{Span, Time},
    },
    store::{Store, StoreError},
};

/// The last use of a key is noted if the noted instant is older than this.
const NOTED_AGE: Span = Span(60_000);

/// Maximum time of a load. Calls wait for it.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of keys whose last use one transaction writes.
const KEYS_NOTED_MAX: usize = 1_000;

/// Whether a server needs keys.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody may do everything.
    Off,
    /// Every call must have a key, or a JWT if the server verifies JWTs.
    Keys(Arc<Keyring>),
}

/// All keys, as this server last loaded them.
#[derive(Debug)]
pub struct Keyring {
    store: Store,
    clock: Clock,
    jwts: Option<Arc<JwtVerifier>>,
    latest: RwLock<Arc<Keys>>,
    /// Number of loads that have begun.
    begun: AtomicU64,
    /// The number of the last load, and whether it succeeded. The lock is held while keys are loaded, so calls that
    /// wait share one load.
    loaded: Mutex<(u64, bool)>,
}

#[derive(Debug, Default)]
struct Keys {
    /// `None`: nothing was loaded yet.
    revision: Option<i64>,
    by_id: HashMap<String, Entry>,
    /// The ids of the keys for which names of certificates stand, by name.
    by_san: HashMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<Key>,
    /// When the key was last used on this server, in unix milliseconds.
    used_at: AtomicI64,
    /// The last use that this server has written, or found when it loaded the key.
    noted_at: AtomicI64,
}

/// Why the caller of a call was not found.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The key or the JWT is not valid.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// The database does not answer.
    #[error("the keys cannot be loaded, because the database does not answer")]
    Unavailable,
    /// The keys cannot be loaded.
    #[error("the keys cannot be loaded")]
    Store(#[from] StoreError),
}

impl Keyring {
    /// Makes a keyring that loads its keys with the first call. `jwts`: callers may show JWTs instead of keys.
    pub fn new(store: Store, clock: Clock, jwts: Option<Arc<JwtVerifier>>) -> Self {
        let (latest, loaded) = (RwLock::default(), Mutex::default());
        Self { store, clock, jwts, latest, begun: AtomicU64::new(0), loaded }
    }

    /// Finds the caller by the keys and JWTs that this server remembers. `None`: the keys must be loaded again, or the
    /// JWT must be verified, see [`Keyring::authenticate`].
    pub fn find(&self, credential: &Credential<'_>) -> Option<Permit> {
        match credential {
            Credential::Key(text) => self.latest().judge(text, self.now()).ok(),
            Credential::Certificate(names) => self.latest().judge_names(names, self.now()).ok(),
            Credential::Jwt(text) => Some(permit_of_jwt(self.jwts.as_ref()?.find(text, self.now())?)),
        }
    }

    /// Finds the caller: by the present keys of the database, or by a JWT.
    ///
    /// # Errors
    ///
    /// The key or the JWT is not valid, or the database does not answer.
    pub async fn authenticate(&self, credential: &Credential<'_>) -> Result<Permit, Denied> {
        match (credential, &self.jwts) {
            (Credential::Key(text), _) => Ok(self.load().await?.judge(text, self.now())?),
            (Credential::Certificate(names), _) => Ok(self.load().await?.judge_names(names, self.now())?),
            (Credential::Jwt(text), Some(jwts)) => Ok(match jwts.find(text, self.now()) {
                Some(jwt) => permit_of_jwt(jwt),
                None => permit_of_jwt(jwts.verify(text, self.now()).await?),
            }),
            (Credential::Jwt(_), None) => Err(BadKey::Malformed.into()),
        }
    }

    /// Compares the key of a call with the present keys again, or the end of a JWT with the present time.
    ///
    /// # Errors
    ///
    /// The key or the JWT is no longer valid, or the database does not answer.
    pub async fn renew(&self, permit: &Permit) -> Result<Permit, Denied> {
        match &permit.who {
            Some(Caller::Key(key)) => {
                let keys = self.load().await?;
                let found = keys.by_id.get(&key.id).filter(|entry| entry.key.hash == key.hash);
                let gone = if key.certificate_san.is_some() { BadKey::Missing } else { BadKey::Unknown };
                Ok(keys.permit(found.ok_or(gone)?, self.now())?)
            }
            Some(Caller::Jwt(jwt)) if jwt.expires_at <= self.now() => Err(BadKey::JwtExpired.into()),
            Some(Caller::Jwt(_)) | None => Ok(permit.clone()),
        }
    }

    /// Writes when keys were last used. Returns the number of keys.
    ///
    /// # Errors
    ///
    /// The database does not answer.
    pub async fn note_used(&self) -> Result<usize, StoreError> {
        let keys = self.latest();
        let due = |entry: &&Entry| {
            let [used_at, noted_at] =
                [&entry.used_at, &entry.noted_at].map(|at| Time(at.load(Ordering::Relaxed)));
            used_at.saturating_since(noted_at) >= NOTED_AGE
        };
        let due: Vec<&Entry> = keys.by_id.values().filter(due).collect();
        for part in due.chunks(KEYS_NOTED_MAX) {
            let used = |entry: &&Entry| (entry.key.id.clone(), Time(entry.used_at.load(Ordering::Relaxed)));
            let used: Vec<(String, Time)> = part.iter().map(used).collect();
            self.store.note_keys_used(&used).await?;
            for (entry, (_, used_at)) in part.iter().zip(used) {
                entry.noted_at.store(used_at.0, Ordering::Relaxed);
            }
        }
        Ok(due.len())
    }

    fn latest(&self) -> Arc<Keys> {
        Arc::clone(&self.latest.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> Time {
        // The database's clock cannot be read at each call.
        self.clock.now().unwrap_or_else(system_now)
    }

    /// Loads the keys. Calls that wait at the same time share a load that began after they came, and its failure.
    async fn load(&self) -> Result<Arc<Keys>, Denied> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut loaded = self.loaded.lock().await;
        if loaded.0 > before {
            return if loaded.1 { Ok(self.latest()) } else { Err(Denied::Unavailable) };
        }
        if !self.store.is_available() {
            return Err(Denied::Unavailable);
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let latest = self.latest();
        let found = timeout(LOAD_TIMEOUT, self.store.load_keys(latest.revision)).await;
        // If the call is dropped meanwhile, nothing is known about the database, and the next call loads the keys.
        let found = found.map_err(|_| Denied::Unavailable).and_then(|found| Ok(found?));
        *loaded = (number, found.is_ok());
        let found = found?;
        if let Some(keys) = found.keys {
            let keys = Arc::new(latest.replaced(found.revision, keys));
            *self.latest.write().unwrap_or_else(PoisonError::into_inner) = keys;
        }
        Ok(self.latest())
    }
}

fn permit_of_jwt(jwt: Arc<Jwt>) -> Permit {
    Permit { who: Some(Caller::Jwt(jwt)), revision: 0 }
}

impl Keys {
    /// Returns other keys, with the instants of their last use.
    fn replaced(&self, revision: i64, keys: Vec<Key>) -> Self {
        let entry = |key: Key| {
            let noted_at = key.last_used_at.unwrap_or(Time::MIN).0;
            let known = self.by_id.get(&key.id).map(|entry| entry.used_at.load(Ordering::Relaxed));
            let used_at = AtomicI64::new(known.unwrap_or(noted_at));
            (key.id.clone(), Entry { key: Arc::new(key), used_at, noted_at: AtomicI64::new(noted_at) })
        };
        let by_san =
            keys.iter().filter_map(|key| Some((key.certificate_san.clone()?, key.id.clone()))).collect();
        Self { revision: Some(revision), by_id: keys.into_iter().map(entry).collect(), by_san }
    }

    fn judge(&self, text: &KeyText<'_>, now: Time) -> Result<Permit, BadKey> {
        let found = self.by_id.get(text.id);
        let hash: [u8; 32] = Sha256::digest(text.secret).into();
        // An unknown id takes as long as a wrong secret.
        let expected = found.map_or([0; 32], |entry| entry.key.hash);
        match found {
            Some(entry) if bool::from(expected.ct_eq(&hash)) && entry.key.certificate_san.is_none() => {
                self.permit(entry, now)
            }
            Some(_) | None => Err(BadKey::Unknown),
        }
    }

    /// Finds the key for which names of a certificate stand. Without such a key, the call has shown none.
    fn judge_names(&self, names: &PeerNames, now: Time) -> Result<Permit, BadKey> {
        let mut ids = names.iter().filter_map(|name| self.by_san.get(name));
        let id = ids.next().ok_or(BadKey::Missing)?;
        if ids.any(|other| other != id) {
            return Err(BadKey::Ambiguous);
        }
        self.permit(self.by_id.get(id).ok_or(BadKey::Missing)?, now)
    }

    fn permit(&self, entry: &Entry, now: Time) -> Result<Permit, BadKey> {
        let key = &entry.key;
        match key.state {
            KeyState::Revoked => Err(BadKey::Revoked),
            KeyState::Active if key.expires_at.is_some_and(|end| end <= now) => Err(BadKey::Expired),
            KeyState::Active => {
                entry.used_at.store(now.0, Ordering::Relaxed);
                let (who, revision) = (Some(Caller::Key(Arc::clone(key))), self.revision.unwrap_or(0));
                Ok(Permit { who, revision })
            }
        }
    }
}
