//! What everything in the relay shares.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::auth::Auth;
use crate::config::Settings;
use crate::journal::SharedJournal;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::room::check::Checker;

/// What everything in the relay shares.
pub struct Context {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The journals.
    pub journal: SharedJournal,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who may do what.
    pub auth: Auth,
    /// Threads that read journals.
    pub readers: Pool,
    /// Threads that write the rooms' databases, and read them.
    pub materialisers: Pool,
    /// Bytes of pushes that may wait for the journal.
    pub queue: Arc<Semaphore>,
    /// What may be pushed.
    pub checker: Checker,
    /// True once the relay is about to end.
    pub drain: watch::Sender<bool>,
    /// Handshakes that may go on at once.
    pub handshakes: Arc<Semaphore>,
    /// The number of the next connection; 0 is nobody's.
    pub next_id: AtomicU64,
    /// When the relay was started.
    pub started: Instant,
}

impl Context {
    /// Milliseconds since the start, for everything that measures time.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Milliseconds since 1970, for what others dated.
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
