//! Who is here, and what they say about themselves: values that live for seconds and are never stored.

use std::collections::BTreeMap;

use crsql_core::ids::SiteId;

use crate::limits::{PRESENCE_ENTRIES_MAX, PRESENCE_PER_SITE_MAX, PRESENCE_TTL_MAX_MS};
use crate::message::Presence;

/// The last value of every site and topic, until it expires.
///
/// ```
/// use crsql_core::ids::SiteId;
/// use crsql_protocol::{message::Presence, presence::Room, wire::Blob};
///
/// let mut room = Room::default();
/// let site = SiteId([1; 16]);
/// let cursor = Presence { site, topic: "cursor".into(), count: 1, ttl_ms: 30_000, data: Blob(vec![7]) };
/// assert!(room.put(0, &cursor), "news: pass it on");
/// assert!(!room.put(0, &cursor), "an echo");
/// assert_eq!(room.at(29_999).count(), 1);
/// assert_eq!(room.expire(30_000), [(site, "cursor".to_string())]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Room {
    values: BTreeMap<(SiteId, String), Value>,
}

#[derive(Clone, Debug)]
struct Value {
    presence: Presence,
    expires_ms: u64,
    /// Taken back, but remembered until it would have expired, so that a late copy does not bring it back.
    gone: bool,
}

impl Room {
    /// Takes a value in. True if it is news that should be passed on; false if it is older than what is known, or
    /// if there is no room for it.
    pub fn put(&mut self, now_ms: u64, presence: &Presence) -> bool {
        let key = (presence.site, presence.topic.clone());
        let known = self.values.get(&key);
        if known.is_some_and(|known| known.expires_ms > now_ms && known.presence.count >= presence.count) {
            return false;
        }
        if known.is_none() && !self.has_room(presence.site) {
            return false;
        }
        let gone = presence.ttl_ms == 0;
        let ttl_ms = if gone { PRESENCE_TTL_MAX_MS } else { presence.ttl_ms.min(PRESENCE_TTL_MAX_MS) };
        let expires_ms = now_ms.saturating_add(ttl_ms);
        let news = !gone || known.is_some_and(|known| !known.gone);
        self.values.insert(key, Value { presence: presence.clone(), expires_ms, gone });
        news
    }

    /// What is said at this moment, by site and topic.
    pub fn at(&self, now_ms: u64) -> impl Iterator<Item = &Presence> {
        let live = self.values.values().filter(move |value| !value.gone && value.expires_ms > now_ms);
        live.map(|value| &value.presence)
    }

    /// Forgets what has expired, and names what was still being said.
    pub fn expire(&mut self, now_ms: u64) -> Vec<(SiteId, String)> {
        let mut expired = Vec::new();
        self.values.retain(|key, value| {
            let keep = value.expires_ms > now_ms;
            if !keep && !value.gone {
                expired.push(key.clone());
            }
            keep
        });
        expired
    }

    /// Forgets a site whose last connection ended, and names what it was saying.
    pub fn leave(&mut self, site: SiteId) -> Vec<String> {
        let mut topics = Vec::new();
        self.values.retain(|(of, topic), value| {
            if *of == site && !value.gone {
                topics.push(topic.clone());
            }
            *of != site
        });
        topics
    }

    fn has_room(&self, site: SiteId) -> bool {
        let of_site = self.values.range((site, String::new())..).take_while(|((of, _), _)| *of == site);
        self.values.len() < PRESENCE_ENTRIES_MAX && of_site.count() < PRESENCE_PER_SITE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Blob;

    fn says(count: u64, ttl_ms: u64, data: u8) -> Presence {
        Presence { site: SiteId([1; 16]), topic: "t".into(), count, ttl_ms, data: Blob(vec![data]) }
    }

    fn seen(room: &Room, now_ms: u64) -> Vec<u8> {
        room.at(now_ms).map(|presence| presence.data.0[0]).collect()
    }

    #[test]
    fn the_greatest_count_stands_until_it_expires() {
        let mut room = Room::default();
        assert!(
            room.put(0, &says(2, 100, 2)) && !room.put(0, &says(1, 100, 1)) && !room.put(0, &says(2, 100, 3))
        );
        assert_eq!((seen(&room, 99), seen(&room, 100)), (vec![2], vec![]));
        // A program that restarts counts from 1 again; what has expired does not stand in its way.
        assert!(room.put(100, &says(1, 100, 1)));
        assert_eq!(room.expire(200).len(), 1);
        assert!(room.expire(200).is_empty());
    }

    #[test]
    fn what_is_taken_back_stays_away() {
        let mut room = Room::default();
        room.put(0, &says(1, 1000, 1));
        assert!(room.put(1, &says(3, 0, 0)) && !room.put(2, &says(2, 1000, 2)));
        assert!(seen(&room, 2).is_empty() && room.expire(u64::MAX).is_empty());
        assert!(!room.put(0, &says(1, 0, 0)), "nobody knew it");
        room.put(3, &says(9, 1000, 1));
        assert_eq!(room.leave(SiteId([1; 16])), ["t"]);
        assert!(seen(&room, 4).is_empty());
    }

    #[test]
    fn lifetimes_and_numbers_are_bounded() {
        let mut room = Room::default();
        room.put(0, &says(1, u64::MAX, 1));
        assert!(seen(&room, PRESENCE_TTL_MAX_MS).is_empty());
        for topic in 0..2 * PRESENCE_PER_SITE_MAX {
            room.put(0, &Presence { topic: topic.to_string(), ..says(1, 1, 1) });
        }
        assert_eq!(room.values.len(), PRESENCE_PER_SITE_MAX);
    }
}
