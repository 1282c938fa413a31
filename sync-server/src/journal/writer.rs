//! The thread that writes a journal: whatever waits goes into one transaction, and one fsync serves all of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, params};

use super::local::Listeners;
use super::rows::{claim_body, versions_of};
use super::trim::trim;
use super::{Append, Appended, Holding, Item, JournalError, RoomKey, Trimmed};
use crate::metrics::Metrics;

/// Appends in one transaction, at most.
const GROUP: usize = 1024;

/// Bytes after which a transaction is closed.
const GROUP_BYTES: u64 = 8 << 20;

type Reply<T> = Sender<Result<T, JournalError>>;

enum Job {
    Append(Append),
    Create { room: String, epoch: u64, tie_break: u8, reply: Reply<()> },
    Trim { room: RoomKey, upto: u64, keep_bytes: u64, reply: Reply<Trimmed> },
    Restore { room: RoomKey, epoch: u64, holdings: Vec<Holding>, reply: Reply<u64> },
    Restart { room: RoomKey, epoch: u64, holdings: Vec<Holding>, reply: Reply<()> },
}

/// A journal's writer.
pub(super) struct Writer {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// In a simulation there is no thread; whoever waits for an answer does the work himself.
    #[cfg(test)]
    simulated: Option<Simulated>,
}

#[cfg(test)]
struct Simulated {
    work: Arc<Mutex<Work>>,
    appends: tokio::sync::mpsc::UnboundedSender<Append>,
}

impl Writer {
    pub fn start(
        connection: Connection,
        journal: usize,
        listeners: Arc<Listeners>,
        broken: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
    ) -> Writer {
        let (sender, jobs) = channel();
        connection.set_prepared_statement_cache_capacity(32);
        let work = Work { connection, journal, listeners, broken, metrics, heads: HashMap::new() };
        #[cfg(test)]
        if let Some(life) = crate::sim::Life::current() {
            return Writer::simulated(work, life);
        }
        let thread = std::thread::Builder::new().name(format!("journal-{journal}"));
        let thread = thread.spawn(move || work.run(&jobs)).expect("a thread can be started");
        Writer {
            jobs: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            #[cfg(test)]
            simulated: None,
        }
    }

    /// Commits what waits, in groups, a while later, as long as the relay is alive.
    #[cfg(test)]
    fn simulated(work: Work, life: crate::sim::Life) -> Writer {
        let (appends, mut waiting) = tokio::sync::mpsc::unbounded_channel::<Append>();
        let work = Arc::new(Mutex::new(work));
        let shared = work.clone();
        tokio::spawn(async move {
            while let Some(first) = waiting.recv().await {
                life.pause().await;
                if life.is_over() {
                    return;
                }
                let mut group = vec![first];
                while let Ok(next) = waiting.try_recv() {
                    group.push(next);
                }
                shared.lock().unwrap().appends(group);
            }
        });
        let simulated = Some(Simulated { work, appends });
        Writer { jobs: Mutex::default(), thread: Mutex::default(), simulated }
    }

    pub fn append(&self, append: Append) {
        if let Some(Job::Append(append)) = self.send(Job::Append(append)) {
            (append.done)(Err(JournalError::Closed));
        }
    }

    pub fn create(&self, room: &str, epoch: u64, tie_break: u8) -> Result<(), JournalError> {
        self.ask(|reply| Job::Create { room: room.into(), epoch, tie_break, reply })
    }

    pub fn trim(&self, room: RoomKey, upto: u64, keep_bytes: u64) -> Result<Trimmed, JournalError> {
        self.ask(|reply| Job::Trim { room, upto, keep_bytes, reply })
    }

    pub fn restart(&self, room: RoomKey, epoch: u64, holdings: Vec<Holding>) -> Result<(), JournalError> {
        self.ask(|reply| Job::Restart { room, epoch, holdings, reply })
    }

    pub fn restore(&self, room: RoomKey, epoch: u64, holdings: Vec<Holding>) -> Result<u64, JournalError> {
        self.ask(|reply| Job::Restore { room, epoch, holdings, reply })
    }

    /// Writes what waits and ends the thread.
    pub fn close(&self) {
        self.jobs.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take() {
            thread.join().ok();
        }
    }

    fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, JournalError> {
        let (reply, answer) = channel();
        self.send(job(reply));
        answer.recv().unwrap_or(Err(JournalError::Closed))
    }

    /// Gives the job back if there is nobody to do it.
    fn send(&self, job: Job) -> Option<Job> {
        #[cfg(test)]
        if let Some(Simulated { work, appends }) = &self.simulated {
            match job {
                Job::Append(append) => drop(appends.send(append)),
                job => work.lock().unwrap().other(job),
            }
            return None;
        }
        match &*self.jobs.lock().unwrap_or_else(|e| e.into_inner()) {
            Some(jobs) => jobs.send(job).err().map(|error| error.0),
            None => Some(job),
        }
    }
}

