//! Stays connected with one relay or peer.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crsql_protocol::{Code, Fault};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::engine::Command;
use super::fetch::Fetch;
use super::link::{Ended, SUBPROTOCOL, pump, socket_config};
use super::{Address, tls};
use crate::{Error, Result};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The first delay before connecting again is up to this long, in milliseconds; it doubles.
const DELAY_MS: u64 = 250;

/// The longest delay, in milliseconds.
const DELAY_MS_MAX: u64 = 30_000;

/// What a token callback returns.
pub type TokenFuture = Pin<Box<dyn Future<Output = std::result::Result<String, String>> + Send>>;

/// What proves that we may.
#[derive(Clone, Default)]
pub enum Token {
    /// Nothing is asked for.
    #[default]
    None,
    /// Always the same.
    Fixed(String),
    /// Asked for before every connection, for tokens that expire. An error is tried again later.
    Callback(Arc<dyn Fn() -> TokenFuture + Send + Sync>),
}

impl Token {
    /// What is to be shown now.
    async fn show(&self) -> std::result::Result<Option<String>, Fault> {
        match self {
            Token::None => Ok(None),
            Token::Fixed(token) => Ok(Some(token.clone())),
            Token::Callback(callback) => {
                let refused = |error| Fault::new(Code::UNAUTHORIZED, format!("no token: {error}"));
                callback().await.map(Some).map_err(refused)
            }
        }
    }
}

impl fmt::Debug for Token {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::None => "None",
            Token::Fixed(_) => "Fixed(..)",
            Token::Callback(_) => "Callback(..)",
        })
    }
}

/// A relay or peer to keep connected with.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// What it is shown.
    pub token: Token,
    /// Whether to pass on what others wrote. Peers need it; a relay must allow it, and only gains from it if it
    /// should get what other relays have.
    pub gossip: bool,
}

impl Target {
    /// A relay, which gets what we write.
    pub fn new(address: Address) -> Target {
        Target { address, token: Token::None, gossip: false }
    }

    /// A peer, which gets all that we hold.
    pub fn peer(address: Address) -> Target {
        Target { gossip: true, ..Target::new(address) }
    }

    /// Shown this token.
    pub fn with_token(self, token: impl Into<String>) -> Target {
        Target { token: Token::Fixed(token.into()), ..self }
    }

    /// Shown what this function returns, asked before every connection.
    pub fn with_token_callback<F>(self, callback: F) -> Target
    where
        F: Fn() -> TokenFuture + Send + Sync + 'static,
    {
        Target { token: Token::Callback(Arc::new(callback)), ..self }
    }
}

/// Connects, and connects again whenever the connection ends, until it is aborted.
pub(super) async fn keep_connected(
    index: usize,
    target: Target,
    path: PathBuf,
    commands: mpsc::Sender<Command>,
) {
    let mut attempt: u32 = 0;
    let mut instead = None;
    loop {
        let address = instead.take().unwrap_or_else(|| target.address.clone());
        if commands.send(Command::Connecting { target: index }).await.is_err() {
            return;
        }
        let mut ended = connect(index, &target, &address, &commands).await;
        if let Some((snapshot, epoch)) = ended.snapshot.take() {
            let fetch = Fetch { target: index, url: address.url(), path: &path, snapshot: &snapshot, epoch };
            let token = target.token.show().await.unwrap_or_default();
            match fetch.run(token, &commands).await {
                Ok(()) => continue,
                Err(error) => ended.error = Some(error),
            }
        }
        // Where no snapshot is to be had, it would be refused again at once.
        let is_behind = ended.fault.as_ref().is_some_and(|fault| fault.code == Code::BEHIND);
        attempt = if ended.was_ready && !is_behind { 0 } else { attempt.saturating_add(1) };
        let ms = delay_ms(attempt, &ended);
        if let Some((_, Some(elsewhere))) = &ended.goaway {
            instead = target.address.at(elsewhere).ok();
        }
        let refused = is_refused(&ended);
        let fault = ended.fault.map(|fault| fault.to_string()).or(ended.error);
        if commands.send(Command::Waiting { target: index, ms, fault, refused }).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn is_refused(ended: &Ended) -> bool {
    let codes =
        [Code::UNAUTHORIZED, Code::FORBIDDEN, Code::NO_ROOM, Code::VERSION, Code::TIE_BREAK, Code::SCHEMA];
    ended.fault.as_ref().is_some_and(|fault| codes.contains(&fault.code))
}

/// Full jitter: clients that lost their relay together do not come back together.
fn delay_ms(attempt: u32, ended: &Ended) -> u64 {
    if let Some((ms, _)) = ended.goaway {
        return ms.min(DELAY_MS_MAX);
    }
    let doublings = if is_refused(ended) { 6 } else { attempt.min(7) };
    let longest = (DELAY_MS << doublings).min(DELAY_MS_MAX);
    let advised = ended.fault.as_ref().map_or(0, |fault| fault.retry_after_ms.min(DELAY_MS_MAX));
    advised + fastrand::u64(0..=longest)
}

async fn connect(
    index: usize,
    target: &Target,
    address: &Address,
    commands: &mpsc::Sender<Command>,
) -> Ended {
    let failed = |error: String| Ended { error: Some(error), ..Ended::default() };
    let token = match target.token.show().await {
        Ok(token) => token,
        Err(fault) => return Ended { fault: Some(fault), ..Ended::default() },
    };
    let socket = match tokio::time::timeout(CONNECT_TIMEOUT, open(address.url())).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return failed(error.to_string()),
        Err(_) => return failed("no answer".into()),
    };
    let (out, queue) = mpsc::unbounded_channel();
    let (answer, dialed) = oneshot::channel();
    if commands.send(Command::Dial { target: index, token, out, answer }).await.is_err() {
        return Ended::default();
    }
    match dialed.await {
        Ok(Some(link)) => pump(socket, link, commands, queue).await,
        _ => failed("the database can't be read now".into()),
    }
}

async fn open(url: &str) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    let refuse = |error: &dyn fmt::Display| Error::Address(url.to_owned(), error.to_string());
    let mut request = url.into_client_request().map_err(|error| refuse(&error))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let config = socket_config(crsql_protocol::limits::MESSAGE_BYTES_MAX);
    let connector =
        if url.starts_with("wss:") { Connector::Rustls(tls::client()?) } else { Connector::Plain };
    let (socket, _) =
        tokio_tungstenite::connect_async_tls_with_config(request, Some(config), true, Some(connector))
            .await
            .map_err(|error| refuse(&error))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(attempt: u32, ended: &Ended) -> u64 {
        (0..2000).map(|_| delay_ms(attempt, ended)).max().unwrap()
    }

    #[test]
    fn delays_grow_to_a_bound_and_follow_the_other_sides_advice() {
        let plain = Ended::default();
        assert!(longest(0, &plain) <= 250 && longest(3, &plain) <= 2000 && longest(3, &plain) > 1500);
        assert!(longest(99, &plain) <= DELAY_MS_MAX && longest(99, &plain) > 20_000);
        let fault = |code, retry_after_ms| Ended {
            fault: Some(Fault { retry_after_ms, ..Fault::new(code, "") }),
            ..Ended::default()
        };
        assert!((0..100).all(|_| delay_ms(0, &fault(Code::RATE, 5000)) >= 5000));
        assert!(longest(0, &fault(Code::UNAUTHORIZED, 0)) > 8000, "asking again at once helps nobody");
        let goaway = Ended { goaway: Some((1234, None)), ..Ended::default() };
        assert_eq!(delay_ms(0, &goaway), 1234);
    }
}
