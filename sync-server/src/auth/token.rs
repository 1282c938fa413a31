//! Reads JSON Web Tokens.
//!
//! Claims: `sub`, `exp`, and `rooms`, a list of `{"room": name}` or `{"prefix": beginning}` with `"perm"`, a list of
//! `read`, `write`, `relay`, `create` and `admin`, and perhaps `"sites"`, the site ids (hexadecimal) that it may write
//! for. `"sites"` beside `rooms` holds for all of them.

use std::path::Path;
use std::sync::Arc;

use crsql_core::ids::SiteId;
use crsql_protocol::{Code, Fault};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::Grant;
use super::jwks::KeySet;
use crate::config::Settings;

/// Checks tokens, or lets everybody in.
#[derive(Clone)]
pub struct Auth {
    keys: Option<Arc<Keys>>,
    open_creation: bool,
    leeway_ms: u64,
}

struct Keys {
    fixed: Vec<(Algorithm, DecodingKey)>,
    sets: Vec<KeySet>,
    validation: Validation,
}

/// The algorithms taken. What a token says of itself only chooses among them, and only with a key made for it.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::EdDSA, Algorithm::ES256];

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<u64>,
    #[serde(default)]
    rooms: Vec<RoomClaim>,
    sites: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RoomClaim {
    room: Option<String>,
    prefix: Option<String>,
    #[serde(default)]
    perm: Vec<String>,
    sites: Option<Vec<String>>,
}

impl Auth {
    /// Reads the keys that the settings name.
    pub fn new(settings: &Settings) -> Result<Auth, String> {
        let leeway_ms = settings.jwt_leeway.0;
        let open = Auth { keys: None, open_creation: settings.open_creation, leeway_ms };
        if !settings.has_auth() {
            return Ok(open);
        }
        let mut fixed = Vec::new();
        if let Some(path) = &settings.jwt_secret_file {
            fixed.push((Algorithm::HS256, secret(path)?));
        }
        if let Some(path) = &settings.jwt_key_file {
            fixed.push(public_key(path)?);
        }
        let mut sets = Vec::new();
        if let Some(path) = &settings.jwks_file {
            sets.push(KeySet::file(path)?);
        }
        if let Some(url) = &settings.jwks_url {
            sets.push(KeySet::url(url, settings.jwks_refresh.duration()));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = leeway_ms / 1000;
        validation.set_required_spec_claims(&["exp"]);
        validation.validate_nbf = true;
        match &settings.jwt_audience {
            Some(audience) => validation.set_audience(&[audience]),
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &settings.jwt_issuer {
            validation.set_issuer(&[issuer]);
        }
        Ok(Auth { keys: Some(Arc::new(Keys { fixed, sets, validation })), ..open })
    }

    /// Whether tokens are checked.
    pub fn is_on(&self) -> bool {
        self.keys.is_some()
    }

    /// What the bearer of a token may do in a room.
    pub fn grant(&self, token: Option<&str>, room: &str) -> Result<Grant, Fault> {
        let Some(keys) = &self.keys else { return Ok(Grant::everything(self.open_creation)) };
        let token = token.ok_or_else(|| refused("a token is needed"))?;
        let claims = keys.check(token)?;
        let of_room = claims.rooms.into_iter().filter(|claim| claim.names(room));
        let mut grant = Grant {
            subject: claims.sub,
            expires_ms: claims.exp.map(|exp| exp.saturating_mul(1000).saturating_add(self.leeway_ms)),
            ..Grant::default()
        };
        let mut sites = claims.sites;
        for claim in of_room {
            for word in &claim.perm {
                match word.as_str() {
                    "read" => grant.read = true,
                    "write" => grant.write = true,
                    "relay" => grant.relay = true,
                    "create" => grant.create = true,
                    "admin" => grant.admin = true,
                    other => return Err(refused(format!("the token has an unknown permission {other:?}"))),
                }
            }
            if let Some(more) = claim.sites {
                sites.get_or_insert_default().extend(more);
            }
        }
        let sites = sites.map(|sites| sites.iter().map(|site| site_id(site)).collect());
        grant.sites = sites.transpose()?;
        // What is written for a site must be somebody's, or the next token could write for it too.
        if grant.subject.is_none() && grant.sites.is_none() && grant.write {
            return Err(refused("the token names neither sub nor sites, so its writes would be nobody's"));
        }
        if grant.bits() == 0 {
            return Err(Fault::new(Code::FORBIDDEN, format!("the token allows nothing in room {room:?}")));
        }
        Ok(grant)
    }
}

impl Keys {
    fn check(&self, token: &str) -> Result<Claims, Fault> {
        let header =
            jsonwebtoken::decode_header(token).map_err(|error| refused(format!("no token: {error}")))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(refused(format!("tokens of algorithm {:?} are not taken", header.alg)));
        }
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        let fixed = self.fixed.iter().filter(|(algorithm, _)| *algorithm == header.alg);
        let mut keys: Vec<DecodingKey> = fixed.map(|(_, key)| key.clone()).collect();
        for set in &self.sets {
            keys.extend(set.keys(header.alg, header.kid.as_deref()));
        }
        let mut why = refused("no key for this token; is its algorithm and kid among those configured?");
        for key in &keys {
            match jsonwebtoken::decode::<Claims>(token, key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => why = refused(format!("the token is not accepted: {error}")),
            }
        }
        Err(why)
    }
}

impl RoomClaim {
    fn names(&self, room: &str) -> bool {
        self.room.as_deref() == Some(room)
            || self.prefix.as_deref().is_some_and(|prefix| room.starts_with(prefix))
    }
}

fn refused(detail: impl Into<String>) -> Fault {
    Fault::new(Code::UNAUTHORIZED, detail)
}

fn site_id(text: &str) -> Result<SiteId, Fault> {
    let plain = text.replace('-', "");
    let wrong = || refused(format!("the token has a site {text:?} that is not 16 bytes in hexadecimal"));
    if plain.len() != 32 || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut site = SiteId([0; 16]);
    for (at, byte) in site.0.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&plain[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(site)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn secret(path: &Path) -> Result<DecodingKey, String> {
    let bytes = read(path)?;
    let secret = bytes.trim_ascii();
    if secret.len() < 16 {
        return Err(format!("the secret in {} has less than 16 bytes, so it can be guessed", path.display()));
    }
    Ok(DecodingKey::from_secret(secret))
}

fn public_key(path: &Path) -> Result<(Algorithm, DecodingKey), String> {
    let pem = read(path)?;
    let ed = DecodingKey::from_ed_pem(&pem).map(|key| (Algorithm::EdDSA, key));
    let ec = || DecodingKey::from_ec_pem(&pem).map(|key| (Algorithm::ES256, key));
    ed.or_else(|_| ec()).map_err(|_| format!("{} is no public key (PEM) of Ed25519 or P-256", path.display()))
}
