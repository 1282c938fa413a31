//! Fault injection at every point: a scripted transaction is run again and again, and each time something else goes
//! wrong in it, an allocation, a read, a write, a sync, a lock, the power, or the user's patience.
//!
//! After each fault the database must be intact, in one of the states between the script's statements and not before
//! the last one that was acknowledged, its clocks sound, its capture on, and a peer must be able to follow.

use crate::fault_host::{self, Image, Io, Lasting, Trouble, VFS};
use crate::site::{Site, load_extension, message};
use crate::{Rng, pull, site};
use rusqlite::{Connection, OpenFlags};

/// The database on the test's disk.
const FILE: &str = "fault.db";

/// A scripted piece of work on a prepared database.
pub struct Script {
    /// What it is about.
    pub name: &'static str,
    /// The statements, each a step of its own.
    pub steps: Vec<String>,
    /// The disk before the first step.
    pub start: Image,
    /// The states before the first step and after each.
    states: Vec<State>,
    /// How the file is written.
    pub mode: Mode,
}

/// How a database file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A rollback journal that is deleted, synced fully.
    Rollback,
    /// A write-ahead log, synced fully.
    Wal,
    /// A write-ahead log that is only synced at checkpoints: committed work may be lost, whole transactions of it.
    WalNormal,
}

/// All modes.
pub const MODES: [Mode; 3] = [Mode::Rollback, Mode::Wal, Mode::WalNormal];

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    digest: String,
    db_version: i64,
    own_version: i64,
    rows: Vec<String>,
    schema: Vec<String>,
}

/// One kind of fault, at a point from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An allocation of SQLite fails.
    Allocation(Lasting),
    /// An operation of the disk fails.
    Disk(Io, Lasting),
    /// The disk is full.
    Full,
    /// The power goes.
    PowerLoss,
    /// The statement is interrupted, after so many instructions.
    Interrupt,
}

/// All kinds.
pub const KINDS: [Kind; 12] = [
    Kind::Allocation(Lasting::Once),
    Kind::Allocation(Lasting::Forever),
    Kind::Disk(Io::Read, Lasting::Once),
    Kind::Disk(Io::Read, Lasting::Forever),
    Kind::Disk(Io::Write, Lasting::Once),
    Kind::Disk(Io::Write, Lasting::Forever),
    Kind::Disk(Io::Sync, Lasting::Once),
    Kind::Disk(Io::Lock, Lasting::Once),
    Kind::Disk(Io::Lock, Lasting::Forever),
    Kind::Full,
    Kind::PowerLoss,
    Kind::Interrupt,
];

const SCHEMA: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT 'dy'); SELECT crsql_as_crr('t');
    CREATE TABLE k (name TEXT COLLATE NOCASE NOT NULL, n INT NOT NULL, v, PRIMARY KEY (n, name)) WITHOUT ROWID;
    SELECT crsql_as_crr('k')";

