//! `crsql-server sync`: keeps a database file in sync beside the application that uses it.
//!
//! | exit code | |
//! |---|---|
//! | 0 | told to stop, or with `--once` everything is in sync |
//! | 1 | the database or the address to listen on can't be used |
//! | 2 | the command line makes no sense |
//! | 3 | `--once`: not in sync within `--timeout`, or told to stop before |
//! | 4 | `--once`: somebody refused us, such as for a wrong token |

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use crsql_client::node::Event;
use crsql_client::sync::{Address, Client, Config, Listen, Phase, Status, Target};
use tokio::sync::broadcast::error::RecvError;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_IN_SYNC: u8 = 3;
const REFUSED: u8 = 4;

/// How long the last commits may take to be sent when told to stop.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What `crsql-server sync` takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// The database file; created if missing
    pub file: PathBuf,
    /// Relays: ws://host:port/room or wss://… Without a room, the file's name without its ending
    pub relays: Vec<String>,
    /// A peer to connect to, as an address like a relay's. May be given again
    #[arg(long = "peer", value_name = "URL")]
    pub peers: Vec<String>,
    /// Let peers connect here
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The room, where an address names none, and of those who connect
    #[arg(long)]
    pub room: Option<String>,
    /// What relays and peers are shown, and what those who connect must show. Better in a file or in $CRSQL_TOKEN
    #[arg(long, conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file with the token; read before every connection
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// With --listen: a file with the TLS certificates (PEM), so that peers connect by wss://
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "listen"])]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond this machine without a token
    #[arg(long)]
    pub insecure: bool,
    /// End when everything is in sync
    #[arg(long)]
    pub once: bool,
    /// With --once, the longest to try, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// Say only what is wrong
    #[arg(long, short)]
    pub quiet: bool,
}

/// Runs until it is told to stop.
pub fn main(flags: Flags) -> ExitCode {
    let config = match config(&flags) {
        Ok(config) => config,
        Err(error) => return failed(&error, USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string(), FAILED),
    };
    runtime.block_on(run(flags, config))
}

fn config(flags: &Flags) -> Result<Config, String> {
    let stem = flags.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let room = flags.room.clone().unwrap_or_else(|| stem.to_owned());
    if flags.relays.is_empty() && flags.peers.is_empty() && flags.listen.is_none() {
        return Err("nobody to sync with: name a relay, a --peer, or --listen for peers".into());
    }
    if flags.once && flags.relays.is_empty() && flags.peers.is_empty() {
        return Err("--once needs a relay or a --peer to be in sync with".into());
    }
    let token = token(flags)?;
    let mut targets = Vec::new();
    // Between several, this database passes on what it gets; a single relay has what it sent.
    let passes_on = flags.relays.len() + flags.peers.len() > 1 || flags.listen.is_some();
    for (url, is_peer) in
        flags.relays.iter().map(|url| (url, false)).chain(flags.peers.iter().map(|url| (url, true)))
    {
        let address = Address::parse(url, &room).map_err(|error| error.to_string())?;
        let target = Target { gossip: is_peer || passes_on, ..Target::new(address) };
        targets.push(match (&flags.token_file, &token) {
            (Some(file), _) => {
                let file = file.clone();
                target.with_token_callback(move || {
                    let file = file.clone();
                    Box::pin(async move { read_token(&file) })
                })
            }
            (None, Some(token)) => target.with_token(token.clone()),
            (None, None) => target,
        });
    }
    let listen = match flags.listen {
        Some(address) if !address.ip().is_loopback() && token.is_none() && !flags.insecure => {
            return Err(format!(
                "{address} can be reached from other machines: give a --token that peers must show, or --insecure"
            ));
        }
        Some(address) => {
            let tls = match (&flags.tls_cert, &flags.tls_key) {
                (Some(cert), Some(key)) => {
                    Some(crsql_client::sync::server_tls(cert, key).map_err(|error| error.to_string())?)
                }
                _ => None,
            };
            Some(Listen { token, tls, ..Listen::new(address, room) })
        }
        None => None,
    };
    Ok(Config { targets, listen, ..Config::default() })
}

fn token(flags: &Flags) -> Result<Option<String>, String> {
    if let Some(file) = &flags.token_file {
        return read_token(file).map(Some);
    }
    let from_environment = std::env::var("CRSQL_TOKEN").ok().filter(|token| !token.is_empty());
    Ok(flags.token.clone().or(from_environment))
}

fn read_token(file: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read the token file {}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}

