//! Everything that is reached by HTTP: the way into a WebSocket, health, metrics, and the rooms for `curl`.

mod answer;
mod changes;
mod database;
mod health;
mod origin;
mod sync;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::room::Rooms;

/// The routes.
pub fn router(rooms: Arc<Rooms>) -> Router {
    let body_bytes = rooms.context().settings.body_bytes.bytes();
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/v1/rooms/{room}/sync", get(sync::upgrade))
        .route("/v1/rooms/{room}/changes", get(changes::pull).post(changes::push))
        .route("/v1/rooms/{room}/need", post(database::need))
        .route("/v1/rooms/{room}/digest", get(database::digest))
        .route("/v1/rooms/{room}/snapshot", get(database::snapshot))
        .route(
            "/v1/rooms/{room}/snapshot/{place}",
            get(database::named_snapshot).options(database::may_fetch),
        )
        .route("/v1/rooms/{room}/schema", get(database::schema).put(database::migrate))
        .layer(DefaultBodyLimit::max(body_bytes))
        .with_state(rooms)
}
