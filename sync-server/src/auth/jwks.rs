//! JSON Web Key Sets, from a file or fetched from a URL now and then.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};

/// The longest answer taken from the URL, in bytes.
const SET_BYTES_MAX: u64 = 1 << 20;

/// A set of keys that may change.
pub struct KeySet {
    keys: Arc<RwLock<JwkSet>>,
}

impl KeySet {
    /// Reads a file once; it is looked at again whenever it has changed.
    pub fn file(path: &Path) -> Result<KeySet, String> {
        let set = read(path)?;
        let keys = Arc::new(RwLock::new(set));
        let (weak, path) = (Arc::downgrade(&keys), path.to_owned());
        refresh(weak, Duration::from_secs(10), move || read(&path));
        Ok(KeySet { keys })
    }

    /// Fetches a URL at once and then again and again. Until it has answered, no token is accepted.
    pub fn url(url: &str, every: Duration) -> KeySet {
        let keys = Arc::new(RwLock::new(JwkSet { keys: Vec::new() }));
        let url = url.to_owned();
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build();
        let agent = ureq::Agent::new_with_config(agent);
        refresh(Arc::downgrade(&keys), every, move || {
            let told = |error: &dyn std::fmt::Display| format!("cannot fetch {url}: {error}");
            let mut answer = agent.get(&url).call().map_err(|error| told(&error))?;
            let body = answer.body_mut().with_config().limit(SET_BYTES_MAX).read_to_vec();
            parse(&body.map_err(|error| told(&error))?).map_err(|error| told(&error))
        });
        KeySet { keys }
    }

    /// The keys that a token of this algorithm and key id may be signed with.
    pub fn keys(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<DecodingKey> {
        let set = self.keys.read().unwrap_or_else(|e| e.into_inner());
        let fits = |key: &&Jwk| {
            made_for(key) == Some(algorithm)
                && kid.is_none_or(|kid| key.common.key_id.as_deref() == Some(kid))
        };
        set.keys.iter().filter(fits).filter_map(|key| DecodingKey::from_jwk(key).ok()).collect()
    }
}

/// The algorithm of a key, by what it is and not by what a token would like it to be.
fn made_for(key: &Jwk) -> Option<Algorithm> {
    match &key.algorithm {
        AlgorithmParameters::OctetKey(_) => Some(Algorithm::HS256),
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(Algorithm::EdDSA)
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Some(Algorithm::ES256),
        _ => None,
    }
}

fn refresh(
    keys: std::sync::Weak<RwLock<JwkSet>>,
    every: Duration,
    load: impl Fn() -> Result<JwkSet, String> + Send + 'static,
) {
    let run = move || {
        while let Some(keys) = keys.upgrade() {
            match load() {
                Ok(set) => *keys.write().unwrap_or_else(|e| e.into_inner()) = set,
                Err(error) => tracing::warn!(%error, "the key set stays as it was"),
            }
            drop(keys);
            std::thread::sleep(every);
        }
    };
    std::thread::Builder::new().name("jwks".into()).spawn(run).expect("a thread can be started");
}

fn read(path: &Path) -> Result<JwkSet, String> {
    let path: PathBuf = path.to_owned();
    let told = |error: &dyn std::fmt::Display| format!("cannot read the key set {}: {error}", path.display());
    let bytes = std::fs::read(&path).map_err(|error| told(&error))?;
    parse(&bytes).map_err(|error| told(&error))
}

fn parse(bytes: &[u8]) -> Result<JwkSet, serde_json::Error> {
    serde_json::from_slice(bytes)
}
