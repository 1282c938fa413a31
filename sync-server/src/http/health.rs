//! Is it alive, can it take pushes, and what has it done.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use crate::room::Rooms;

/// The process answers.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// It takes pushes: the journals are sound and it is not about to end.
pub async fn ready(State(rooms): State<Arc<Rooms>>) -> impl IntoResponse {
    let context = rooms.context();
    if *context.drain.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
    }
    if !context.journal.is_sound() {
        return (StatusCode::SERVICE_UNAVAILABLE, "a journal failed; start again once the disk is sound\n");
    }
    (StatusCode::OK, "ready\n")
}

/// Prometheus' text.
pub async fn metrics(State(rooms): State<Arc<Rooms>>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], rooms.context().metrics.text())
}
