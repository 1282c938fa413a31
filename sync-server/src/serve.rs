//! `crsql-server serve`: the relay.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::auth::Auth;
use crate::config::{Flags, Settings};
use crate::context::Context;
use crate::journal::Local;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::room::Rooms;
use crate::room::check::Checker;
use crate::{http, listener, log, tls};

/// How often rooms that nobody uses are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// A relay that runs.
pub struct Relay {
    address: SocketAddr,
    context: Arc<Context>,
    listening: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    /// Held as long as this relay has the data; the system lets it go with the process.
    _lock: std::fs::File,
}

/// Runs until it is told to stop.
pub fn main(flags: &Flags) -> ExitCode {
    let settings = match Settings::load(flags) {
        Ok(settings) => settings,
        Err(error) => return failed(&error, 2),
    };
    if let Err(error) = log::start(&settings) {
        return failed(&error, 2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error, 1),
    };
    runtime.block_on(async {
        let relay = match Relay::start(settings).await {
            Ok(relay) => relay,
            Err(error) => return failed(&error, 1),
        };
        // Without a way to hear it, the default of the signal ends the process at once, which is safe too.
        stop_signal().await;
        relay.stop().await;
        ExitCode::SUCCESS
    })
}

fn failed(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("crsql-server: {error}");
    ExitCode::from(code)
}

/// Two relays on the same data would give away the same positions for different things.
pub(crate) fn lock(data: &std::path::Path) -> Result<std::fs::File, String> {
    let path = data.join("lock");
    let told = |error: &dyn std::fmt::Display| format!("cannot lock {}: {error}", path.display());
    let file = std::fs::File::create(&path).map_err(|error| told(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(format!(
            "another relay uses the data directory {}: stop it, or choose another",
            data.display()
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(told(&error)),
    }
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Relay {
    /// Opens the data and begins to listen.
    pub async fn start(settings: Settings) -> Result<Relay, String> {
        let data = &settings.data;
        std::fs::create_dir_all(data)
            .map_err(|error| format!("cannot make the data directory {}: {error}", data.display()))?;
        let lock = lock(data)?;
        // What an earlier run could not remove.
        std::fs::remove_dir_all(data.join("snapshots")).ok();
        let metrics = Arc::new(Metrics::default());
        let journal = Local::open(data, settings.journals, settings.new_epoch, metrics.clone())
            .map_err(|error| error.to_string())?;
        let auth = Auth::new(&settings)?;
        let tls = tls::acceptor(&settings)?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", settings.listen))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        if !auth.is_on() && !address.ip().is_loopback() {
            tracing::warn!(%address, "everybody who reaches this address may read and write everything");
        }
        let context = Arc::new(Context {
            readers: Pool::start("reader", settings.readers),
            materialisers: Pool::start("materialiser", settings.materialisers),
            queue: Arc::new(Semaphore::new(settings.journal_queue.bytes().min(Semaphore::MAX_PERMITS))),
            checker: Checker::new(&settings),
            drain: watch::Sender::new(false),
            handshakes: Arc::new(Semaphore::new(settings.handshakes)),
            next_id: AtomicU64::new(1),
            started: tokio::time::Instant::now(),
            journal: Arc::new(journal),
            metrics,
            auth,
            settings: Arc::new(settings),
        });
        let rooms = Arc::new(Rooms::new(context.clone()));
        let listening =
            tokio::spawn(listener::run(listener, http::router(rooms.clone()), tls, context.clone()));
        let sweeping = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                rooms.sweep();
            }
        });
        tracing::info!(%address, "listening");
        Ok(Relay { address, context, listening, sweeping, _lock: lock })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has counted.
    pub fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// Lets everybody go, acknowledges what was taken, and closes the journals.
    pub async fn stop(self) {
        tracing::info!("shutting down");
        let deadline = Instant::now() + self.context.settings.drain_timeout.duration();
        self.context.drain.send_replace(true);
        self.listening.await.ok();
        while self.context.metrics.connections.get() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.sweeping.abort();
        let journal = self.context.journal.clone();
        tokio::task::spawn_blocking(move || journal.close()).await.ok();
        tracing::info!("stopped");
    }
}
