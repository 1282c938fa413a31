//! Lets peers connect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};

use super::engine::Command;
use super::link::{SUBPROTOCOL, pump, socket_config};
use crate::node::Policy;
use crate::{Error, Result};

/// How long the WebSocket handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest message taken from a peer, in bytes.
const MESSAGE_BYTES_MAX: usize = crsql_protocol::limits::MESSAGE_BYTES_MAX;

/// Where peers may connect, and who may.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// The room that must be asked for.
    pub room: String,
    /// The token that must be shown. Without one, anybody who reaches the address can read and write everything.
    pub token: Option<String>,
    /// Most connections at once.
    pub connections_max: usize,
    /// TLS, see [`server_tls`](super::server_tls). Without it, only `ws://` is spoken.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listen {
    /// For up to 256 peers without a token: for loopback, or a network that only peers can reach.
    pub fn new(address: SocketAddr, room: impl Into<String>) -> Listen {
        Listen { address, room: room.into(), token: None, connections_max: 256, tls: None }
    }
}

/// Listens until the task is aborted.
pub(super) async fn listen(
    listen: &Listen,
    commands: mpsc::Sender<Command>,
) -> Result<(SocketAddr, JoinHandle<()>)> {
    let failed = |error| Error::Io(format!("cannot listen on {}", listen.address), error);
    let listener = TcpListener::bind(listen.address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let policy = Policy { room: listen.room.clone(), token: listen.token.clone() };
    let places = Arc::new(Semaphore::new(listen.connections_max));
    let tls = listen.tls.clone().map(TlsAcceptor::from);
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    // Out of file descriptors, mostly: some may be free again soon.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let (policy, commands, tls) = (policy.clone(), commands.clone(), tls.clone());
            connections.spawn(async move {
                stream.set_nodelay(true).ok();
                match tls {
                    None => serve(stream, from, policy, commands).await,
                    Some(tls) => {
                        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await;
                        if let Ok(Ok(stream)) = shaken {
                            serve(stream, from, policy, commands).await;
                        }
                    }
                }
                drop(place);
            });
        }
    });
    Ok((address, task))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    from: SocketAddr,
    policy: Policy,
    commands: mpsc::Sender<Command>,
) {
    let config = socket_config(MESSAGE_BYTES_MAX);
    let upgrade = tokio_tungstenite::accept_hdr_async_with_config(stream, agree, Some(config));
    // Strangers who dawdle or talk nonsense get nothing and leave no trace.
    let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, upgrade).await else { return };
    let (out, queue) = mpsc::unbounded_channel();
    let (answer, accepted) = oneshot::channel();
    if commands.send(Command::Accept { from, policy, out, answer }).await.is_err() {
        return;
    }
    if let Ok(link) = accepted.await {
        pump(socket, link, &commands, queue).await;
    }
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
fn agree(request: &Request, mut response: Response) -> std::result::Result<Response, ErrorResponse> {
    let offered = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(',').map(str::trim));
    // A browser on some page could reach a loopback address too; peers are no browsers.
    let is_browser = request.headers().contains_key("origin");
    if is_browser || !offered.into_iter().any(|protocol| protocol == SUBPROTOCOL) {
        let mut refusal = ErrorResponse::new(Some(format!("peers speak {SUBPROTOCOL}\n")));
        *refusal.status_mut() = if is_browser { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
        return Err(refusal);
    }
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}