async fn run(flags: Flags, config: Config) -> ExitCode {
    let mut stop = match Stop::new() {
        Ok(stop) => stop,
        Err(error) => return failed(&error.to_string(), FAILED),
    };
    let client = match Client::open(&flags.file, config).await {
        Ok(client) => client,
        Err(error) => return failed(&format!("{}: {error}", flags.file.display()), FAILED),
    };
    let mut line = Line::new(flags.quiet);
    if let Some(address) = client.address() {
        line.say(&format!("listening on {address}"));
    }
    let code = follow(&flags, &client, &mut stop, &mut line).await;
    // What was committed a moment ago should not wait for the next start.
    if client.status().links.iter().any(|link| matches!(link.phase, Phase::Live { .. })) {
        tokio::time::timeout(LAST_WORDS, client.flush()).await.ok();
    }
    line.show(&client.status());
    line.end();
    client.close().await;
    code
}

/// Shows how things stand until it is time to end.
async fn follow(flags: &Flags, client: &Client, stop: &mut Stop, line: &mut Line) -> ExitCode {
    let mut events = client.events();
    let mut status = client.watch_status();
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    let end = tokio::time::sleep(Duration::from_secs(flags.timeout));
    let synced = client.synced();
    tokio::pin!(end, synced);
    let mut is_new = true;
    loop {
        tokio::select! {
            done = &mut synced, if flags.once => {
                return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
            }
            () = &mut end, if flags.once => {
                line.warn(&format!("not in sync after {} s: {}", flags.timeout, client.status()));
                return ExitCode::from(NOT_IN_SYNC);
            }
            () = stop.wait() => {
                return if flags.once { ExitCode::from(NOT_IN_SYNC) } else { ExitCode::SUCCESS };
            }
            event = events.recv() => match event {
                Ok(event) => line.event(&event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return ExitCode::from(FAILED),
            },
            changed = status.changed() => match changed {
                Ok(()) => is_new = true,
                Err(_) => return failed("the sync thread has ended", FAILED),
            },
            _ = beat.tick(), if is_new => {
                is_new = false;
                let status = status.borrow_and_update().clone();
                line.show(&status);
                if flags.once && status.links.iter().any(|link| link.refused) {
                    line.warn(&status.to_string());
                    return ExitCode::from(REFUSED);
                }
            }
        }
    }
}

fn failed(error: &str, code: u8) -> ExitCode {
    eprintln!("crsql-server: {error}");
    ExitCode::from(code)
}

struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Stop> {
        use tokio::signal::unix::{SignalKind, signal};
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Stop { terminate, interrupt })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The status line on standard error: rewritten in place on a terminal, else a line whenever a phase changes.
struct Line {
    quiet: bool,
    is_terminal: bool,
    shown: String,
}

impl Line {
    fn new(quiet: bool) -> Line {
        Line { quiet, is_terminal: std::io::stderr().is_terminal(), shown: String::new() }
    }

    fn show(&mut self, status: &Status) {
        if self.quiet {
            return;
        }
        if self.is_terminal {
            let text = status.to_string();
            eprint!("\r\x1b[K{text}");
            std::io::stderr().flush().ok();
            self.shown = text;
            return;
        }
        // Counters change all the time; for a log file only their phases matter.
        let phases: Vec<_> = status.links.iter().map(|link| std::mem::discriminant(&link.phase)).collect();
        let faults: Vec<_> = status.links.iter().map(|link| &link.fault).collect();
        let kind = format!("{phases:?} {faults:?} {:?} {}", status.error, status.is_synced());
        if kind != self.shown {
            eprintln!("{status}");
            self.shown = kind;
        }
    }

    fn say(&mut self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    fn warn(&mut self, text: &str) {
        if self.is_terminal && !self.shown.is_empty() {
            eprint!("\r\x1b[K");
        }
        eprintln!("{text}");
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::NewSite { old, new } => self.warn(&format!(
                "this file was a copy of one that is in use: it was site {old} and is site {new} now; nothing is lost"
            )),
            Event::Recovering { lost, .. } => {
                let count: u64 = lost.ranges().map(|(_, lo, hi)| hi - lo + 1).sum();
                self.warn(&format!("this file is older than what others have of it: {count} transactions come back"));
            }
            Event::SetAside { reason, .. } => self.warn(reason),
            Event::Rejected { rejected, .. } => self.warn(&format!(
                "version {} of site {} was refused: {}",
                rejected.site_version, rejected.site, rejected.code
            )),
            Event::Warning { fault, .. } => self.warn(&fault.to_string()),
            Event::Compared { differing, .. } if !differing.is_empty() => {
                self.warn(&format!("{} ranges differed and were put right", differing.len()));
            }
            _ => {}
        }
    }

    fn end(&mut self) {
        if self.is_terminal && !self.shown.is_empty() {
            eprintln!();
        }
    }
}
