//! Nodes and the wires between them, in memory.
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crsql_client::node::{Action, Dial, Event, LinkId, Node, Policy};
use crsql_client::replica::{Options, Replica};
use rusqlite::Connection;

pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT, done INT);
CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY NOT NULL, balance INT);
SELECT crsql_as_crr('todo');
SELECT crsql_as_crr('account');";

pub struct Site {
    pub node: Node,
    pub events: Vec<Event>,
    path: PathBuf,
    options: Options,
}

impl Site {
    pub fn open(path: &Path, options: &Options) -> Site {
        let conn = Rc::new(Connection::open(path).unwrap());
        conn.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        // Tests lose processes, never power.
        conn.pragma_update(None, "journal_mode", "WAL").unwrap();
        let replica = Replica::open(conn.clone(), options.clone()).unwrap();
        conn.pragma_update(None, "synchronous", "OFF").unwrap();
        Site { node: Node::new(replica), events: Vec::new(), path: path.into(), options: options.clone() }
    }

    pub fn conn(&self) -> Rc<Connection> {
        self.node.replica().connection().clone()
    }

    pub fn exec(&self, sql: &str) {
        self.conn().execute_batch(sql).unwrap_or_else(|error| panic!("{error}\n in {sql}"));
    }

    pub fn text(&self, sql: &str) -> String {
        let text = |row: &rusqlite::Row<'_>| row.get::<_, Option<String>>(0);
        self.conn()
            .query_row(&format!("SELECT CAST(({sql}) AS TEXT)"), [], text)
            .unwrap_or_else(|error| panic!("{error}\n in {sql}"))
            .unwrap_or("NULL".into())
    }

    pub fn titles(&self) -> String {
        self.text("SELECT group_concat(title) FROM (SELECT title FROM todo ORDER BY id)")
    }

