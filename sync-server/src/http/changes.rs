//! `/v1/rooms/{room}/changes`: the journal by HTTP, to read and to append to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use crsql_core::changeset::{self, Changeset, MAGIC, Order};
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use crsql_protocol::message::{Ack, Batch, Cursor, Frame, Message, Push};
use crsql_protocol::session::Tail;
use crsql_protocol::{Code, Fault, codec};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::answer::{Refusal, enter, hex};
use crate::auth::Permission;
use crate::config::Value;
use crate::room::check::tie_break_number;
use crate::room::{Author, Cuts, Room, Rooms, unavailable};

/// The kind of a body that is one message of the protocol.
const MESSAGE: &str = "application/vnd.crsql.message";

/// A changeset that came whole is cut into frames of this many bytes.
const PIECE_BYTES: usize = 128 << 10;

/// The longest that a request waits for news.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
pub struct Pull {
    /// `<epoch>.<pos>`, as the last answer said; the beginning if there was none.
    after: Option<String>,
    /// How long to wait for something new, such as `25s`.
    wait: Option<String>,
}

/// Reads the journal after a position: one Batch, or JSON if asked for. 204 if there is nothing.
pub async fn pull(
    State(rooms): State<Arc<Rooms>>,
    Path(name): Path<String>,
    Query(query): Query<Pull>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (room, _) = enter(&rooms, &name, &headers, Permission::Read, None).await?;
    let after = match &query.after {
        Some(text) => position(text, &room)?,
        None if room.floor() > 0 => return Err(trimmed().into()),
        None => 0,
    };
    let wait = match &query.wait {
        Some(text) => crate::config::Span::parse(text)
            .map_err(|expected| Fault::new(Code::MALFORMED, format!("wait={text} is not {expected}")))?
            .duration(),
        None => Duration::ZERO,
    };
    let mut signal = room.signal();
    tokio::time::timeout(wait.min(WAIT_MAX), signal.wait_for(|signal| signal.head > after || signal.failed))
        .await
        .ok();
    let context = rooms.context();
    let (reader, bytes) = (room.clone(), context.settings.message_bytes.0 / 2);
    let tail = context.readers.ask(move || reader.whole_tail(after, bytes)).await;
    let tail = tail.map_err(|error| Fault::new(Code::INTERNAL, error.to_string()))?.map_err(unavailable)?;
    let place = format!("{:016x}.{}", room.epoch, tail.upto);
    let position = [("x-crsql-position", place.clone())];
    if tail.upto == after {
        return Ok((StatusCode::NO_CONTENT, position).into_response());
    }
    if wants_json(&headers) {
        return Ok((position, axum::Json(as_json(&tail, &place))).into_response());
    }
    let Tail { after, upto, frames, claims, chains, .. } = tail;
    let batch = Batch { after, upto, part: 0, frames, claims, chains, more: false };
    Ok((position, [(header::CONTENT_TYPE, MESSAGE)], codec::encode(&batch.into())).into_response())
}

/// Appends a Push, or a changeset as `crsql_changeset()` makes it. The answer comes when it is durable.
pub async fn push(
    State(rooms): State<Arc<Rooms>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let context = rooms.context();
    let is_changeset = body.starts_with(MAGIC);
    let tie_break = if is_changeset { tie_break_of(&body)? } else { 0 };
    let (room, grant) = enter(&rooms, &name, &headers, Permission::Write, Some(tie_break)).await?;
    if !room.admit_bytes(body.len() as u64) {
        let fault = Fault::new(Code::RATE, "the room receives too much: try again later");
        return Err(Fault { retry_after_ms: 5000, ..fault }.into());
    }
    let waits = body.len().min(context.settings.journal_queue.bytes()) as u32;
    let permit = context.queue.clone().acquire_many_owned(waits).await;
    let push =
        if is_changeset { as_push(&body)? } else { decoded(&body, context.settings.body_bytes.bytes())? };
    let site = author_of(&push);
    let (checker, tie_break, most) =
        (context.checker, room.tie_break, context.settings.staged_bytes_per_site.0);
    let look = move || Cuts::default().check(Push { more: false, ..push }, &checker, tie_break, most);
    let checked = context.readers.ask(look).await;
    let checked = checked.map_err(|error| Fault::new(Code::INTERNAL, error.to_string()))?;
    let older = room.older(&checked);
    let (journal, key) = (context.journal.clone(), room.key);
    let chains = move || {
        let chain = |(site, version)| Some(((site, version), journal.chain(key, site, version).ok()??));
        older.into_iter().filter_map(chain).collect::<HashMap<_, _>>()
    };
    let known = context.readers.ask(chains).await.unwrap_or_default();
    let (reply, done) = oneshot::channel();
    let _gate = room.pushing().await;
    let mut author = Author { grant: &grant, site, new_sites: &mut BTreeSet::new() };
    room.push(0, checked, &mut author, &known, move |done| {
        drop(permit);
        reply.send(done).ok();
    });
    let ack = done.await.map_err(|_| Fault::new(Code::INTERNAL, "the journal gave no answer"))??;
    Ok(acknowledged(&room, ack, &headers))
}

