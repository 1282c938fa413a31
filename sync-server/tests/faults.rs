//! Five databases, two relays and a pair of peers as real processes, over a bad network, killed all the time.
//!
//! `CRSQL_KILLS=200 cargo test -p crsql-server --test faults` for the long form; `CRSQL_SEED` repeats the dice.

#[path = "../client/tests/app/mod.rs"]
mod app;
#[path = "support/history.rs"]
mod history;
#[path = "support/proxy.rs"]
mod proxy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use history::{History, Seen, Write};
use proxy::{Weather, proxy};
use rusqlite::Connection;

const REPLICAS: usize = 5;

const PAIRS: u64 = 12;

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE list (writer INT NOT NULL, number INT NOT NULL, PRIMARY KEY (writer, number)) WITHOUT ROWID;
CREATE TABLE lefts (pair INTEGER PRIMARY KEY NOT NULL, value TEXT);
CREATE TABLE rights (pair INTEGER PRIMARY KEY NOT NULL, value TEXT);
SELECT crsql_as_crr('list');
SELECT crsql_as_crr('lefts');
SELECT crsql_as_crr('rights');";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn open(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    crsql::register(&conn).unwrap();
    conn.busy_timeout(Duration::from_secs(60)).unwrap();
    conn.pragma_update(None, "synchronous", "OFF").unwrap();
    conn
}

/// A process that is started again whenever it was killed.
struct Process {
    arguments: Vec<String>,
    child: Child,
}

impl Process {
    fn start(arguments: Vec<String>) -> Process {
        let child = Process::spawn(&arguments);
        Process { arguments, child }
    }

    fn spawn(arguments: &[String]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crsql-server"));
        let log = std::env::var_os("CRSQL_FAULT_LOG").map(PathBuf::from).map(|directory| {
            let name = arguments[1..3].join("_").replace('/', "_");
            let file = std::fs::File::options().create(true).append(true).open(directory.join(name));
            file.map(Stdio::from).unwrap()
        });
        command.args(arguments).stderr(log.unwrap_or_else(Stdio::null)).stdout(Stdio::null()).spawn().unwrap()
    }

    fn kill_and_start_again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Process::spawn(&self.arguments);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn relay(data: &Path, listen: SocketAddr) -> Process {
    let arguments = [
        "serve",
        "--listen",
        &listen.to_string(),
        "--data",
        &data.display().to_string(),
        "--messages-per-second=1000000",
        "--bytes-per-second=1GiB",
        // So little that everything is trimmed and served from the rooms' databases again and again.
        "--journal-keep=16KiB",
    ];
    Process::start(arguments.map(str::to_owned).to_vec())
}

fn sidecar(file: &Path, arguments: &[String]) -> Process {
    let mut all = vec!["sync".to_owned(), file.display().to_string(), "--room=demo".into(), "--quiet".into()];
    all.extend_from_slice(arguments);
    Process::start(all)
}

/// Commits one transaction after another, and says so.
fn write(
    writer: usize,
    path: PathBuf,
    history: Arc<Mutex<History>>,
    stop: Arc<AtomicBool>,
    weather: Arc<Weather>,
) {
    let conn = open(&path);
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let write = Write { writer, number, pair: weather.roll(PAIRS) };
        // Now and then one so large that it travels in chunks.
        let ballast = if weather.roll(40) == 0 { 30_000 } else { 10 };
        let (pair, value) = (write.pair, write.value());
        let done = conn.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             INSERT INTO list VALUES ({writer}, {number});
             INSERT INTO lefts VALUES ({pair}, '{value}') ON CONFLICT DO UPDATE SET value = excluded.value;
             INSERT INTO rights VALUES ({pair}, '{value}') ON CONFLICT DO UPDATE SET value = excluded.value;
             INSERT OR REPLACE INTO lefts WITH n(i) AS (VALUES (0), (1), (2), (3), (4), (5))
                 SELECT 1000 + {writer} * 10 + i, hex(randomblob({ballast})) FROM n;
             COMMIT"
        ));
        done.unwrap_or_else(|error| panic!("writer {writer}: {error}"));
        history.lock().unwrap().committed(write);
        std::thread::sleep(Duration::from_millis(weather.roll(40)));
    }
}

