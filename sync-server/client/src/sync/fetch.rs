//! Fetches the snapshot that a relay offers, into a file beside the database, and goes on where an attempt broke off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use crsql_protocol::message::{Cursor, Snapshot};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, RANGE};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::engine::Command;
use super::tls;

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often one snapshot is asked for before the relay is asked what it has now.
const ATTEMPTS: usize = 4;

/// How many bytes come between two looks at the status.
const STATUS_BYTES: u64 = 4 << 20;

/// One snapshot to fetch.
pub struct Fetch<'a> {
    /// For whom.
    pub target: usize,
    /// The address of the WebSocket that it was offered on.
    pub url: &'a str,
    /// The database.
    pub path: &'a Path,
    /// What is offered.
    pub snapshot: &'a Snapshot,
    /// The epoch of its position.
    pub epoch: u64,
}

impl Fetch<'_> {
    /// Fetches it and has it taken over. An error is worth telling; connecting again is safe after any.
    pub async fn run(&self, token: Option<String>, commands: &mpsc::Sender<Command>) -> Result<(), String> {
        let file = self.file();
        self.forget_others(&file);
        let (mut attempt, mut hasher) = (0, blake3::Hasher::new());
        while let Err(error) = self.load(&file, token.as_deref(), commands, &mut hasher).await {
            attempt += 1;
            if attempt == ATTEMPTS || error.is_final {
                std::fs::remove_file(&file).ok();
                return Err(format!("the snapshot: {}", error.text));
            }
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
        }
        if hasher.finalize().as_bytes()[..16] != self.snapshot.checksum.0 {
            std::fs::remove_file(&file).ok();
            return Err("the snapshot came damaged".into());
        }
        let (answer, adopted) = oneshot::channel();
        let cursor = Cursor { epoch: self.epoch, pos: self.snapshot.pos };
        let command = Command::Adopt { target: self.target, file: file.clone(), cursor, answer };
        commands.send(command).await.map_err(|_| "the sync client is closed".to_owned())?;
        adopted.await.ok();
        std::fs::remove_file(&file).ok();
        Ok(())
    }

    /// Where it goes: its name says which snapshot it is a part of.
    fn file(&self) -> PathBuf {
        let sum: String = self.snapshot.checksum.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.beside(&format!("{}{sum}", self.prefix()))
    }

    fn prefix(&self) -> String {
        format!("{}-snapshot-", self.path.file_name().unwrap_or_default().to_string_lossy())
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Removes what earlier attempts left of other snapshots.
    fn forget_others(&self, file: &Path) {
        let directory = self.beside(".");
        let Ok(entries) = std::fs::read_dir(&directory) else { return };
        for entry in entries.flatten() {
            let is_ours = entry.file_name().to_string_lossy().starts_with(&self.prefix());
            if is_ours && Some(entry.file_name().as_os_str()) != file.file_name() {
                std::fs::remove_file(entry.path()).ok();
            }
        }
    }

    /// Loads what is lacking of the file. `hasher` has seen all of it then.
    async fn load(
        &self,
        path: &Path,
        token: Option<&str>,
        commands: &mpsc::Sender<Command>,
        hasher: &mut blake3::Hasher,
    ) -> Result<(), Failed> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut done = file.metadata()?.len();
        let total = self.snapshot.bytes;
        if done > total {
            file.set_len(0)?;
            done = 0;
        }
        // Each attempt looks at what the last ones left as it is on disk.
        hasher.reset();
        if done > 0 {
            let read = file.try_clone()?;
            *hasher = tokio::task::spawn_blocking(move || digest(read)).await??;
        }
        if done == total {
            return Ok(());
        }
        let response = tokio::time::timeout(PATIENCE, self.ask(token, done)).await.map_err(|_| late())??;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => {
                file.set_len(0)?;
                hasher.reset();
                done = 0;
            }
            status => return Err(Failed { text: status.to_string(), is_final: status.is_client_error() }),
        }
        let mut body = response.into_body();
        let mut told = done;
        while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(|_| late())? {
            let Ok(piece) = frame?.into_data() else { continue };
            done += piece.len() as u64;
            if done > total {
                return Err(Failed { text: "it is longer than was said".into(), is_final: true });
            }
            file.write_all(&piece)?;
            hasher.update(&piece);
            if done - told >= STATUS_BYTES {
                told = done;
                commands.try_send(Command::Fetching { target: self.target, done, total }).ok();
            }
        }
        match done == total {
            true => Ok(()),
            false => Err(Failed { text: format!("{done} of {total} bytes came"), is_final: false }),
        }
    }

    async fn ask(&self, token: Option<&str>, from: u64) -> Result<Response<Incoming>, Failed> {
        let uri: Uri = self.url.parse()?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_tls = uri.scheme_str() == Some("wss");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true).ok();
        // Whatever the relay says, it is asked of the relay that we chose to talk to.
        if !self.snapshot.url.starts_with('/') {
            return Err(Failed { text: "its address is not a path of this relay".into(), is_final: true });
        }
        let mut request = Request::get(&self.snapshot.url)
            .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(RANGE, format!("bytes={from}-"));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new())?;
        if !is_tls {
            return send(stream, request).await;
        }
        let config = tls::client().map_err(|error| Failed { text: error.to_string(), is_final: true })?;
        let name =
            ServerName::try_from(host).map_err(|error| Failed { text: error.to_string(), is_final: true })?;
        send(tokio_rustls::TlsConnector::from(config).connect(name, stream).await?, request).await
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, Failed> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// What is in a file.
fn digest(mut file: File) -> std::io::Result<blake3::Hasher> {
    let (mut hasher, mut piece) = (blake3::Hasher::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher),
            read => drop(hasher.update(&piece[..read])),
        }
    }
}

/// Why an attempt ended.
struct Failed {
    text: String,
    /// Trying again will not help.
    is_final: bool,
}

fn late() -> Failed {
    Failed { text: "nothing came for too long".into(), is_final: false }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed { text: error.to_string(), is_final: false }
    }
}
