//! The bounds on everything a session sends, receives or keeps.
//!
//! The constants are what the format allows at most; [`Limits`] is what one endpoint is willing to take, told to
//! the other side in `Welcome` and enforced on what arrives.

/// Longest message, in bytes, that any endpoint may agree to.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Longest first message of a connection, in bytes: whoever sent it is nobody yet.
pub const HELLO_BYTES_MAX: usize = 1 << 20;

/// Longest room name, in bytes.
pub const ROOM_NAME_BYTES_MAX: usize = 255;

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Longest text of any other kind (agent, detail, URL, topic), in bytes.
pub const TEXT_BYTES_MAX: usize = 2 << 10;

/// Most frames in one message.
pub const FRAMES_PER_MESSAGE_MAX: usize = 4096;

/// Most sites in one version vector.
pub const SITES_MAX: usize = 1 << 16;

/// Most ranges in one version vector.
pub const RANGES_MAX: usize = 1 << 18;

/// Most partial versions, or parts of needs, that one message may list.
pub const PARTIALS_MAX: usize = 1 << 12;

/// Most entries in one digest response.
pub const DIGEST_ENTRIES_MAX: usize = 1 << 12;

/// Largest packed key in a digest range, in bytes.
pub const DIGEST_KEY_BYTES_MAX: usize = 64 << 10;

/// Most names in one message.
pub const NAMES_MAX: usize = 1 << 12;

/// Longest name that may have a number, in bytes: a short frame can't grow by more than a few of these.
pub const NAME_BYTES_MAX: usize = 1 << 10;

/// Most that is kept of the names of one direction, in bytes.
pub const NAMES_BYTES_MAX: usize = 64 << 10;

/// Largest presence value, in bytes.
pub const PRESENCE_BYTES_MAX: usize = 4 << 10;

/// Longest life of a presence value, in milliseconds.
pub const PRESENCE_TTL_MAX_MS: u64 = 120_000;

/// Most presence values kept for a room.
pub const PRESENCE_ENTRIES_MAX: usize = 1 << 14;

/// Most presence values kept for one site.
pub const PRESENCE_PER_SITE_MAX: usize = 64;

/// Most credit a reader can have granted, in bytes; more is taken as this much.
pub const CREDIT_BYTES_MAX: u64 = 64 << 20;

/// What one endpoint is willing to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message accepted, in bytes.
    pub message_bytes: usize,
    /// Largest frame body accepted, in bytes. Larger transactions come in chunks of at most this.
    pub frame_bytes: usize,
    /// Largest transaction accepted, in bytes of bodies over all of its chunks.
    pub tx_bytes: u64,
    /// Bytes of pushes that may be unacknowledged, and of batches that may be unapplied.
    pub window_bytes: u64,
    /// Bodies gathered for one message, in bytes; one larger frame still goes out alone.
    pub batch_bytes: usize,
    /// Bytes staged for incomplete versions of one site.
    pub staged_bytes_per_site: u64,
    /// Incomplete versions of one site.
    pub partials_per_site: usize,
    /// Bytes staged over all sites.
    pub staged_bytes: u64,
    /// How long an incomplete version is kept after its last chunk, in milliseconds.
    pub stage_ttl_ms: u64,
    /// How far a site's version may lie beyond the greatest one held of it. Unbounded by default: only a relay,
    /// which sits between sites that do not trust each other, sets
    /// [`SITE_VERSION_STEP_MAX`](crsql_core::limits::SITE_VERSION_STEP_MAX).
    pub site_version_step: u64,
    /// How long the first message may take, in milliseconds.
    pub hello_ms: u64,
    /// Silence after which a ping is sent, in milliseconds.
    pub ping_ms: u64,
    /// Silence after which the connection counts as dead, in milliseconds.
    pub dead_ms: u64,
    /// How long a reader may go without granting credit while there is something to send, in milliseconds.
    pub credit_ms: u64,
    /// How long a push may go unanswered, in milliseconds.
    pub ack_ms: u64,
    /// Messages accepted per second, on average; five times as many in a burst. Beyond it the driver is told to
    /// read more slowly, see [`Session::read_after_ms`](crate::session::Session::read_after_ms).
    pub messages_per_second: u64,
    /// Bytes accepted per second, on average; five times as many in a burst. Beyond it as with messages.
    pub bytes_per_second: u64,
    /// Presence messages accepted per second; more are dropped without a word.
    pub presence_per_second: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes: 1 << 20,
            frame_bytes: 256 << 10,
            tx_bytes: 256 << 20,
            window_bytes: 1 << 20,
            batch_bytes: 256 << 10,
            staged_bytes_per_site: 64 << 20,
            partials_per_site: 8,
            staged_bytes: 512 << 20,
            stage_ttl_ms: 3_600_000,
            site_version_step: u64::MAX,
            hello_ms: 5_000,
            ping_ms: 20_000,
            dead_ms: 45_000,
            credit_ms: 60_000,
            ack_ms: 60_000,
            messages_per_second: 200,
            bytes_per_second: 2 << 20,
            presence_per_second: 20,
        }
    }
}

