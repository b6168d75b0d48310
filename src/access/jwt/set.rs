//! The keys of an identity provider: parses a JWK Set (RFC 7517), and verifies signatures with its keys.
//!
//! ring verifies the signatures. A key is usable for one algorithm only, which the key itself determines. So a JWT
//! cannot choose another algorithm for it, and a public key is never taken for a secret.

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::verified::Verified;

/// Maximum number of keys of a set.
const KEYS_MAX: usize = 100;

/// Sizes of an RSA modulus that may be used, in bytes: 2,048 to 8,192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// Length of a coordinate of P-256, and of a public key of Ed25519.
const POINT_BYTES: usize = 32;

/// An algorithm with which a JWT may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSA signatures: RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// EdDSA on the curve Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Parses the name of an algorithm. `None`: a JWT must not be signed with it.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "EdDSA" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }
}

/// The usable keys of a set.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<PublicKey>,
    /// The SHA-256 of the text of the set.
    print: [u8; 32],
    /// The JWTs that keys of this set have signed. Another set begins without JWTs, so that none outlives its key.
    pub(super) verified: Verified,
}

#[derive(Debug)]
struct PublicKey {
    id: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Point(Vec<u8>),
}

/// Why no key of a set verifies a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unverified {
    /// No key of the set fits the JWT. A newer set may have such a key.
    NoKey,
    /// Several keys fit a JWT that names none.
    Ambiguous,
    /// The signature is not that of the key.
    Forged,
}

/// The members of a JWK that matter here. Others are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// Parses a JWK Set. Leaves out keys that are of no use here, such as those for encryption, for other algorithms,
    /// or malformed ones.
    ///
    /// # Errors
    ///
    /// What is wrong with the set, for a person.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text)
            .map_err(|_| "is not a JWK Set: JSON with a list `keys` (RFC 7517)".to_owned())?;
        if set.keys.len() > KEYS_MAX {
            return Err(format!("has {} keys, more than {KEYS_MAX}", set.keys.len()));
        }
        let keys = set.keys.into_iter().filter_map(|key| PublicKey::of(serde_json::from_value(key).ok()?));
        let keys: Vec<PublicKey> = keys.collect();
        if keys.is_empty() {
            return Err("has no public key for RS256 (2,048 bits or more), ES256 or EdDSA".to_owned());
        }
        for (place, key) in keys.iter().enumerate() {
            let same = |other: &PublicKey| other.id == key.id && other.algorithm == key.algorithm;
            if key.id.is_some() && keys[..place].iter().any(same) {
                return Err("has two keys with the same `kid` and the same algorithm".to_owned());
            }
        }
        Ok(Self { keys, print: Self::print(text), verified: Verified::default() })
    }

    /// Returns whether the set was parsed from this text.
    pub(super) fn is_of(&self, text: &[u8]) -> bool {
        self.print == Self::print(text)
    }

    /// Returns the number of usable keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Verifies a signature with the key that has this id. Without an id, the set must have exactly one key for the
    /// algorithm.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Unverified> {
        let fits = |key: &&PublicKey| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id);
        let mut fitting = self.keys.iter().filter(fits);
        let key = fitting.next().ok_or(Unverified::NoKey)?;
        if fitting.next().is_some() {
            return Err(Unverified::Ambiguous);
        }
        if key.verifies(message, signature) { Ok(()) } else { Err(Unverified::Forged) }
    }

    fn print(text: &[u8]) -> [u8; 32] {
        Sha256::digest(text).into()
    }
}

impl PublicKey {
    /// Returns the key of a JWK. `None`: it is of no use here.
    fn of(jwk: Jwk) -> Option<Self> {
        let decode = |text: Option<String>| BASE64URL_NOPAD.decode(text?.as_bytes()).ok();
        let coordinate = |text| decode(text).filter(|bytes| bytes.len() == POINT_BYTES);
        let (algorithm, material) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let (mut modulus, exponent) = (decode(jwk.n)?, decode(jwk.e)?);
                // Some providers put a zero before the number.
                let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
                modulus.drain(..zeros);
                if !MODULUS_BYTES.contains(&modulus.len()) {
                    return None;
                }
                (Algorithm::Rs256, Material::Rsa { modulus, exponent })
            }
            ("EC", Some("P-256")) => {
                // The point without compression (SEC 1).
                let point = [&[4], &*coordinate(jwk.x)?, &*coordinate(jwk.y)?].concat();
                (Algorithm::Es256, Material::Point(point))
            }
            ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, Material::Point(coordinate(jwk.x)?)),
            _ => return None,
        };
        let signs = jwk.usage.is_none_or(|usage| usage == "sig")
            && jwk.key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"))
            && jwk.alg.is_none_or(|name| Algorithm::of_name(&name) == Some(algorithm));
        signs.then_some(Self { id: jwk.kid, algorithm, material })
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (&self.material, self.algorithm) {
            (Material::Rsa { modulus, exponent }, _) => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            (Material::Point(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
            (Material::Point(point), Algorithm::Es256 | Algorithm::Rs256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}