/// The scripts in one mode.
pub fn scripts(mode: Mode) -> Vec<Script> {
    let source = site(SCHEMA);
    source.exec(
        "INSERT INTO t VALUES (1, 'theirs', 1), (2, 'theirs', 2), (30, zeroblob(300), NULL);
         INSERT INTO k VALUES ('A', 1, 'theirs'), ('z', 2, x'00'); DELETE FROM t WHERE id = 2; UPDATE k SET v = 'again'",
    );
    let changeset: String = source.changeset().iter().map(|byte| format!("{byte:02x}")).collect();
    let raw: Vec<String> =
        source.changes().iter().map(|row| crate::value::render_row(row).replace('|', ", ")).collect();
    let columns = crate::exchange::TEN;
    let all: &[(&str, Vec<String>)] = &[
        (
            "autocommitted writes",
            strings(&[
                "INSERT INTO t VALUES (10, 'new', 1), (11, 'new', 2)",
                "UPDATE t SET x = 'changed' WHERE id < 4",
                "DELETE FROM t WHERE id = 2",
                "INSERT OR REPLACE INTO k VALUES ('B', 1, 'replaced')",
                "UPDATE OR REPLACE k SET name = 'c' WHERE name = 'a'",
                "INSERT INTO t VALUES (2, 'back', NULL) ON CONFLICT (id) DO UPDATE SET x = excluded.x",
            ]),
        ),
        (
            "a transaction with savepoints",
            strings(&[
                "BEGIN",
                "INSERT INTO t VALUES (20, zeroblob(50), 1)",
                "SAVEPOINT s",
                "UPDATE t SET y = y || 'more'",
                "ROLLBACK TO s",
                "DELETE FROM k",
                "RELEASE s",
                "UPDATE t SET id = id + 100 WHERE id < 3",
                "COMMIT",
            ]),
        ),
        (
            "a changeset applied",
            vec![format!("SELECT crsql_apply(x'{changeset}')"), "UPDATE t SET x = 'after' WHERE id = 1".into()],
        ),
        (
            "changes inserted",
            vec![format!("INSERT INTO crsql_changes ({columns}) VALUES ({})", raw.join("), ("))]
                .into_iter()
                .chain(["BEGIN".into()])
                .chain(raw.iter().map(|row| format!("INSERT INTO crsql_changes ({columns}) VALUES ({row})")))
                .chain(["COMMIT".into()])
                .collect(),
        ),
        (
            "everything read",
            strings(&[
                "SELECT * FROM crsql_changes",
                "SELECT cid, val FROM crsql_changes WHERE db_version > 1 AND site_id IS NOT x'00' ORDER BY cid",
                "SELECT crsql_changeset(), crsql_changeset(1), crsql_changeset(crsql_version_vector())",
                "SELECT crsql_digest(), crsql_digest('t'), crsql_digest('t', x'', NULL, 2)",
                "SELECT crsql_doctor(), crsql_stats(), crsql_token(), crsql_db_version()",
                "SELECT * FROM crsql_parked, crsql_peers",
                "SELECT cell FROM crsql_unpack_columns WHERE package = crsql_pack_columns(1, 'a', NULL)",
            ]),
        ),
        (
            "a schema that changes",
            strings(&[
                "CREATE TABLE n (id TEXT PRIMARY KEY NOT NULL, a)",
                "INSERT INTO n VALUES ('r1', 1), ('r2', 2)",
                "SELECT crsql_as_crr('n')",
                "ALTER TABLE n ADD COLUMN b DEFAULT 5",
                "UPDATE n SET b = a",
                "SELECT crsql_begin_alter('t')",
                "ALTER TABLE t ADD COLUMN z",
                "UPDATE t SET z = id",
                "SELECT crsql_commit_alter('t')",
                "ALTER TABLE n RENAME COLUMN a TO aa",
                "UPDATE n SET aa = 7",
                "SELECT crsql_as_table('n')",
                "DROP TABLE k",
                "SELECT crsql_gc()",
                "INSERT INTO t (id) VALUES (77)",
            ]),
        ),
        (
            "a migration and a list",
            strings(&[
                "SELECT crsql_automigrate('CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, x, y DEFAULT ''dy'', w);
                 CREATE TABLE k (name TEXT COLLATE NOCASE NOT NULL, n INT NOT NULL, v, PRIMARY KEY (n, name)) WITHOUT ROWID;
                 SELECT crsql_as_crr(''t''); SELECT crsql_as_crr(''k'')')",
                "UPDATE t SET w = 'migrated'",
            ]),
        ),
    ];
    let mut scripts: Vec<Script> =
        all.iter().map(|(name, steps)| Script::prepare(name, steps.clone(), mode, true)).collect();
    let first = format!("INSERT INTO crsql_changes ({columns}) VALUES ({})", raw[0]);
    let steps = ["BEGIN".into(), first, "COMMIT".into(), SCHEMA.split(';').next().unwrap_or_default().into()];
    scripts.push(Script::prepare("the first change of a database", steps.to_vec(), mode, false));
    scripts
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

impl Script {
    fn prepare(name: &'static str, steps: Vec<String>, mode: Mode, has_tables: bool) -> Script {
        fault_host::install();
        fault_host::insert_disk(&Image::default());
        let a = open(mode).unwrap_or_else(|error| panic!("a fresh database: {error}"));
        if has_tables {
            a.exec(SCHEMA);
            a.exec(
            "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, zeroblob(2000), 3);
             INSERT INTO k VALUES ('a', 1, 'first'), ('b', 1, 'second'); UPDATE t SET y = 'u' WHERE id = 2; DELETE FROM t WHERE id = 3;
             INSERT INTO t VALUES (3, 'born again', NULL)",
            );
        }
        drop(a);
        let start = fault_host::image();
        let mut script = Script { name, steps, start, states: Vec::new(), mode };
        script.learn();
        script
    }

    /// Runs the script without a fault and keeps the state after each step.
    fn learn(&mut self) {
        fault_host::insert_disk(&self.start);
        let a = open(self.mode).expect("nothing fails");
        self.states.push(State::of(&a));
        for step in &self.steps {
            if let Err(error) = run(&a, step) {
                panic!("{}: {error}\n  in: {step}", self.name);
            }
            // Inside a transaction nothing is acknowledged yet.
            let state = match a.conn.is_autocommit() {
                true => State::of(&a),
                false => self.states.last().expect("the first state").clone(),
            };
            self.states.push(state);
        }
    }

    /// Runs the script with a fault at a point and checks what is left; false if the point is beyond the script's
    /// end, where nothing struck.
    pub fn strike(&self, kind: Kind, point: u64) -> bool {
        let what = || format!("{}, {:?}, {kind:?} at {point}", self.name, self.mode);
        fault_host::insert_disk(&self.start);
        let before = fault_host::outstanding_allocations();
        let mut random = Rng::new(point);
        let Outcome { connection, acknowledged, struck } = self.run_with(kind, point);
        let is_power_loss = matches!(kind, Kind::PowerLoss);
        let left =
            if is_power_loss { fault_host::image_after_power_loss(&mut random) } else { Image::default() };
        let mut survivor = None;
        match connection {
            Some(a) if !is_power_loss => {
                if !a.conn.is_autocommit() {
                    a.exec("ROLLBACK");
                }
                self.check(&a, acknowledged, &what);
                drop(a);
            }
            connection => drop(connection),
        }
        if is_power_loss {
            fault_host::disarm();
            fault_host::insert_disk(&left);
            let a =
                open(self.mode).unwrap_or_else(|error| panic!("{}: cannot be opened again: {error}", what()));
            // A power loss is the one fault after which acknowledged work may be gone, if the user chose so.
            let acknowledged = if self.mode == Mode::WalNormal { 0 } else { acknowledged };
            self.check(&a, acknowledged, &what);
            survivor = Some(a);
        }
        drop(survivor);
        let after = fault_host::outstanding_allocations();
        assert_eq!(after, before, "{}: memory of SQLite leaked", what());
        struck
    }

    fn run_with(&self, kind: Kind, point: u64) -> Outcome {
        // Opening and registering is part of what may fail, for all but interrupts.
        match kind {
            Kind::Allocation(lasting) => fault_host::fail_allocation(point, lasting),
            Kind::Disk(io, lasting) => fault_host::arm(Trouble::Fails(io, point, lasting)),
            Kind::Full => fault_host::arm(Trouble::Full(point)),
            Kind::PowerLoss => fault_host::arm(Trouble::PowerLoss(point)),
            Kind::Interrupt => {}
        }
        let opened = open(self.mode);
        let mut acknowledged = 0;
        let mut interrupted = false;
        let connection = match opened {
            Err(_) => None,
            Ok(a) => {
                if kind == Kind::Interrupt {
                    interrupt_after(&a, point);
                }
                for step in &self.steps {
                    if let Err(error) = run(&a, step) {
                        interrupted |= error.contains("interrupted");
                        break;
                    }
                    acknowledged += 1;
                }
                a.conn.progress_handler(0, None::<fn() -> bool>).expect("a handler");
                Some(a)
            }
        };
        let struck = match kind {
            Kind::Allocation(_) => fault_host::allow_allocations(),
            Kind::Interrupt => interrupted,
            // The power stays off until the disk is looked at.
            Kind::PowerLoss => fault_host::has_struck(),
            Kind::Disk(..) | Kind::Full => fault_host::disarm(),
        };
        Outcome { connection, acknowledged, struck }
    }

    /// Panics unless the replica is in one of the states from the last acknowledged step on, and works.
    fn check(&self, a: &Site, acknowledged: usize, what: &dyn Fn() -> String) {
        assert_eq!(a.rows("PRAGMA integrity_check"), ["'ok'"], "{}", what());
        assert_eq!(a.doctor(), "[]", "{}", what());
        let state = State::of(a);
        // A statement may have failed after its commit, so the next state is possible, too.
        let possible = &self.states[acknowledged..];
        assert!(
            possible.contains(&state),
            "{}: after {acknowledged} acknowledged steps the replica is in a state that no step leads to: {state:#?}\nexpected one of {possible:#?}",
            what()
        );
        let crrs = a.crrs();
        if crrs.iter().any(|table| table == "t") {
            a.exec("UPDATE t SET y = 'tracked' WHERE id = 1; INSERT INTO t (id) VALUES (900)");
            assert!(a.own_site_version() > state.own_version, "{}: a write is not tracked", what());
        }
        let peer = site("");
        for table in a.crrs() {
            peer.exec(a.value_with("SELECT sql FROM sqlite_schema WHERE name = ?1", &[&table]).as_str());
            peer.run("SELECT crsql_as_crr(?1)", &[&table]);
        }
        pull(&peer, a);
        assert_eq!(peer.digest(), a.digest(), "{}: a peer does not converge", what());
        assert_eq!(a.doctor(), "[]", "{}", what());
    }
}

struct Outcome {
    connection: Option<Site>,
    acknowledged: usize,
    struck: bool,
}

impl State {
    fn of(a: &Site) -> State {
        let tables = ["t", "k", "n"].map(|name| {
            let rows = a.conn.prepare(&format!("SELECT 1 FROM {name}")).map(|_| a.table(name));
            rows.unwrap_or_default()
        });
        let rows: Vec<String> = tables.concat();
        State {
            digest: a.digest(),
            db_version: a.db_version(),
            own_version: a.own_site_version(),
            rows,
            schema: a.rows("SELECT name FROM sqlite_schema WHERE name NOT LIKE '%crsql%' ORDER BY name"),
        }
    }
}

fn open(mode: Mode) -> Result<Site, String> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags_and_vfs(FILE, flags, VFS).map_err(message)?;
    let pragmas = match mode {
        Mode::Rollback => "PRAGMA synchronous = full; PRAGMA cache_size = 20",
        Mode::Wal => "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal; PRAGMA synchronous = full",
        Mode::WalNormal => {
            "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal; PRAGMA synchronous = normal; PRAGMA wal_autocheckpoint = 8"
        }
    };
    // A lock that fails is to fail at once.
    conn.busy_timeout(std::time::Duration::ZERO).map_err(message)?;
    conn.execute_batch(pragmas).map_err(message)?;
    load_extension(&conn)?;
    Ok(Site::with_extension_on(conn))
}

/// Runs a statement to its end.
fn run(a: &Site, sql: &str) -> Result<(), String> {
    a.try_values_with(sql, &[]).map(drop)
}

fn interrupt_after(a: &Site, instructions: u64) {
    let mut left = instructions;
    let handler = move || {
        left = left.saturating_sub(1);
        left == 0
    };
    a.conn.progress_handler(1, Some(handler)).expect("a handler");
}

/// Strikes at every `stride`-th point of a script, from `first`, at most `points` of them; returns how many struck.
pub fn campaign(script: &Script, kind: Kind, first: u64, stride: u64, points: u64) -> u64 {
    let mut struck = 0;
    let mut point = first;
    while struck < points && script.strike(kind, point) {
        struck += 1;
        point += stride;
    }
    struck
}
