//! Moves the messages of one connection between its socket and the database thread.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use crsql_protocol::Fault;
use crsql_protocol::message::Snapshot;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::engine::Command;
use crate::node::LinkId;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "crsql-sync.v1";

/// What the database thread wants of a connection. The queue needs no bound of its own: the session sends no more
/// than the other side's window and credit allow.
#[derive(Debug)]
pub enum Out {
    /// Send this.
    Message(Arc<[u8]>),
    /// The handshake is done.
    Ready,
    /// The other side is about to leave: come back after so many milliseconds, perhaps elsewhere.
    Goaway(u64, Option<String>),
    /// Fetch this copy of the database, of this epoch, before connecting again.
    Snapshot(Snapshot, u64),
    /// Close, for this reason.
    Close(Option<Fault>),
}

/// How a connection ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// Whether the handshake was done.
    pub was_ready: bool,
    /// Why, if this side knows.
    pub fault: Option<Fault>,
    /// When and where to go on, if the other side said so.
    pub goaway: Option<(u64, Option<String>)>,
    /// A snapshot to fetch, and its epoch.
    pub snapshot: Option<(Snapshot, u64)>,
    /// The transport's error.
    pub error: Option<String>,
}

/// Sizes for sockets: the library's default of 128 KiB each would be most of what an idle connection costs.
pub fn socket_config(message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(16 << 10)
        .max_write_buffer_size(4 * message_bytes)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes))
}

/// Runs until one side closes.
pub async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    link: LinkId,
    commands: &mpsc::Sender<Command>,
    mut out: mpsc::UnboundedReceiver<Out>,
) -> Ended {
    let (mut sink, mut stream) = socket.split();
    let ended = Mutex::new(Ended::default());
    {
        // Reading and writing wait for each other nowhere: two peers that both only wrote would block for ever.
        let read = async {
            while let Some(message) = stream.next().await {
                let bytes = match message {
                    Ok(Message::Binary(bytes)) => bytes,
                    Ok(Message::Text(text)) => Bytes::from(text.as_str().to_owned()),
                    Ok(Message::Close(_)) => return None,
                    Ok(_) => continue,
                    Err(error) => return Some(error.to_string()),
                };
                if commands.send(Command::Message { link, bytes }).await.is_err() {
                    return None;
                }
            }
            None
        };
        let write = async {
            while let Some(first) = out.recv().await {
                let mut next = Some(first);
                while let Some(item) = next {
                    match item {
                        Out::Message(bytes) => {
                            let sent = sink.feed(Message::Binary(Bytes::from_owner(bytes))).await;
                            if let Err(error) = sent {
                                return Some(error.to_string());
                            }
                        }
                        Out::Close(fault) => {
                            note(&ended, Out::Close(fault));
                            sink.close().await.ok();
                            return None;
                        }
                        other => note(&ended, other),
                    }
                    next = out.try_recv().ok();
                }
                if let Err(error) = sink.flush().await {
                    return Some(error.to_string());
                }
            }
            sink.close().await.ok();
            None
        };
        let error = tokio::select! {
            error = write => error,
            error = read => error,
        };
        ended.lock().expect("nothing panics while it holds this").error = error;
    }
    // The database thread first takes what has arrived, which may be the reason of the end, then forgets the link.
    commands.send(Command::Closed { link }).await.ok();
    while let Some(item) = out.recv().await {
        note(&ended, item);
    }
    ended.into_inner().expect("nothing panics while it holds this")
}

fn note(ended: &Mutex<Ended>, item: Out) {
    let mut ended = ended.lock().expect("nothing panics while it holds this");
    match item {
        Out::Ready => ended.was_ready = true,
        Out::Goaway(ms, instead) => ended.goaway = Some((ms, instead)),
        Out::Snapshot(snapshot, epoch) => ended.snapshot = Some((snapshot, epoch)),
        Out::Close(fault) => ended.fault = fault,
        Out::Message(_) => {}
    }
}
