//! Where a relay or peer is, and which room is wanted of it.

use std::fmt;

use tokio_tungstenite::tungstenite::http::Uri;

use crate::{Error, Result};

/// A room at a relay or peer.
///
/// ```
/// use crsql_client::sync::Address;
///
/// let address = Address::parse("wss://relay.example/todo", "app")?;
/// assert_eq!((address.room(), address.url()), ("todo", "wss://relay.example/v1/rooms/todo/sync"));
/// assert_eq!(Address::parse("ws://127.0.0.1:8787", "app")?.room(), "app");
/// assert_eq!(Address::parse("http://relay/v1/rooms/a%20b/sync", "app")?.room(), "a b");
/// assert!(Address::parse("ftp://relay", "app").is_err());
/// # Ok::<(), crsql_client::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: String,
    room: String,
}

impl Address {
    /// From `ws://host:port/room` or `wss://…`; `http` and `https` mean the same. Without a path the room is
    /// `default_room`; the full path `/v1/rooms/{room}/sync` is taken too.
    ///
    /// # Errors
    /// What can't be an address, with the reason.
    pub fn parse(text: &str, default_room: &str) -> Result<Address> {
        let refuse = |reason: &str| Error::Address(text.to_owned(), reason.to_owned());
        let uri: Uri = text.parse().map_err(|error| refuse(&format!("{error}")))?;
        let scheme = match uri.scheme_str() {
            Some("ws" | "http") => "ws",
            Some("wss" | "https") => "wss",
            _ => return Err(refuse("it should begin with ws:// or wss://")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("secrets do not belong into an address, pass a token instead"));
        }
        if uri.query().is_some() {
            return Err(refuse("it should not have a query"));
        }
        let segments: Vec<_> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let room = match segments[..] {
            [] => default_room.to_owned(),
            [room] | ["v1", "rooms", room, "sync"] => {
                decoded(room).ok_or_else(|| refuse("its room is not UTF-8"))?
            }
            _ => return Err(refuse("its path should be one room, as in ws://host/room")),
        };
        if room.is_empty() || room.len() > crsql_protocol::limits::ROOM_NAME_BYTES_MAX {
            return Err(refuse("a room's name has 1 to 255 bytes"));
        }
        let url = format!("{scheme}://{authority}/v1/rooms/{}/sync", encoded(&room));
        Ok(Address { url, room })
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The room.
    pub fn room(&self) -> &str {
        &self.room
    }

    /// The same room somewhere else.
    pub(super) fn at(&self, instead: &str) -> Result<Address> {
        Address::parse(instead, &self.room)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.strip_suffix("/sync").unwrap_or(&self.url))
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
