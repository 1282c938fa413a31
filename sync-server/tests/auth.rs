//! Who may come in and write for whom; TLS.

mod support;

use crsql_core::version_vector::VersionVector;
use crsql_protocol::Code;
use crsql_protocol::message::*;
use crsql_server::config::{Flags, Settings};
use crsql_server::serve::Relay;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData};
use serde_json::json;
use support::*;

const SECRET: &[u8] = b"a secret of at least sixteen bytes";

fn in_an_hour() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600
}

fn signed(claims: &serde_json::Value, algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn token(claims: serde_json::Value) -> String {
    signed(&claims, Algorithm::HS256, None, &EncodingKey::from_secret(SECRET))
}

fn claims(subject: &str, perm: &[&str]) -> serde_json::Value {
    json!({ "sub": subject, "exp": in_an_hour(), "rooms": [{ "room": "demo", "perm": perm }] })
}

fn with(token: String) -> Options {
    Options { token: Some(token), ..Options::default() }
}

async fn relay_with(directory: &tempfile::TempDir, change: impl FnOnce(&mut Flags)) -> Relay {
    Relay::start(settings(directory.path(), change)).await.unwrap()
}

async fn relay_with_secret(directory: &tempfile::TempDir) -> Relay {
    let path = directory.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    relay_with(directory, |flags| flags.jwt_secret_file = Some(path.display().to_string())).await
}

#[tokio::test]
async fn a_token_is_needed_and_opens_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with_secret(&directory).await;
    let address = relay.address();
    let refused = |options: Options| async move {
        Client::connect(address, Device::new(9), &options).await.refused().await
    };
    assert_eq!(refused(Options::default()).await, Code::UNAUTHORIZED);
    assert_eq!(refused(with("nonsense".into())).await, Code::UNAUTHORIZED);
    let other = EncodingKey::from_secret(b"another secret of some length");
    let forged = signed(&claims("eve", &["admin"]), Algorithm::HS256, None, &other);
    assert_eq!(refused(with(forged)).await, Code::UNAUTHORIZED);
    let mut late = claims("eve", &["admin"]);
    late["exp"] = (in_an_hour() - 7200).into();
    assert_eq!(refused(with(token(late))).await, Code::UNAUTHORIZED);
    // Nobody made the room yet, and this one may not.
    assert_eq!(refused(with(token(claims("eve", &["read", "write"])))).await, Code::NO_ROOM);
    let mut a =
        Client::connect(address, Device::new(1), &with(token(claims("ann", &["write", "create"])))).await;
    a.ready().await;
    a.write("hello").await;
    a.flushed().await;
    let elsewhere = Options { room: "other".into(), ..with(token(claims("ann", &["write"]))) };
    assert_eq!(refused(elsewhere).await, Code::FORBIDDEN);
    assert!(relay.metrics().faults(Code::UNAUTHORIZED) >= 4);
    relay.stop().await;
}

#[tokio::test]
async fn who_may_only_read_pushes_in_vain_and_who_may_only_write_receives_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with_secret(&directory).await;
    let address = relay.address();
    let writer = with(token(claims("ann", &["write", "create"])));
    let mut a = Client::connect(address, Device::new(1), &writer).await;
    a.ready().await;
    a.write("hello").await;
    a.flushed().await;
    let mut reader = Client::connect(address, Device::new(2), &with(token(claims("bob", &["read"])))).await;
    reader.caught_up().await;
    assert!(reader.device.holds(a.device.site, 1));
    let frame = Device::new(2).frame(1, one_row(reader.device.site, 1, 0, 1, b"no"));
    reader
        .send(Push { id: 1, frames: vec![frame], claims: Default::default(), chains: vec![], more: false })
        .await;
    let mut blind = Client::connect(address, Device::new(3), &with(token(claims("eve", &["write"])))).await;
    blind.ready().await;
    blind.write("mine").await;
    blind.flushed().await;
    assert!(!blind.device.holds(a.device.site, 1));
    assert_eq!(relay.metrics().frames_in.get(), 2);
    relay.stop().await;
}

#[tokio::test]
async fn the_first_who_writes_for_a_site_keeps_it_and_a_claim_binds_it_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with_secret(&directory).await;
    let address = relay.address();
    let mut a =
        Client::connect(address, Device::new(1), &with(token(claims("ann", &["read", "write", "create"]))))
            .await;
    a.ready().await;
    a.write("first").await;
    a.flushed().await;
    let ann = a.into_device();
    // Somebody else goes on as the same site.
    let mut thief = Device { frames: ann.frames.clone(), ledger: ann.ledger.clone(), ..Device::new(1) };
    thief.write("stolen");
    let mut eve = Client::connect(address, thief, &with(token(claims("eve", &["read", "write"])))).await;
    eve.until("the refusal", |eve| eve.events.iter().any(is_rejected(Code::FOREIGN_SITE))).await;
    // Or passes on what it says others wrote.
    let mut gossip = Client::connect(address, Device::new(7), &with(token(claims("eve", &["write"])))).await;
    gossip.ready().await;
    let forged = Device::new(5).frame(1, one_row(Device::new(5).site, 1, 0, 5, b"forged"));
    gossip.send(push(vec![forged.clone()], VersionVector::default())).await;
    gossip.settled("the refusal", |_| relay.metrics().rejects(Code::FOREIGN_SITE) >= 2).await;
    // Whose token names the site may write for it although it dials as another.
    let mut bound = claims("sam", &["write"]);
    bound["sites"] = json!(["05050505050505050505050505050505"]);
    let mut sam = Client::connect(address, Device::new(6), &with(token(bound))).await;
    sam.ready().await;
    sam.send(push(vec![forged], VersionVector::default())).await;
    let mut ann = Client::connect(address, ann, &with(token(claims("ann", &["read", "write"])))).await;
    ann.until("what sam wrote", |ann| ann.device.holds(Device::new(5).site, 1)).await;
    ann.write("second").await;
    ann.flushed().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_delta_with_a_foreign_change_in_it_is_set_aside_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with_secret(&directory).await;
    let options = with(token(claims("ann", &["read", "write", "create"])));
    let mut a = Client::connect(relay.address(), Device::new(1), &options).await;
    a.ready().await;
    let other = one_row(Device::new(5).site, 1, 0, 5, b"forged");
    let delta = Frame { site_version: 0, ..a.device.frame(1, other) };
    let mut claimed = VersionVector::default();
    claimed.insert(a.device.site, 1);
    a.send(push(vec![delta], claimed)).await;
    a.settled("the refusal", |_| relay.metrics().rejects(Code::FOREIGN_SITE) == 1).await;
    assert_eq!(relay.metrics().frames_in.get(), 0);
    relay.stop().await;
}

