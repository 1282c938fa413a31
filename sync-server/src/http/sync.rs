//! `GET /v1/rooms/{room}/sync`: the way into a WebSocket.

use std::sync::Arc;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crsql_protocol::limits::HELLO_BYTES_MAX;

use super::origin;
use crate::connection::{Arrival, Connection};
use crate::listener::Peer;
use crate::room::Rooms;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "crsql-sync.v1";

/// The default of 128 KiB would be most of what an idle connection costs.
const READ_BUFFER_BYTES: usize = 4096;

/// Writes are flushed message by message, so there is nothing to gain from a large buffer.
const WRITE_BUFFER_BYTES: usize = 4096;

pub async fn upgrade(
    State(rooms): State<Arc<Rooms>>,
    Path(room): Path<String>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let context = rooms.context().clone();
    context.metrics.requests.add(1);
    if !origin::is_allowed(&headers, &context.settings.origins.0) {
        let text = "this page's origin is not in the relay's list of origins\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols([SUBPROTOCOL]),
        Err(rejection) => return rejection.into_response(),
    };
    if upgrade.selected_protocol().is_none() {
        let text = "ask for the WebSocket subprotocol crsql-sync.v1\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let patience = context.settings.hello_timeout.duration();
    let permit = tokio::time::timeout(patience, context.handshakes.clone().acquire_owned()).await;
    let Ok(Ok(handshake)) = permit else {
        let text = "too many handshakes at once: try again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response();
    };
    let longest = context.settings.message_bytes.bytes().max(HELLO_BYTES_MAX);
    let arrival = Arrival {
        room,
        token: bearer(&headers),
        from: peer.address.to_string(),
        received: peer.received.clone(),
        _handshake: handshake,
    };
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(4 * longest)
        .max_message_size(longest)
        .max_frame_size(longest)
        .on_upgrade(move |socket| async move {
            Connection::run(rooms, socket, arrival).await;
            drop(peer);
        })
}

/// The token of an Authorization header.
pub fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, token) = value.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
