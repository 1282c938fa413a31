//! Takes connections in, as many as the limits allow, and gives each to HTTP.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use hyper::body::{Body, Incoming};
use hyper::{Request, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::context::Context;
use crate::paced::{self, Progress, Watched};

/// How often is looked whether a request's body comes fast enough.
const BODY_LOOK: Duration = Duration::from_millis(500);

/// The longest HTTP head, in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Where a connection comes from; counts it as long as anybody has it.
#[derive(Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The bytes that came from it.
    pub received: Arc<AtomicU64>,
    _counted: Arc<Counted>,
}

struct Counted {
    ip: IpAddr,
    counts: Arc<Counts>,
    context: Arc<Context>,
}

/// The connections there are.
#[derive(Default)]
pub struct Counts {
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

impl Peer {
    /// Counts a new connection, if there is a place for it.
    pub fn admit(address: SocketAddr, counts: &Arc<Counts>, context: &Arc<Context>) -> Option<Peer> {
        context.metrics.accepted.add(1);
        let Some(counted) = counts.admit(address.ip(), context) else {
            context.metrics.refused_connections.add(1);
            return None;
        };
        Some(Peer { address, received: Arc::default(), _counted: Arc::new(counted) })
    }
}

/// Serves `listener` until the relay drains.
pub async fn run(listener: TcpListener, router: Router, tls: Option<TlsAcceptor>, context: Arc<Context>) {
    let counts = Arc::new(Counts::default());
    let mut draining = context.drain.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|drain| *drain) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those who are here go on.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(peer) = Peer::admit(address, &counts, &context) else { continue };
        stream.set_nodelay(true).ok();
        tokio::spawn(connection(stream, peer, router.clone(), tls.clone(), context.clone()));
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    tls: Option<TlsAcceptor>,
    context: Arc<Context>,
) {
    let Some(tls) = tls else { return http(stream, peer, router, &context).await };
    let patience = context.settings.hello_timeout.duration();
    let handshake = async {
        let _permit = context.handshakes.acquire().await;
        tls.accept(stream).await
    };
    match tokio::time::timeout(patience, handshake).await {
        Ok(Ok(stream)) => http(stream, peer, router, &context).await,
        Ok(Err(error)) => tracing::debug!(from = %peer.address, %error, "TLS failed"),
        Err(_) => tracing::debug!(from = %peer.address, "TLS took too long"),
    }
}

/// Serves HTTP on one connection to its end.
pub async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    context: &Context,
) {
    let stream = paced::Counted::new(stream, peer.received.clone());
    let least = context.settings.min_bytes_per_second.0;
    let grace = context.settings.header_timeout.duration();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        // What has a body must send it in time; what has none may wait for news.
        let is_watched = least > 0 && !request.body().is_end_stream();
        let progress = Arc::new(Progress::default());
        let watched = progress.clone();
        let answer = router.clone().call(request.map(|body| Watched::new(body, watched)));
        async move {
            if !is_watched {
                return answer.await;
            }
            let began = tokio::time::Instant::now();
            let mut answer = std::pin::pin!(answer);
            loop {
                if let Ok(done) = tokio::time::timeout(BODY_LOOK, &mut answer).await {
                    return done;
                }
                if progress.is_too_slow(began.elapsed(), least, grace) {
                    let late = (StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n");
                    return Ok(late.into_response());
                }
            }
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(context.settings.header_timeout.duration())
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = serving.await {
        tracing::debug!(%error, "HTTP ended");
    }
}

impl Counts {
    fn admit(self: &Arc<Counts>, ip: IpAddr, context: &Arc<Context>) -> Option<Counted> {
        let mut by_ip = self.by_ip.lock().unwrap_or_else(|e| e.into_inner());
        let full = context.metrics.connections.get() >= context.settings.connections as u64;
        let count = by_ip.get(&ip).copied().unwrap_or(0);
        if full || count >= context.settings.connections_per_ip {
            return None;
        }
        by_ip.insert(ip, count + 1);
        context.metrics.connections.add(1);
        Some(Counted { ip, counts: self.clone(), context: context.clone() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.context.metrics.connections.sub(1);
        let mut by_ip = self.counts.by_ip.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}