#[tokio::test]
async fn public_keys_and_key_sets_are_taken_and_a_key_signs_only_its_own_algorithm() {
    let directory = tempfile::tempdir().unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = directory.path().join("key.pem");
    std::fs::write(&pem, ed.public_key_pem()).unwrap();
    let base64 = |bytes: &[u8]| base64_url(bytes);
    let (x, y) = ec.der_bytes()[1..].split_at(32);
    let set = json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": base64(x), "y": base64(y) },
    ] });
    let jwks = directory.path().join("keys.json");
    std::fs::write(&jwks, set.to_string()).unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.jwt_key_file = Some(pem.display().to_string());
        flags.jwks_file = Some(jwks.display().to_string());
    })
    .await;
    let address = relay.address();
    let ed_key = EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap();
    let ec_key = EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes()).unwrap();
    let all = claims("ann", &["read", "write", "create"]);
    let good = [
        signed(&all, Algorithm::EdDSA, None, &ed_key),
        signed(&all, Algorithm::ES256, Some("one"), &ec_key),
        signed(&all, Algorithm::ES256, None, &ec_key),
    ];
    for token in good {
        Client::connect(address, Device::new(1), &with(token)).await.ready().await;
    }
    // The public key is no secret, so it must not pass for one.
    let public = EncodingKey::from_secret(ed.public_key_pem().as_bytes());
    let bad =
        [signed(&all, Algorithm::HS256, None, &public), signed(&all, Algorithm::ES256, Some("two"), &ec_key)];
    for token in bad {
        let mut client = Client::connect(address, Device::new(1), &with(token)).await;
        assert_eq!(client.refused().await, Code::UNAUTHORIZED);
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_key_set_is_fetched_from_its_url() {
    let directory = tempfile::tempdir().unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let x = base64_url(ed.der_bytes());
    let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] }).to_string();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", server.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut socket, _)) = server.accept().await {
            let _read = socket.read(&mut [0; 4096]).await;
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", set.len());
            socket.write_all((head + &set).as_bytes()).await.ok();
        }
    });
    let relay = relay_with(&directory, |flags| flags.jwks_url = Some(url)).await;
    let key = EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap();
    let options = with(signed(&claims("ann", &["write", "create"]), Algorithm::EdDSA, Some("k"), &key));
    // It may take a moment until the set is there.
    for attempt in 0.. {
        let mut client = Client::connect(relay.address(), Device::new(1), &options).await;
        client.settled("an answer", |client| client.session.is_open() || client.closed.is_some()).await;
        if client.session.is_open() {
            break;
        }
        assert!(attempt < 100, "the key set never came");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_session_ends_when_its_token_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.jwt_secret_file = Some(path.display().to_string());
        flags.jwt_leeway = Some("0".into());
    })
    .await;
    let mut short = claims("ann", &["write", "create"]);
    short["exp"] = (in_an_hour() - 3600 + 1).into();
    let mut a = Client::connect(relay.address(), Device::new(1), &with(token(short))).await;
    a.ready().await;
    assert_eq!(a.refused().await, Code::UNAUTHORIZED);
    relay.stop().await;
}

#[tokio::test]
async fn over_tls_everything_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let relay = relay_with(&directory, |flags| {
        flags.tls_cert = Some(cert.display().to_string());
        flags.tls_key = Some(key.display().to_string());
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(relay.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
    // Without TLS there is no answer, and nobody else is disturbed.
    let mut plain = tokio::net::TcpStream::connect(relay.address()).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP"));
    relay.stop().await;
}

#[test]
fn a_secret_that_can_be_guessed_and_a_key_that_is_none_are_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "short").unwrap();
    let start = |settings: Settings| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(Relay::start(settings)).err().expect("it should not start")
    };
    let secret = settings(directory.path(), |flags| flags.jwt_secret_file = Some(path.display().to_string()));
    assert!(start(secret).contains("less than 16 bytes"));
    let key = settings(directory.path(), |flags| flags.jwt_key_file = Some(path.display().to_string()));
    assert!(start(key).contains("no public key"));
}

fn push(frames: Vec<Frame>, claims: VersionVector) -> Push {
    Push { id: 1, frames, claims, chains: vec![], more: false }
}

fn is_rejected(code: Code) -> impl Fn(&crsql_protocol::Event) -> bool {
    move |event| matches!(event, crsql_protocol::Event::Rejected(rejected) if rejected.code == code)
}

fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|at| out.push(DIGITS[(group >> (18 - 6 * at)) as usize & 63] as char));
    }
    out
}
