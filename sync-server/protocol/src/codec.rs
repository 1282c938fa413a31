//! Messages to bytes and back.
//!
//! Any bytes give a message, nothing to do, or an error; memory is in proportion to the input, never to a length
//! that it declares.

use crate::code::{Code, Fault};
use crate::limits::*;
use crate::message::{Frame, Message, SKIPPABLE_TAG_MIN};
use crsql_core::version_vector::VersionVector;

/// The bytes of a message.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut out = vec![message.tag()];
    message.write_fields(&mut out).expect("writing integers and bytes to memory cannot fail");
    out
}

/// Reads a message of at most `bytes_max` bytes. None if its tag is unknown and may be skipped.
pub fn decode(bytes: &[u8], bytes_max: usize) -> Result<Option<Message>, Fault> {
    if bytes.len() > bytes_max.min(MESSAGE_BYTES_MAX) {
        let detail = format!("a message of {} bytes is beyond the limit of {bytes_max}", bytes.len());
        return Err(Fault::new(Code::TOO_LARGE, detail));
    }
    let Some((&tag, fields)) = bytes.split_first() else {
        return Err(Fault::new(Code::MALFORMED, "a message of 0 bytes"));
    };
    let Some(message) = Message::read_fields(tag, fields) else {
        return match tag {
            SKIPPABLE_TAG_MIN.. => Ok(None),
            _ => Err(Fault::new(Code::UNKNOWN_MESSAGE, format!("unknown message {tag}"))),
        };
    };
    let message = message.map_err(|error| Fault::new(Code::MALFORMED, format!("message {tag}: {error}")))?;
    check(&message)?;
    Ok(Some(message))
}

/// Checks what the types do not say: counts and lengths. What concerns a single transaction is judged later, so
/// that one bad frame does not condemn its neighbours.
fn check(message: &Message) -> Result<(), Fault> {
    match message {
        Message::Hello(hello) => {
            most("room name bytes", hello.room.len(), ROOM_NAME_BYTES_MAX)?;
            most("token bytes", hello.token.as_ref().map_or(0, String::len), TOKEN_BYTES_MAX)?;
            most("agent bytes", hello.agent.len(), TEXT_BYTES_MAX)?;
            if hello.room.is_empty() || hello.proto_min > hello.proto_max {
                return Err(Fault::new(
                    Code::MALFORMED,
                    "hello without room or with an empty protocol range",
                ));
            }
            hello.held.as_ref().map_or(Ok(()), |have| check_have(&have.whole, have.partial.len()))
        }
        Message::Welcome(welcome) => {
            most("agent bytes", welcome.agent.len(), TEXT_BYTES_MAX)?;
            most("sites in your_held", welcome.your_held.iter().count(), 1)?;
            welcome.held.as_ref().map_or(Ok(()), check_vector)
        }
        Message::Push(push) => check_frames(&push.frames, &push.claims, push.chains.len()),
        Message::Batch(batch) => {
            if batch.part == 0 && batch.upto <= batch.after {
                return Err(Fault::new(Code::MALFORMED, "a tail batch that does not move the position"));
            }
            check_frames(&batch.frames, &batch.claims, batch.chains.len())
        }
        Message::Ack(ack) => {
            most("rejected transactions", ack.rejected.len(), FRAMES_PER_MESSAGE_MAX)?;
            check_vector(&ack.held)
        }
        Message::Have(have) => check_have(&have.whole, have.partial.len()),
        Message::Need(need) => check_have(&need.whole, need.partial.len()),
        Message::Empty(empty) => check_vector(&empty.versions),
        Message::DigestRequest(request) => {
            most("digest ranges", request.ranges.len(), DIGEST_ENTRIES_MAX)?;
            let entries = (request.cut as usize).saturating_mul(request.ranges.len());
            most("digest entries asked for", entries, DIGEST_ENTRIES_MAX)?;
            request.ranges.iter().try_for_each(check_range)
        }
        Message::DigestResponse(response) => {
            most("digest entries", response.entries.len(), DIGEST_ENTRIES_MAX)?;
            response.entries.iter().try_for_each(|entry| check_range(&entry.range))
        }
        Message::Presence(presence) => {
            most("topic bytes", presence.topic.len(), TEXT_BYTES_MAX)?;
            most("presence bytes", presence.data.0.len(), PRESENCE_BYTES_MAX)
        }
        Message::Error(error) => most("detail bytes", error.detail.len(), TEXT_BYTES_MAX),
        Message::Goaway(goaway) => {
            most("reason bytes", goaway.reason.len(), TEXT_BYTES_MAX)?;
            most("URL bytes", goaway.instead.as_ref().map_or(0, String::len), TEXT_BYTES_MAX)
        }
        Message::Names(names) => most("names", names.names.len(), NAMES_MAX),
        Message::Pos(pos) if pos.upto < pos.after => {
            Err(Fault::new(Code::MALFORMED, "a position that moves backwards"))
        }
        Message::Pos(_) | Message::Credit(_) | Message::Ping(_) | Message::Pong(_) => Ok(()),
    }
}

fn check_frames(frames: &[Frame], claims: &VersionVector, chains: usize) -> Result<(), Fault> {
    most("chains", chains, SITES_MAX)?;
    most("frames", frames.len(), FRAMES_PER_MESSAGE_MAX)?;
    check_vector(claims)
}

fn check_have(whole: &VersionVector, partial: usize) -> Result<(), Fault> {
    most("incomplete versions", partial, PARTIALS_MAX)?;
    check_vector(whole)
}

fn check_vector(vector: &VersionVector) -> Result<(), Fault> {
    most("sites", vector.iter().count(), SITES_MAX)?;
    most("version ranges", vector.iter().map(|(_, ranges)| ranges.iter().len()).sum(), RANGES_MAX)
}

fn check_range(range: &crate::message::DigestRange) -> Result<(), Fault> {
    most("table name bytes", range.table.len(), crsql_core::limits::TABLE_NAME_MAX)?;
    most("key bytes", range.from.0.len(), DIGEST_KEY_BYTES_MAX)?;
    most("key bytes", range.to.as_ref().map_or(0, |to| to.0.len()), DIGEST_KEY_BYTES_MAX)
}

fn most(what: &str, found: usize, limit: usize) -> Result<(), Fault> {
    if found > limit {
        return Err(Fault::new(Code::TOO_LARGE, format!("{found} {what}: at most {limit} are accepted")));
    }
    Ok(())
}
