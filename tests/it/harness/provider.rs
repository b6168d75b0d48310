//! An identity provider of a test: keys of all algorithms, and the JWTs that they sign. The tests of `src/access/jwt`
//! use this file, too.

use data_encoding::BASE64URL_NOPAD;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

/// A provider with a key for each algorithm.
pub struct Provider([Signer; 3]);

/// A private key of the provider.
pub struct Signer {
    /// The id of the key.
    pub id: &'static str,
    /// The algorithm of the key.
    pub algorithm: &'static str,
    key: Private,
}

enum Private {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Provider {
    /// Makes a provider. Its keys for ES256 and EdDSA are new ones.
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let pem = include_bytes!("rsa_2048.pem");
        let pem = PrivatePkcs8KeyDer::from_pem_slice(pem).expect("a key");
        let rsa = RsaKeyPair::from_pkcs8(pem.secret_pkcs8_der()).expect("a key");
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random);
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let ed = Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("a key");
        Self([
            Signer { id: "r", algorithm: "RS256", key: Private::Rsa(rsa) },
            Signer { id: "e", algorithm: "ES256", key: Private::Ec(ec.expect("a key")) },
            Signer { id: "d", algorithm: "EdDSA", key: Private::Ed(ed) },
        ])
    }

    /// Returns the keys: RS256, ES256, EdDSA.
    pub fn keys(&self) -> &[Signer; 3] {
        &self.0
    }

    /// Returns the public keys as a JWK Set.
    pub fn set(&self) -> Value {
        json!({ "keys": self.0.each_ref().map(Signer::public) })
    }
}

impl Signer {
    /// Returns the public key as a JWK.
    pub fn public(&self) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let mut key = match &self.key {
            Private::Rsa(key) => {
                let key = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                let [modulus, exponent] = [key.n, key.e].map(|part| text(&part));
                json!({"kty": "RSA", "n": modulus, "e": exponent})
            }
            Private::Ec(key) => {
                let point = &key.public_key().as_ref()[1..];
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[..32]), "y": text(&point[32..])})
            }
            Private::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())}),
        };
        key["kid"] = self.id.into();
        key
    }

    /// Signs claims, with the usual header.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_text(
            &json!({"alg": self.algorithm, "kid": self.id, "typ": "JWT"}).to_string(),
            &claims.to_string(),
        )
    }

    /// Signs a payload with a header, whatever the texts are.
    pub fn sign_text(&self, header: &str, payload: &str) -> String {
        let [header, payload] = [header, payload].map(|text| BASE64URL_NOPAD.encode(text.as_bytes()));
        let signed = format!("{header}.{payload}");
        let signature = BASE64URL_NOPAD.encode(&self.signature(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
            Private::Ec(key) => key.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Private::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}