/// Everything that one read transaction shows.
fn look(conn: &Connection) -> Seen {
    let tx = conn.unchecked_transaction().unwrap();
    let mut seen = Seen::default();
    let mut select = tx.prepare_cached("SELECT writer, number FROM list").unwrap();
    let rows = select.query_map([], |row| Ok((row.get::<_, i64>(0)? as usize, row.get::<_, i64>(1)? as u64)));
    seen.list = rows.unwrap().map(Result::unwrap).collect();
    for pair in 0..PAIRS {
        let half = |table: &str| -> Option<String> {
            let sql = format!("SELECT value FROM {table} WHERE pair = ?1");
            tx.prepare_cached(&sql).unwrap().query_row([pair as i64], |row| row.get(0)).ok()
        };
        seen.pairs.insert(pair, (half("lefts"), half("rights")));
    }
    seen
}

fn digest(conn: &Connection) -> String {
    conn.query_row("SELECT crsql_digest()", [], |row| row.get(0)).unwrap()
}

/// What a replica holds, for people.
fn state(conn: &Connection) -> String {
    let text = |sql: &str| -> String { conn.query_row(sql, [], |row| row.get(0)).unwrap() };
    format!(
        "{} {} rows, of {}, site {}, parked {}",
        &digest(conn)[..12],
        text("SELECT CAST(count(*) AS TEXT) FROM list"),
        text(
            "SELECT group_concat(writer || ':' || n) FROM (SELECT writer, max(number) AS n FROM list GROUP BY writer)"
        ),
        &text("SELECT hex(crsql_site_id())")[..6],
        text("SELECT CAST(count(*) AS TEXT) FROM crsql_parked"),
    ) + &text("SELECT ' ' || hex(crsql_version_vector())")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_committed_is_lost_and_nothing_is_seen_half() {
    let kills = number("CRSQL_KILLS", 14);
    let weather = Weather::new(number("CRSQL_SEED", 7));
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (0..REPLICAS).map(|at| dir.path().join(format!("{at}.db"))).collect();
    files.iter().for_each(|file| open(file).execute_batch(SCHEMA).unwrap());
    // 0 - A - 1 - B - 2, B - 3 - 4: one bridges two relays, and the last two have each other alone.
    let [a, b, peer] = [(); 3].map(|()| free_port());
    let by = async |upstream: SocketAddr| format!("ws://{}/demo", proxy(upstream, weather.clone()).await);
    let mut processes = vec![relay(&dir.path().join("a"), a), relay(&dir.path().join("b"), b)];
    processes.push(sidecar(&files[0], &[by(a).await]));
    processes.push(sidecar(&files[1], &[by(a).await, by(b).await]));
    processes.push(sidecar(&files[2], &[by(b).await]));
    processes.push(sidecar(&files[3], &[by(b).await, "--peer".into(), by(peer).await]));
    processes.push(sidecar(&files[4], &["--listen".into(), peer.to_string()]));

    let (history, stop) = (Arc::new(Mutex::new(History::default())), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..REPLICAS)
        .map(|writer| {
            let (path, history) = (files[writer].clone(), history.clone());
            let (stop, weather) = (stop.clone(), weather.clone());
            std::thread::spawn(move || write(writer, path, history, stop, weather))
        })
        .collect();
    let readers: Vec<Connection> = files.iter().map(|file| open(file)).collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(200 + weather.roll(500))).await;
        for (replica, conn) in readers.iter().enumerate() {
            let seen = look(conn);
            history.lock().unwrap().saw(replica, seen);
        }
        let which = weather.roll(processes.len() as u64) as usize;
        processes[which].kill_and_start_again();
        assert_eq!(history.lock().unwrap().faults, Vec::<String>::new());
    }
    weather.is_calm.store(true, Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    // Quiet from here on. Who was killed last may wait a while before he connects again.
    let quiet = Instant::now();
    while !readers.iter().all(|conn| digest(conn) == digest(&readers[0])) {
        for (replica, conn) in readers.iter().enumerate() {
            history.lock().unwrap().saw(replica, look(conn));
        }
        assert!(
            quiet.elapsed() < Duration::from_secs(60),
            "they never become equal: {:#?}",
            readers.iter().map(state).collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = quiet.elapsed();
    let mut history = history.lock().unwrap();
    for (replica, conn) in readers.iter().enumerate() {
        history.saw(replica, look(conn));
        let doctor: String = conn.query_row("SELECT crsql_doctor()", [], |row| row.get(0)).unwrap();
        assert_eq!(doctor, "[]");
    }
    history.settled(REPLICAS);
    assert_eq!(history.faults, Vec::<String>::new());
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    eprintln!(
        "{kills} kills, {} commits, {} reads, {} messages, {} cut, {} doubled, {} swapped; equal {took:?} after the last write",
        history.commits(),
        history.reads,
        count(&weather.passed),
        count(&weather.cut),
        count(&weather.doubled),
        count(&weather.swapped),
    );
    assert!(history.commits() as u64 > kills && count(&weather.passed) > kills);
}
