//! A proxy that does to the messages between two nodes what networks and bad middleboxes do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};

/// What the proxies of a test share.
#[derive(Debug, Default)]
pub struct Weather {
    /// From now on everything passes as it is.
    pub is_calm: AtomicBool,
    /// Messages that passed.
    pub passed: AtomicU64,
    /// Connections cut in the middle of something.
    pub cut: AtomicU64,
    /// Messages sent twice.
    pub doubled: AtomicU64,
    /// Messages that were overtaken by the next.
    pub swapped: AtomicU64,
    dice: AtomicU64,
}

impl Weather {
    /// With these dice.
    pub fn new(seed: u64) -> Arc<Weather> {
        Arc::new(Weather { dice: AtomicU64::new(seed), ..Weather::default() })
    }

    /// A number below `n`.
    pub fn roll(&self, n: u64) -> u64 {
        let mut x = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }
}

/// Listens, and passes on to `upstream`, which need not be there all the time.
pub async fn proxy(upstream: SocketAddr, weather: Arc<Weather>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass(stream, upstream, weather.clone()));
        }
    });
    address
}

async fn pass(stream: TcpStream, upstream: SocketAddr, weather: Arc<Weather>) -> Option<()> {
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let agree = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        path = request.uri().to_string();
        response.headers_mut().insert("sec-websocket-protocol", "crsql-sync.v1".parse().unwrap());
        Ok(response)
    };
    let near = tokio_tungstenite::accept_hdr_async(stream, agree).await.ok()?;
    let mut request = format!("ws://{upstream}{path}").into_client_request().ok()?;
    request.headers_mut().insert("sec-websocket-protocol", "crsql-sync.v1".parse().unwrap());
    let (far, _) = tokio_tungstenite::connect_async(request).await.ok()?;
    let ((near_out, near_in), (far_out, far_in)) = (near.split(), far.split());
    // Whichever ends takes the other with it: both halves are dropped, which cuts both connections.
    tokio::select! {
        () = pump(near_in, far_out, &weather) => {}
        () = pump(far_in, near_out, &weather) => {}
    }
    Some(())
}

async fn pump(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut to: impl Sink<Message> + Unpin,
    weather: &Weather,
) {
    let mut overtaken: Option<Message> = None;
    while let Some(Ok(message)) = from.next().await {
        if matches!(message, Message::Ping(_) | Message::Pong(_)) {
            continue;
        }
        weather.passed.fetch_add(1, Ordering::Relaxed);
        let fate = if weather.is_calm.load(Ordering::Relaxed) { 1000 } else { weather.roll(1000) };
        let is_end = message.is_close();
        let sent = match fate {
            0..4 => {
                weather.cut.fetch_add(1, Ordering::Relaxed);
                return;
            }
            4..14 => {
                weather.doubled.fetch_add(1, Ordering::Relaxed);
                to.feed(message.clone()).await.is_ok() && to.feed(message).await.is_ok()
            }
            14..17 if overtaken.is_none() && !is_end => {
                weather.swapped.fetch_add(1, Ordering::Relaxed);
                overtaken = Some(message);
                continue;
            }
            17..60 => {
                tokio::time::sleep(Duration::from_millis(weather.roll(25))).await;
                to.feed(message).await.is_ok()
            }
            _ => to.feed(message).await.is_ok(),
        };
        let late = match overtaken.take() {
            Some(late) => to.feed(late).await.is_ok(),
            None => true,
        };
        if !(sent && late && to.flush().await.is_ok()) || is_end {
            return;
        }
    }
}
