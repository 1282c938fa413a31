//! `crsql-server backup` and `restore`: a room as one SQLite file, and back.
//!
//! A backup is the relay's own snapshot, fetched while the relay runs. Restoring puts it in the place of the room while
//! the relay is stopped, under a new epoch: clients notice, compare what both hold, and bring back what was written
//! after the backup was made.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use crsql_core::version_vector::RangeSet;
use crsql_protocol::message::Head;
use crsql_protocol::wire::Chain;
use rusqlite::{Connection, OptionalExtension, params};

use crate::journal::{Holding, Journal, Local};
use crate::metrics::Metrics;
use crate::{serve, store};

type Done<T> = Result<T, Box<dyn std::error::Error>>;

/// What `crsql-server backup` takes.
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// The relay, such as http://127.0.0.1:8787
    pub relay: String,
    /// The room
    pub room: String,
    /// The file to write; replaced if it exists
    pub file: PathBuf,
    /// A file with a token that may read the room
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// What `crsql-server restore` takes.
#[derive(Args, Clone, Debug)]
pub struct Restore {
    /// The backup
    pub file: PathBuf,
    /// The room; made if there is none
    pub room: String,
    /// The directory of the relay, which must not be running
    #[arg(long, default_value = "data")]
    pub data: PathBuf,
}

/// Fetches a backup.
pub fn backup(flags: &Backup) -> ExitCode {
    ended(fetch(flags), |bytes| format!("{}: {bytes} bytes of room {:?}", flags.file.display(), flags.room))
}

/// Puts a backup in place.
pub fn restore(flags: &Restore) -> ExitCode {
    ended(put_back(flags), |versions| format!("room {:?} has {versions} transactions again", flags.room))
}

fn ended<T>(done: Done<T>, told: impl FnOnce(T) -> String) -> ExitCode {
    match done {
        Ok(value) => {
            println!("{}", told(value));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crsql-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(flags: &Backup) -> Done<u64> {
    let Backup { relay, room, file, token_file } = flags;
    let room = crate::room::escaped(room);
    let mut request = ureq::get(format!("{}/v1/rooms/{room}/snapshot", relay.trim_end_matches('/')));
    if let Some(path) = token_file {
        let token = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        request = request.header("authorization", format!("Bearer {}", token.trim()));
    }
    let mut answer = request.config().http_status_as_error(false).build().call()?;
    if answer.status().as_u16() != 200 {
        let status = answer.status();
        return Err(format!("the relay says {status}: {}", answer.body_mut().read_to_string()?.trim()).into());
    }
    let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
    let sum = tag.trim_matches('"').rsplit('.').next().unwrap_or_default().to_owned();
    let part = PathBuf::from(format!("{}.part", file.display()));
    let copied = copy(answer.body_mut().as_reader(), &part, &sum);
    let bytes = copied.inspect_err(|_| drop(std::fs::remove_file(&part)))?;
    std::fs::rename(&part, file)?;
    Ok(bytes)
}

/// Copies to a file, durably, and compares what came with the first bytes of its hash.
fn copy(mut from: impl Read, to: &Path, sum: &str) -> Done<u64> {
    let (mut file, mut hasher) = (std::fs::File::create(to)?, blake3::Hasher::new());
    let (mut piece, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            break;
        }
        file.write_all(&piece[..read])?;
        hasher.update(&piece[..read]);
        bytes += read as u64;
    }
    file.sync_all()?;
    if sum.len() != 32 || !hasher.finalize().to_hex().starts_with(sum) {
        return Err("the backup came damaged: try again".into());
    }
    Ok(bytes)
}

fn put_back(flags: &Restore) -> Done<u64> {
    let Restore { file, room, data } = flags;
    if !file.is_file() {
        return Err(format!("there is no file {}", file.display()).into());
    }
    std::fs::create_dir_all(data)?;
    let _lock = serve::lock(data)?;
    let target = store::path_of(data, room);
    let fresh = target.with_extension("restored");
    std::fs::create_dir_all(target.parent().ok_or("a path without a directory")?)?;
    std::fs::copy(file, &fresh)?;
    let restored = replace(data, room, &fresh, &target);
    restored.inspect_err(|_| drop(std::fs::remove_file(&fresh)))
}

fn replace(data: &Path, room: &str, fresh: &Path, target: &Path) -> Done<u64> {
    let copy = Connection::open(fresh)?;
    crsql::register(&copy).map_err(|error| error.to_string())?;
    let refused = |error: rusqlite::Error| format!("the backup is damaged: {error}");
    if !copy.table_exists(Some("main"), "__crsql_snapshot_chain").map_err(refused)? {
        return Err("the backup is no room of a relay: make one with crsql-server backup".into());
    }
    let held = store::vector(&copy).map_err(|error| error.to_string())?;
    let tie_break: String =
        copy.query_row("SELECT crsql_config_get('tie-break')", [], |row| row.get(0)).map_err(refused)?;
    let journal = Local::open(data, 1, false, Arc::new(Metrics::default()))?;
    let tie_break = u8::from(tie_break == "value");
    let opened = journal.open(room, Some(tie_break))?.ok_or("the room cannot be made")?;
    if opened.tie_break != tie_break {
        return Err("the room decides ties differently: restore under another name".into());
    }
    let mut holdings = Vec::new();
    for (site, versions) in held.iter() {
        let version = versions.max().unwrap_or(0);
        let known = opened.holdings.iter().find(|holding| holding.site == *site);
        let owner = known.and_then(|holding| holding.owner.clone());
        let chain = chain(&copy, &site.0, version).map_err(refused)?;
        let head = chain.map_or(Head::default(), |chain| Head { version, chain });
        let versions: RangeSet = versions.iter().collect();
        holdings.push(Holding { site: *site, versions, head, owner });
    }
    let count = held.ranges().map(|(_, lo, hi)| hi - lo + 1).sum();
    let at = journal.restore(opened.key, holdings)?;
    store::follows(&copy, at)?;
    copy.execute_batch("DROP TABLE __crsql_snapshot_chain; PRAGMA journal_mode = delete")?;
    copy.close().map_err(|(_, error)| error)?;
    // What the old database had not written back yet must not be taken for the new one's.
    for ending in ["db-wal", "db-shm"] {
        std::fs::remove_file(target.with_extension(ending)).ok();
    }
    std::fs::File::open(fresh)?.sync_all()?;
    std::fs::rename(fresh, target)?;
    journal.close();
    Ok(count)
}

fn chain(copy: &Connection, site: &[u8; 16], version: u64) -> rusqlite::Result<Option<Chain>> {
    copy.prepare_cached("SELECT chain FROM __crsql_snapshot_chain WHERE site = ?1 AND version = ?2")?
        .query_row(params![site, version as i64], |row| row.get(0).map(Chain))
        .optional()
}
