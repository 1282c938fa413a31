//! Everything that is reached by HTTP: the way into a WebSocket, health, metrics, and the rooms for `curl`.

mod health;
mod origin;
mod sync;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::room::Rooms;

/// The routes.
pub fn router(rooms: Arc<Rooms>) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/v1/rooms/{room}/sync", get(sync::upgrade))
        .with_state(rooms)
}