fn acknowledged(room: &Room, ack: Ack, headers: &HeaderMap) -> Response {
    let status = match ack.rejected.first() {
        Some(rejected) if ack.held.is_empty() => Refusal::from(Fault::new(rejected.code, "")).0,
        _ => StatusCode::OK,
    };
    if !wants_json(headers) && headers.get(header::ACCEPT).is_some_and(|accept| accept == MESSAGE) {
        return (status, [(header::CONTENT_TYPE, MESSAGE)], codec::encode(&Message::Ack(ack)))
            .into_response();
    }
    let rejected = ack.rejected.iter().map(|rejected| {
        let site = hex(&rejected.site.0);
        json!({ "site": site, "site_version": rejected.site_version, "code": rejected.code.name() })
    });
    let body = json!({
        "position": format!("{:016x}.{}", room.epoch, ack.pos),
        "held": ranges(&ack.held),
        "rejected": rejected.collect::<Vec<_>>(),
    });
    (status, axum::Json(body)).into_response()
}

fn decoded(body: &[u8], bytes_max: usize) -> Result<Push, Fault> {
    match codec::decode(body, bytes_max)? {
        Some(Message::Push(push)) => Ok(push),
        Some(other) => Err(Fault::new(
            Code::UNEXPECTED,
            format!("{} where a Push or a changeset is wanted", other.name()),
        )),
        None => Err(Fault::new(Code::MALFORMED, "neither a Push nor a changeset")),
    }
}

fn tie_break_of(body: &[u8]) -> Result<u8, Fault> {
    let changeset = Changeset::open(body, &changeset::Limits::default());
    changeset.map(|changeset| tie_break_number(changeset.tie_break())).map_err(no_changeset)
}

/// A changeset as a cut of deltas.
fn as_push(body: &[u8]) -> Result<Push, Fault> {
    let changeset = Changeset::open(body, &changeset::Limits::default()).map_err(no_changeset)?;
    let claims = changeset.claims().clone();
    let site = changeset.sites().first().copied().unwrap_or_default();
    let pieces = changeset::split(body, PIECE_BYTES, Order::AsGiven, &VersionVector::default());
    let frames = pieces.map_err(no_changeset)?.into_iter().map(|piece| Frame::delta(site, piece.bytes));
    Ok(Push { id: 1, frames: frames.collect(), claims, chains: Vec::new(), more: false })
}

fn no_changeset(error: changeset::ChangesetError) -> Fault {
    Fault::new(Code::BODY, format!("the changeset can't be read: {error}"))
}

/// By HTTP nobody says who he is: it is the site that all of it is about, if it is about one.
fn author_of(push: &Push) -> SiteId {
    let claimed = push.claims.iter().map(|(site, _)| *site);
    let sites: BTreeSet<_> = push.frames.iter().map(|frame| frame.site).chain(claimed).collect();
    match sites.len() {
        1 => sites.first().copied().unwrap_or_default(),
        _ => SiteId::default(),
    }
}

/// A position of this room.
fn position(text: &str, room: &Room) -> Result<u64, Fault> {
    let malformed = || {
        let detail = format!("after={text} is not a position such as {:016x}.0", room.epoch);
        Fault::new(Code::MALFORMED, detail)
    };
    let (epoch, pos) = text.split_once('.').ok_or_else(malformed)?;
    let epoch = u64::from_str_radix(epoch, 16).map_err(|_| malformed())?;
    let pos: u64 = pos.parse().map_err(|_| malformed())?;
    let Cursor { epoch: now, pos: head } = room.head();
    if epoch != now || pos > head || pos < room.floor() {
        return Err(trimmed());
    }
    Ok(pos)
}

fn trimmed() -> Fault {
    let detail = "the journal no longer has that position: POST what you hold to need, or fetch a snapshot";
    Fault::new(Code::LOST, detail)
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("application/json"))
}

fn as_json(tail: &Tail, place: &str) -> serde_json::Value {
    let frames = tail.frames.iter().map(|frame| {
        json!({
            "site": hex(&frame.site.0),
            "site_version": frame.site_version,
            "seq": [frame.seq_lo, frame.seq_hi, frame.last_seq],
            "chain": hex(&frame.chain.0),
            "changeset": hex(&frame.body.0),
        })
    });
    json!({ "position": place, "frames": frames.collect::<Vec<_>>(), "claims": ranges(&tail.claims) })
}

/// A version vector as JSON: ranges by site.
pub fn ranges(vector: &VersionVector) -> serde_json::Value {
    let sites = vector.iter().map(|(site, ranges)| {
        let ranges: Vec<_> = ranges.iter().map(|(lo, hi)| json!([lo, hi])).collect();
        (hex(&site.0), serde_json::Value::Array(ranges))
    });
    serde_json::Value::Object(sites.collect())
}