struct Work {
    connection: Connection,
    journal: usize,
    listeners: Arc<Listeners>,
    broken: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// The last positions of rooms written to, to notice an append behind one that failed.
    heads: HashMap<i64, u64>,
}

impl Work {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let (mut group, mut other, mut bytes) = (Vec::new(), None, 0);
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Append(append) => {
                        bytes += append.items.iter().map(|(item, _)| item.wire_bytes()).sum::<u64>();
                        group.push(append);
                    }
                    job => {
                        other = Some(job);
                        break;
                    }
                }
                if group.len() >= GROUP || bytes >= GROUP_BYTES {
                    break;
                }
                next = jobs.try_recv().ok();
            }
            self.appends(group);
            if let Some(job) = other {
                self.other(job);
            }
        }
        self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").ok();
    }

    fn other(&mut self, job: Job) {
        match job {
            Job::Create { room, epoch, tie_break, reply } => {
                let done = self.guarded(|work| {
                    work.connection.execute(
                        "INSERT INTO room (name, epoch, tie_break) VALUES (?1, ?2, ?3)
                             ON CONFLICT DO NOTHING",
                        params![room, epoch as i64, tie_break],
                    )
                });
                reply.send(done.map(drop)).ok();
            }
            Job::Trim { room, upto, keep_bytes, reply } => {
                let done = self.guarded(|work| trim(&work.connection, room.id, upto, keep_bytes));
                reply.send(done).ok();
            }
            Job::Restore { room, epoch, holdings, reply } => {
                let done = self.guarded(|work| restore(&work.connection, room.id, epoch, &holdings));
                reply.send(done).ok();
            }
            Job::Restart { room, epoch, holdings, reply } => {
                let done = self.guarded(|work| restart(&work.connection, room.id, epoch, &holdings));
                reply.send(done).ok();
            }
            Job::Append(append) => self.appends(vec![append]),
        }
    }

    fn appends(&mut self, group: Vec<Append>) {
        if group.is_empty() {
            return;
        }
        let empty = group
            .iter()
            .all(|append| append.items.is_empty() && append.holdings.is_empty() && append.settled.is_empty());
        let (mut good, mut stale) = (Vec::new(), Vec::new());
        let began = Instant::now();
        let written = if empty {
            // A barrier: everything before it is durable already.
            good = group;
            Ok(())
        } else {
            let mut waiting = Some(group);
            self.guarded(|work| {
                let tx = work.connection.unchecked_transaction()?;
                for append in waiting.take().into_iter().flatten() {
                    if is_next(&tx, &mut work.heads, &append)? {
                        good.push(append);
                        write(&tx, good.last().expect("it was just pushed"))?;
                    } else {
                        stale.push(append);
                    }
                }
                for (room, (head, bytes)) in advanced(&good) {
                    tx.prepare_cached("UPDATE room SET head = ?2, bytes = bytes + ?3 WHERE id = ?1")?
                        .execute(params![room, head as i64, bytes as i64])?;
                }
                tx.commit()
            })
        };
        let journal = self.journal;
        stale.into_iter().for_each(|append| (append.done)(Err(JournalError::Gap(journal))));
        match written {
            Ok(()) => {
                if !empty {
                    self.metrics.commit(began.elapsed(), good.len());
                }
                good.into_iter().for_each(|append| self.told(append));
            }
            Err(error) => {
                tracing::error!(journal, %error, "appends failed");
                for append in good {
                    self.heads.remove(&append.room.id);
                    (append.done)(Err(error.clone()));
                }
            }
        }
    }

    fn told(&self, append: Append) {
        let Append { room, after, items, origin, done, .. } = append;
        if !items.is_empty() {
            let listener = self
                .listeners
                .read()
                .unwrap_or_else(|e| e.into_inner())
                .get(&room.id)
                .and_then(|l| l.upgrade());
            if let Some(listener) = listener {
                listener.appended(Appended { after, upto: after + items.len() as u64, origin, items });
            }
        }
        done(Ok(()));
    }

    /// Runs one transaction. After a failure of the disk nobody knows what is on it, so then nothing is taken any more.
    fn guarded<T>(&mut self, body: impl FnOnce(&mut Work) -> rusqlite::Result<T>) -> Result<T, JournalError> {
        let journal = self.journal;
        if self.broken.load(Ordering::Relaxed) {
            let text = "it failed before; start the relay again once the disk is sound".into();
            return Err(JournalError::Sqlite { journal, text, broken: true });
        }
        body(self).map_err(|error| {
            let code = error.sqlite_error_code();
            let broken = !matches!(code, Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy));
            self.broken.store(broken, Ordering::Relaxed);
            self.heads.clear();
            JournalError::Sqlite { journal, text: error.to_string(), broken }
        })
    }
}