/// A token bucket: how much of something may happen per second, with bursts of five seconds' worth.
///
/// Time is passed in and may stand still or jump; going backwards counts as standing still.
#[derive(Clone, Debug)]
pub struct Rate {
    per_second: u64,
    /// In thousandths, so that a millisecond of a slow rate is not rounded away. Negative: owed.
    tokens: i64,
    at_ms: Option<u64>,
}

/// How many seconds' worth may come at once.
const BURST_SECONDS: u64 = 5;

impl Rate {
    /// A full bucket.
    pub fn new(per_second: u64) -> Rate {
        let mut rate = Rate { per_second, tokens: 0, at_ms: None };
        rate.tokens = rate.full();
        rate
    }

    fn full(&self) -> i64 {
        i64::try_from(self.per_second.saturating_mul(BURST_SECONDS * 1000)).unwrap_or(i64::MAX)
    }

    fn fill(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.at_ms.unwrap_or(now_ms));
        self.at_ms = Some(self.at_ms.unwrap_or(now_ms).max(now_ms));
        let earned = i64::try_from(elapsed.saturating_mul(self.per_second)).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(earned).min(self.full());
    }

    fn cost(&self, amount: u64) -> i64 {
        i64::try_from(amount.saturating_mul(1000)).unwrap_or(i64::MAX).min(self.full())
    }

    /// Takes `amount` if there is that much. An amount beyond a whole bucket passes when the bucket is full, or
    /// it could never pass.
    pub fn take(&mut self, now_ms: u64, amount: u64) -> bool {
        self.fill(now_ms);
        let cost = self.cost(amount);
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }

    /// Takes `amount`, if need be on credit, and says how many milliseconds to wait before taking more. None, and
    /// nothing is taken, once a whole bucket is owed: somebody did not wait.
    pub fn take_and_wait(&mut self, now_ms: u64, amount: u64) -> Option<u64> {
        self.fill(now_ms);
        if self.tokens <= -self.full() {
            return None;
        }
        self.tokens -= self.cost(amount);
        Some(u64::try_from(-self.tokens).unwrap_or(0).div_ceil(self.per_second.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_allows_a_burst_and_then_its_average() {
        let mut rate = Rate::new(10);
        assert_eq!((0..100).filter(|_| rate.take(0, 1)).count(), 50);
        assert!(!rate.take(99, 1));
        assert!(rate.take(100, 1) && !rate.take(100, 1));
        assert_eq!((0..1000).filter(|_| rate.take(1_000_000, 1)).count(), 50);
        // Time that goes backwards neither gives nor takes.
        assert!(!rate.take(5, 1));
        assert!(rate.take(1_000_100, 1));
        assert!(Rate::new(10).take(0, u64::MAX), "more than a burst passes a full bucket");
    }

    #[test]
    fn who_waits_as_told_keeps_to_the_average_and_who_does_not_is_refused() {
        let mut rate = Rate::new(10);
        let mut now_ms = 0;
        for _ in 0..1000 {
            now_ms += rate.take_and_wait(now_ms, 1).unwrap();
        }
        assert_eq!(now_ms, 95_000, "a burst of 50, then 10 a second");
        let mut rate = Rate::new(10);
        assert_eq!((0..1000).filter(|_| rate.take_and_wait(0, 1).is_some()).count(), 100);
        assert_eq!(Rate::new(10).take_and_wait(0, u64::MAX), Some(0));
        assert_eq!(Rate::new(0).take_and_wait(0, 1), None);
    }
}
