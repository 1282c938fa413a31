//! What HTTP reads of a room's database: what somebody lacks, digests, snapshots, the schema.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::DigestRequest;
use crsql_protocol::{Code, Fault};
use serde_json::json;

use super::answer::{Refusal, enter, hex};
use super::changes::ranges;
use super::origin;
use crate::auth::Permission;
use crate::room::Rooms;
use crate::store::{self, SnapshotFile};

/// Bytes of a snapshot read at once: each time another thread is asked.
const PIECE_BYTES: usize = 256 << 10;

/// Takes a version vector, as `crsql_version_vector()` gives it, and answers the changeset of what is not in it.
pub async fn need(
    State(rooms): State<Arc<Rooms>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (room, _) = enter(&rooms, &name, &headers, Permission::Read, None).await?;
    VersionVector::decode(&body, &Default::default())
        .map_err(|error| Fault::new(Code::MALFORMED, format!("the body is no version vector: {error}")))?;
    let vector = body.to_vec();
    let (changeset, pos) =
        room.store.ask(move |connection, pos| Ok((store::delta(connection, vector)?, pos))).await?;
    Ok((head(room.epoch, pos), changeset).into_response())
}

/// Digests of all tables, and what is held.
pub async fn digest(
    State(rooms): State<Arc<Rooms>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (room, _) = enter(&rooms, &name, &headers, Permission::Read, None).await?;
    let request = DigestRequest { id: 0, ranges: Vec::new(), cut: 1, rows: false };
    let answer = room.store.ask(move |connection, pos| {
        let all: String = connection.query_row("SELECT crsql_digest()", [], |row| row.get(0))?;
        Ok((pos, all, store::digests(connection, &request)?))
    });
    let (pos, all, entries) = answer.await?;
    let tables = entries
        .iter()
        .map(|entry| (entry.range.table.clone(), json!({ "rows": entry.rows, "digest": hex(&entry.sum.0) })));
    let body = json!({
        "position": format!("{:016x}.{pos}", room.epoch),
        "digest": all,
        "tables": tables.collect::<serde_json::Map<_, _>>(),
        "held": ranges(&room.held()),
    });
    Ok(axum::Json(body).into_response())
}

/// The room as a SQLite file. Whoever goes on writing in a copy gives it a name of its own first: crsql_new_site().
pub async fn snapshot(
    State(rooms): State<Arc<Rooms>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (room, _) = enter(&rooms, &name, &headers, Permission::Read, None).await?;
    let file = room.store.snapshot(room.head().pos).await?;
    send(file, &headers).await
}

/// A snapshot that a Welcome named. Pages may fetch it too, from wherever they may connect.
pub async fn named_snapshot(
    State(rooms): State<Arc<Rooms>>,
    Path((name, place)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let find = async {
        let (room, _) = enter(&rooms, &name, &headers, Permission::Read, None).await?;
        match room.store.known_snapshot(0) {
            Some(file) if place == format!("{:016x}.{}", file.epoch, file.pos) => send(file, &headers).await,
            _ => Err(Refusal::from(Fault::new(Code::LOST, "there is a later snapshot: connect again"))),
        }
    };
    let mut answer = find.await.into_response();
    origin::share(&headers, &rooms.context().settings.origins.0, answer.headers_mut());
    answer
}

/// What a browser asks before it lets a page of another host send a token.
pub async fn may_fetch(State(rooms): State<Arc<Rooms>>, headers: HeaderMap) -> Response {
    let granted = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, range"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    let mut answer = (StatusCode::NO_CONTENT, granted).into_response();
    origin::share(&headers, &rooms.context().settings.origins.0, answer.headers_mut());
    answer
}

/// The statements that make the room's tables.
pub async fn schema(
    State(rooms): State<Arc<Rooms>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (room, _) = enter(&rooms, &name, &headers, Permission::Read, None).await?;
    Ok(room.store.ask(|connection, _| store::schema(connection)).await?.into_response())
}

/// Makes the room's database look like the schema in the body, as `crsql_automigrate` does.
pub async fn migrate(
    State(rooms): State<Arc<Rooms>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Refusal> {
    let (room, grant) = enter(&rooms, &name, &headers, Permission::Admin, Some(0)).await?;
    tracing::info!(room = name, subject = grant.subject, "schema changed");
    room.store.ask(move |connection, _| store::migrate(connection, &body)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn head(epoch: u64, pos: u64) -> [(header::HeaderName, String); 2] {
    let position = header::HeaderName::from_static("x-crsql-position");
    let kind = "application/octet-stream".to_owned();
    [(position, format!("{epoch:016x}.{pos}")), (header::CONTENT_TYPE, kind)]
}

/// Sends a file from where the client's last attempt broke off.
async fn send(file: Arc<SnapshotFile>, headers: &HeaderMap) -> Result<Response, Refusal> {
    let tag = format!("\"{:016x}.{}.{}\"", file.epoch, file.pos, hex(&file.checksum.0));
    let has = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if has(header::IF_NONE_MATCH) == Some(&tag) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let same = has(header::IF_RANGE).is_none_or(|wanted| wanted == tag);
    let from = has(header::RANGE).filter(|_| same).and_then(|range| {
        range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok().filter(|from| *from < file.bytes)
    });
    let told = |error: std::io::Error| Fault::new(Code::UNAVAILABLE, format!("the snapshot: {error}"));
    let open = std::fs::File::open(&file.path).map_err(told)?;
    let (epoch, pos, bytes) = (file.epoch, file.pos, file.bytes);
    // The file stays as long as somebody reads it.
    let begin = Some((open, file, from.unwrap_or(0)));
    let pieces = futures_util::stream::unfold(begin, |reading| async move {
        let (open, file, at) = reading?;
        let left = usize::try_from(file.bytes - at).unwrap_or(usize::MAX);
        let read = move || {
            let mut piece = vec![0; left.min(PIECE_BYTES)];
            open.read_exact_at(&mut piece, at).map(|()| (piece, open, file))
        };
        match tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other).flatten() {
            Ok((piece, ..)) if piece.is_empty() => None,
            Ok((piece, open, file)) => {
                let at = at + piece.len() as u64;
                Some((Ok(Bytes::from(piece)), Some((open, file, at))))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    let start = from.unwrap_or(0);
    let more = [
        (header::ETAG, tag),
        (header::ACCEPT_RANGES, "bytes".into()),
        (header::CONTENT_LENGTH, (bytes - start).to_string()),
    ];
    let status = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = (status, head(epoch, pos), more, Body::from_stream(pieces)).into_response();
    if from.is_some()
        && let Ok(range) = format!("bytes {start}-{}/{bytes}", bytes - 1).parse()
    {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}