/// Whether an append goes on where its room ends.
fn is_next(
    connection: &Connection,
    heads: &mut HashMap<i64, u64>,
    append: &Append,
) -> rusqlite::Result<bool> {
    let room = append.room.id;
    let head = match heads.get(&room) {
        Some(head) => *head,
        None => connection
            .query_row("SELECT head FROM room WHERE id = ?1", [room], |row| row.get::<_, i64>(0))?
            as u64,
    };
    let next = append.after == head;
    heads.insert(room, if next { head + append.items.len() as u64 } else { head });
    Ok(next)
}

/// Per room, its new head and the bytes it grew by.
fn advanced(appends: &[Append]) -> HashMap<i64, (u64, u64)> {
    let mut rooms = HashMap::new();
    for append in appends.iter().filter(|append| !append.items.is_empty()) {
        let (head, bytes) = rooms.entry(append.room.id).or_insert((0, 0));
        *head = append.after + append.items.len() as u64;
        *bytes += append.items.iter().map(|(item, _)| item.wire_bytes()).sum::<u64>();
    }
    rooms
}

fn write(connection: &Connection, append: &Append) -> rusqlite::Result<()> {
    let room = append.room.id;
    let mut first = append.after + 1;
    for (pos, (item, more)) in (append.after + 1..).zip(&append.items) {
        match item {
            Item::Frame(frame) => {
                connection
                    .prepare_cached(
                        "INSERT INTO entry VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                    )?
                    .execute(params![
                        room,
                        pos as i64,
                        more,
                        frame.site.as_bytes(),
                        frame.site_version as i64,
                        frame.seq_lo as i64,
                        frame.seq_hi as i64,
                        frame.last_seq as i64,
                        frame.chain.0,
                        frame.codec,
                        frame.body.0,
                    ])?;
                if !frame.is_delta() && !frame.is_whole() {
                    connection.prepare_cached("INSERT INTO partial VALUES (?1, ?2, ?3, ?4)")?.execute(
                        params![room, frame.site.as_bytes(), frame.site_version as i64, pos as i64],
                    )?;
                }
            }
            Item::Claim(claim) => {
                connection
                    .prepare_cached("INSERT INTO entry (room, pos, more, body) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![room, pos as i64, more, claim_body(claim)])?;
                for (site, lo, hi) in claim.versions.ranges() {
                    connection
                        .prepare_cached("INSERT OR REPLACE INTO claim VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                        .execute(params![
                            room,
                            site.as_bytes(),
                            hi as i64,
                            lo as i64,
                            first as i64,
                            pos as i64
                        ])?;
                }
                for at in &claim.chains {
                    connection
                        .prepare_cached("INSERT OR REPLACE INTO chain VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![room, at.site.as_bytes(), at.version as i64, at.chain.0])?;
                }
            }
        }
        if !more {
            first = pos + 1;
        }
    }
    append.holdings.iter().try_for_each(|holding| write_holding(connection, room, holding))?;
    for (site, version) in &append.settled {
        connection
            .prepare_cached("DELETE FROM partial WHERE room = ?1 AND site = ?2 AND version = ?3")?
            .execute(params![room, site.as_bytes(), *version as i64])?;
    }
    Ok(())
}

fn restart(connection: &Connection, room: i64, epoch: u64, holdings: &[Holding]) -> rusqlite::Result<()> {
    let tx = connection.unchecked_transaction()?;
    begin_anew(&tx, room, epoch, holdings)?;
    tx.commit()
}

fn restore(connection: &Connection, room: i64, epoch: u64, holdings: &[Holding]) -> rusqlite::Result<u64> {
    let tx = connection.unchecked_transaction()?;
    for table in ["entry", "claim", "chain", "partial"] {
        tx.execute(&format!("DELETE FROM {table} WHERE room = ?1"), [room])?;
    }
    begin_anew(&tx, room, epoch, holdings)?;
    // Nothing is before the first position: what is held lies behind the floor, in the database.
    tx.execute("UPDATE room SET head = max(head, 1), floor = max(head, 1), bytes = 0 WHERE id = ?1", [room])?;
    let head: i64 = tx.query_row("SELECT head FROM room WHERE id = ?1", [room], |row| row.get(0))?;
    tx.commit()?;
    Ok(head as u64)
}

fn begin_anew(connection: &Connection, room: i64, epoch: u64, holdings: &[Holding]) -> rusqlite::Result<()> {
    connection.execute("UPDATE room SET epoch = ?2 WHERE id = ?1", params![room, epoch as i64])?;
    connection.execute("DELETE FROM holding WHERE room = ?1", [room])?;
    holdings.iter().try_for_each(|holding| write_holding(connection, room, holding))
}

fn write_holding(connection: &Connection, room: i64, holding: &Holding) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO holding VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            room,
            holding.site.as_bytes(),
            versions_of(holding),
            holding.head.version as i64,
            holding.head.chain.0,
            holding.owner,
        ])
        .map(drop)
}