    pub fn digest(&self) -> String {
        self.text("SELECT crsql_digest()")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

struct Wire {
    dialer: usize,
    acceptor: usize,
    dial: LinkId,
    accept: LinkId,
    to_acceptor: VecDeque<Arc<[u8]>>,
    to_dialer: VecDeque<Arc<[u8]>>,
}

pub struct World {
    pub sites: Vec<Site>,
    wires: Vec<Wire>,
    pub now_ms: u64,
    pub delivered: usize,
    pub delivered_bytes: usize,
    dir: tempfile::TempDir,
}

impl World {
    pub fn new(count: usize) -> World {
        World::with(count, Options { passes_on: true, ..Options::default() }, SCHEMA)
    }

    pub fn with(count: usize, options: Options, schema: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut world =
            World { sites: Vec::new(), wires: Vec::new(), now_ms: 0, delivered: 0, delivered_bytes: 0, dir };
        for at in 0..count {
            world.sites.push(Site::open(&world.path(at), &options));
            world.sites[at].exec(schema);
        }
        world
    }

    pub fn path(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("{at}.db"))
    }

    /// `from` dials `to`, unless it has.
    pub fn dial(&mut self, from: usize, to: usize) {
        self.dial_as(from, to, true);
    }

    pub fn dial_as(&mut self, from: usize, to: usize, gossip: bool) {
        if self.wires.iter().any(|wire| (wire.dialer, wire.acceptor) == (from, to)) {
            return;
        }
        let dial = Dial { peer: format!("peer {to}"), room: "demo".into(), token: None, gossip };
        let dial = self.sites[from].node.dial(self.now_ms, dial).unwrap();
        let policy = Policy { room: "demo".into(), token: None };
        let accept = self.sites[to].node.accept(self.now_ms, policy);
        let (to_acceptor, to_dialer) = Default::default();
        self.wires.push(Wire { dialer: from, acceptor: to, dial, accept, to_acceptor, to_dialer });
        self.collect();
    }

    pub fn link(&self, from: usize, to: usize) -> Option<LinkId> {
        let wire = self.wires.iter().find(|wire| (wire.dialer, wire.acceptor) == (from, to))?;
        Some(wire.dial)
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        let is_it = |wire: &Wire| (wire.dialer, wire.acceptor) == (from, to);
        while let Some(at) = self.wires.iter().position(is_it) {
            let wire = self.wires.remove(at);
            self.sites[wire.dialer].node.closed(wire.dial);
            self.sites[wire.acceptor].node.closed(wire.accept);
        }
    }

    pub fn cut_all_of(&mut self, at: usize) {
        let of: Vec<_> = self.wires.iter().map(|wire| (wire.dialer, wire.acceptor)).collect();
        of.into_iter().filter(|(a, b)| *a == at || *b == at).for_each(|(a, b)| self.cut(a, b));
    }

    /// The process dies and starts again.
    pub fn restart(&mut self, at: usize) {
        self.cut_all_of(at);
        let options = self.sites[at].options.clone();
        let nowhere = Site::open(Path::new(":memory:"), &options);
        drop(std::mem::replace(&mut self.sites[at], nowhere));
        self.sites[at] = Site::open(&self.path(at), &options);
    }

    /// Another site from a copy of a file, opened as it is.
    pub fn clone_site(&mut self, at: usize) -> usize {
        let path = self.path(self.sites.len());
        self.sites[at].conn().execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
        let options = self.sites[at].options.clone();
        self.sites.push(Site::open(&path, &options));
        self.sites.len() - 1
    }

    /// Puts an older copy in place of a site's file.
    pub fn restore(&mut self, at: usize, copy: &Path) {
        self.cut_all_of(at);
        let options = self.sites[at].options.clone();
        let nowhere = Site::open(Path::new(":memory:"), &options);
        drop(std::mem::replace(&mut self.sites[at], nowhere));
        for suffix in ["-wal", "-shm"] {
            std::fs::remove_file(format!("{}{suffix}", self.path(at).display())).ok();
        }
        std::fs::copy(copy, self.path(at)).unwrap();
        self.sites[at] = Site::open(&self.path(at), &options);
    }

    pub fn copy(&self, at: usize) -> PathBuf {
        let path = self.dir.path().join(format!("copy-{}", self.delivered));
        self.sites[at].conn().execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
        path
    }

    /// Moves the actions of all nodes onto the wires.
    fn collect(&mut self) {
        for at in 0..self.sites.len() {
            while let Some(action) = self.sites[at].node.next_action() {
                match action {
                    Action::Send { link, bytes } => {
                        for wire in &mut self.wires {
                            if (wire.dialer, wire.dial) == (at, link) {
                                wire.to_acceptor.push_back(bytes.clone());
                            }
                            if (wire.acceptor, wire.accept) == (at, link) {
                                wire.to_dialer.push_back(bytes.clone());
                            }
                        }
                    }
                    Action::Close { link, .. } => self.drain_and_cut(at, link),
                    Action::Event(event) => self.sites[at].events.push(event),
                }
            }
        }
    }

    fn drain_and_cut(&mut self, at: usize, link: LinkId) {
        let is_it = |wire: &Wire| {
            (wire.dialer, wire.dial) == (at, link) || (wire.acceptor, wire.accept) == (at, link)
        };
        let Some(found) = self.wires.iter().position(is_it) else { return };
        let mut wire = self.wires.remove(found);
        // What was sent before the close arrives.
        if wire.dialer == at {
            while let Some(bytes) = wire.to_acceptor.pop_front() {
                self.sites[wire.acceptor].node.receive(self.now_ms, wire.accept, &bytes).unwrap();
            }
            self.sites[wire.acceptor].node.closed(wire.accept);
        } else {
            while let Some(bytes) = wire.to_dialer.pop_front() {
                self.sites[wire.dialer].node.receive(self.now_ms, wire.dial, &bytes).unwrap();
            }
            self.sites[wire.dialer].node.closed(wire.dial);
        }
    }

    /// Delivers the next message of one wire in one direction. False if there was none.
    pub fn deliver(&mut self, wire: usize, to_acceptor: bool) -> bool {
        let Some(wire) = self.wires.get_mut(wire) else { return false };
        let queue = if to_acceptor { &mut wire.to_acceptor } else { &mut wire.to_dialer };
        let Some(bytes) = queue.pop_front() else { return false };
        let (at, link) = if to_acceptor { (wire.acceptor, wire.accept) } else { (wire.dialer, wire.dial) };
        self.delivered += 1;
        self.delivered_bytes += bytes.len();
        self.sites[at].node.receive(self.now_ms, link, &bytes).unwrap();
        self.collect();
        true
    }

    pub fn flush(&mut self, at: usize) {
        self.sites[at].node.refresh(self.now_ms).unwrap();
        self.sites[at].node.flush(self.now_ms).unwrap();
        self.collect();
    }

    pub fn wires(&self) -> usize {
        self.wires.len()
    }

    /// Until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            (0..self.sites.len()).for_each(|at| self.flush(at));
            let mut moved = false;
            for wire in 0..self.wires.len() {
                while self.deliver(wire, true) || self.deliver(wire, false) {
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    pub fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        for at in 0..self.sites.len() {
            self.sites[at].node.tick(self.now_ms).unwrap();
        }
        self.collect();
    }

    pub fn assert_converged(&self) {
        let first = (self.sites[0].digest(), self.sites[0].node.replica().ledger().whole().clone());
        for (at, site) in self.sites.iter().enumerate() {
            assert_eq!(site.digest(), first.0, "digest of node {at}");
            assert_eq!(*site.node.replica().ledger().whole(), first.1, "versions of node {at}");
            assert_eq!(site.text("SELECT crsql_doctor()"), "[]");
        }
    }
}

impl World {
    /// All nodes but one.
    pub fn assert_converged_but(&self, out: usize) {
        let digests: Vec<_> = self
            .sites
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != out)
            .map(|(_, site)| site.digest())
            .collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
    }
}
