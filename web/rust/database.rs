//! One open database, as JavaScript sees it.
//!
//! Whoever holds it is the only one that has the files open. It runs one request at a time; transactions, queues and
//! who may ask are the business of the TypeScript around it.

use std::collections::BTreeMap;
use std::rc::Rc;

use crsql::sqlite::{Db, Transaction, ValueRef};
use crsql_client::node::Node;
use rusqlite::{Connection, OpenFlags};
use wasm_bindgen::prelude::*;

use crate::error::{Error, Result};
use crate::files::{Store, SyncFile};
use crate::hooks::Changed;
use crate::live::Live;
use crate::rows::Rows;
use crate::statements::Statements;
use crate::values::{self, Reader};
use crate::vfs::{self, FileSet};

/// One open database.
#[wasm_bindgen]
pub struct Database {
    // In the order in which they must go: what uses the connection, the connection, what its hooks write to.
    lives: BTreeMap<u32, Live>,
    statements: Statements,
    pub(crate) node: Option<Node>,
    connection: Option<Rc<Connection>>,
    changed: Box<Changed>,
    pub(crate) path: String,
    pragmas: &'static str,
    main: Rc<Store>,
    next_live: u32,
    seed: u64,
    schema_version: i64,
}

/// Opens the files that JavaScript has opened: the database, its journal, its log.
#[wasm_bindgen(js_name = openFiles)]
pub fn open_files(
    path: &str,
    main: SyncFile,
    journal: SyncFile,
    wal: SyncFile,
) -> std::result::Result<Database, JsValue> {
    let store = |file| Rc::new(Store::Handle(file));
    let files = FileSet { main: store(main), journal: store(journal), wal: store(wal) };
    // The log needs exclusive locking before the first read, because there is no shared memory.
    Ok(Database::open(
        path,
        files,
        "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal; PRAGMA synchronous = full;",
    )?)
}

/// Opens a database in memory, filled with the blocks that were saved of it: an array of `[number, bytes]`, and its
/// size in bytes.
#[wasm_bindgen(js_name = openMemory)]
pub fn open_memory(path: &str, blocks: js_sys::Array, size: f64) -> std::result::Result<Database, JsValue> {
    let main = Rc::new(Store::memory());
    if let Store::Memory(memory) = &*main {
        let mut memory = memory.borrow_mut();
        for entry in blocks.iter() {
            let entry = js_sys::Array::from(&entry);
            let number = entry.get(0).as_f64().unwrap_or(0.0);
            memory.load(number as usize, &js_sys::Uint8Array::new(&entry.get(1)).to_vec());
        }
        memory.truncate(size as u64);
        memory.take_changed();
    }
    let files = FileSet { main, journal: Rc::new(Store::memory()), wal: Rc::new(Store::memory()) };
    Ok(Database::open(path, files, "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = memory;")?)
}

/// A connection without the extension.
pub(crate) fn plain(path: &str, pragmas: &str) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs::NAME)?;
    connection.execute_batch(pragmas)?;
    Ok(connection)
}

impl Database {
    fn open(path: &str, files: FileSet, pragmas: &'static str) -> Result<Database> {
        let main = files.main.clone();
        vfs::mount(path, files)?;
        let database = Database::connect(path, main, pragmas);
        if database.is_err() {
            vfs::unmount(path);
        }
        database
    }

    fn connect(path: &str, main: Rc<Store>, pragmas: &'static str) -> Result<Database> {
        let connection = plain(path, pragmas)?;
        crsql::register(&connection)?;
        let changed = Changed::watch(&connection);
        let seed = connection.query_row("SELECT random()", [], |row| row.get::<_, i64>(0))? as u64;
        let schema_version = connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
        Ok(Database {
            lives: BTreeMap::new(),
            statements: Statements::default(),
            node: None,
            connection: Some(Rc::new(connection)),
            changed,
            path: path.to_owned(),
            pragmas,
            main,
            next_live: 0,
            seed,
            schema_version,
        })
    }

    /// Ends the connection and what depends on it; the files stay open.
    pub(crate) fn disconnect(&mut self) -> Result<()> {
        self.lives.clear();
        self.statements.clear();
        self.node = None;
        let Some(connection) = self.connection.take().and_then(Rc::into_inner) else { return Ok(()) };
        Ok(connection.close().map_err(|(_, error)| error)?)
    }

    /// Runs `work` on a connection to the same files that has no extension, and then begins anew: live queries are to
    /// be opened again. Nothing else may be using the database.
    pub(crate) fn apart<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.disconnect()?;
        let done = plain(&self.path, self.pragmas).and_then(|plain| work(&plain));
        *self = Database::connect(&self.path, self.main.clone(), self.pragmas)?;
        done
    }

    pub(crate) fn connection(&self) -> Result<&Rc<Connection>> {
        self.connection.as_ref().ok_or_else(|| Error::misuse("the database is closed"))
    }

    fn db(&self) -> Result<Db> {
        let connection = self.connection()?;
        Ok(crate::hooks::db(connection))
    }

    /// Runs one statement; returns how many rows it changed.
    fn run_one(&mut self, sql: &str, parameters: &[u8]) -> Result<i64> {
        let db = self.db()?;
        let before = db.total_changes();
        self.statements.with(db, sql, |statement| {
            values::bind(statement, parameters)?;
            while statement.step()? {}
            Ok(())
        })?;
        Ok(if db.total_changes() == before { 0 } else { db.changes64() })
    }

    /// Runs one statement; appends its outcome to `out`: changes:u32, last_insert_rowid:i64, rows.
    fn run_into(&mut self, sql: &str, parameters: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let db = self.db()?;
        let before = db.total_changes();
        let rows = self.statements.with(db, sql, |statement| {
            values::bind(statement, parameters)?;
            let mut rows = Rows::of(statement);
            while statement.step()? {
                rows.push(statement);
            }
            Ok(rows)
        })?;
        // `changes` keeps the count of an earlier statement when this one changed nothing.
        let changes = if db.total_changes() == before { 0 } else { db.changes64() };
        out.extend((changes as u32).to_le_bytes());
        out.extend(db.last_insert_rowid().to_le_bytes());
        rows.write_to(out);
        Ok(())
    }
}

#[wasm_bindgen]
impl Database {
    /// Runs one statement with encoded parameters; returns changes, rowid and rows.
    pub fn run(&mut self, sql: &str, parameters: &[u8]) -> std::result::Result<Vec<u8>, JsValue> {
        let mut out = Vec::new();
        self.run_into(sql, parameters, &mut out)?;
        Ok(out)
    }

    /// Runs every statement of a text, without parameters and without rows.
    pub fn exec(&mut self, sql: &str) -> std::result::Result<(), JsValue> {
        Ok(self.db()?.exec(sql).map_err(Error::from)?)
    }

    /// Runs many statements: `(sql:text parameters:bytes)*`, where an empty text repeats the one before. Returns the
    /// outcome of each where `rows` is set, else one outcome for all of them without rows.
    pub fn batch(&mut self, requests: &[u8], rows: bool) -> std::result::Result<Vec<u8>, JsValue> {
        let mut reader = Reader::new(requests);
        let (mut sql, mut out) = ("", Vec::new());
        let (mut index, mut changes) = (0, 0);
        while !reader.is_empty() {
            let text = reader.text()?;
            if !text.is_empty() {
                sql = text;
            }
            let parameters = reader.bytes()?;
            let result = if rows {
                self.run_into(sql, parameters, &mut out)
            } else {
                self.run_one(sql, parameters).map(|count| changes += count)
            };
            if let Err(error) = result {
                let error = JsValue::from(error);
                // Which of the statements it was, from 0.
                let _ = js_sys::Reflect::set(&error, &"index".into(), &index.into());
                return Err(error);
            }
            index += 1;
        }
        if !rows {
            out.extend((changes as u32).to_le_bytes());
            out.extend(self.db()?.last_insert_rowid().to_le_bytes());
        }
        Ok(out)
    }

    /// Whether a statement of this text may change the database. A SELECT that calls a function of ours may.
    #[wasm_bindgen(js_name = mayWrite)]
    pub fn may_write(&mut self, sql: &str) -> std::result::Result<bool, JsValue> {
        if sql.to_ascii_lowercase().contains("crsql_") {
            return Ok(true);
        }
        let db = self.db()?;
        Ok(self.statements.with(db, sql, |statement| Ok(!statement.is_read_only()))?)
    }

    /// Whether a transaction is open.
    #[wasm_bindgen(js_name = inTransaction)]
    pub fn in_transaction(&self) -> std::result::Result<bool, JsValue> {
        Ok(!self.db()?.is_autocommit())
    }

    /// Whether a transaction is open that has written.
    #[wasm_bindgen(js_name = hasWritten)]
    pub fn has_written(&self) -> std::result::Result<bool, JsValue> {
        Ok(self.db()?.transaction() == Transaction::Write)
    }

    /// The tables that changed since the last call. To be asked after a commit.
    #[wasm_bindgen(js_name = takeChanged)]
    pub fn take_changed(&mut self) -> std::result::Result<Changes, JsValue> {
        let tables = self.changed.take();
        let db = self.db()?;
        let schema_version = db.schema_version().map_err(Error::from)?;
        let schema = schema_version != self.schema_version;
        self.schema_version = schema_version;
        let mut lives = Vec::new();
        let connection = self.connection.as_ref().ok_or_else(|| Error::misuse("the database is closed"))?;
        for (id, live) in &mut self.lives {
            let renewed = schema && live.renew(connection).unwrap_or(true);
            if renewed || live.is_touched(&tables) {
                lives.push(*id);
            }
        }
        Ok(Changes { tables: tables.into_iter().collect(), lives, schema })
    }

    /// Prepares a query to be run again and again; returns its number.
    #[wasm_bindgen(js_name = liveOpen)]
    pub fn live_open(&mut self, sql: &str, parameters: &[u8]) -> std::result::Result<u32, JsValue> {
        let db = self.db()?;
        let writes = self.statements.with(db, sql, |statement| Ok(!statement.is_read_only()))?;
        if writes {
            return Err(Error::misuse("a live query must only read").into());
        }
        let live = Live::new(self.connection()?, sql, parameters.to_vec(), self.seed)?;
        self.next_live += 1;
        self.lives.insert(self.next_live, live);
        Ok(self.next_live)
    }

    /// Runs it; returns the patch from the last answer, `undefined` when nothing changed. `all` asks for everything.
    #[wasm_bindgen(js_name = liveRun)]
    pub fn live_run(&mut self, id: u32, all: bool) -> std::result::Result<Option<Vec<u8>>, JsValue> {
        let db = self.db()?;
        let live = self.lives.get_mut(&id).ok_or_else(|| Error::misuse("there is no such live query"))?;
        Ok(live.run(db, &mut self.statements, all)?)
    }

    /// Forgets it.
    #[wasm_bindgen(js_name = liveClose)]
    pub fn live_close(&mut self, id: u32) {
        self.lives.remove(&id);
    }

    /// Writes the log back into the database file, so that this file alone is the whole database.
    pub fn checkpoint(&mut self) -> std::result::Result<(), JsValue> {
        let db = self.db()?;
        Ok(db.exec("PRAGMA wal_checkpoint(TRUNCATE)").map_err(Error::from)?)
    }

    /// The whole database file, as it would be on a disk, in rollback mode so that any program can open it.
    pub fn export(&mut self) -> std::result::Result<js_sys::Uint8Array, JsValue> {
        /// Where a database says which journal it needs to be written and read: 1 is the rollback journal.
        const FORMAT_VERSIONS: std::ops::RangeInclusive<u32> = 18..=19;
        self.checkpoint()?;
        let read = || -> crate::files::Result<js_sys::Uint8Array> {
            let size = self.main.size()?;
            let file = js_sys::Uint8Array::new_with_length(size as u32);
            let mut block = vec![0; 1 << 20];
            let mut at = 0;
            while at < size {
                let count = self.main.read(&mut block, at)?;
                if count == 0 {
                    break;
                }
                file.subarray(at as u32, (at + count as u64) as u32).copy_from(&block[..count]);
                at += count as u64;
            }
            Ok(file)
        };
        let file = read().map_err(|failure| JsValue::from(Error::misuse(failure.reason)))?;
        if file.length() > *FORMAT_VERSIONS.end() {
            FORMAT_VERSIONS.for_each(|at| file.set_index(at, 1));
        }
        Ok(file)
    }

    /// The blocks of a database in memory that changed since the last call, as an array of `[number, bytes]`.
    #[wasm_bindgen(js_name = takeBlocks)]
    pub fn take_blocks(&mut self) -> js_sys::Array {
        let blocks = js_sys::Array::new();
        if let Store::Memory(memory) = &*self.main {
            for (number, bytes) in memory.borrow_mut().take_changed() {
                let bytes = js_sys::Uint8Array::from(bytes);
                blocks.push(&js_sys::Array::of2(&(number as u32).into(), &bytes));
            }
        }
        blocks
    }

    /// The size of the database file in bytes.
    pub fn size(&self) -> f64 {
        self.main.size().map_or(0.0, |size| size as f64)
    }

    /// Closes the database. The files may be closed after that.
    pub fn close(&mut self) -> std::result::Result<(), JsValue> {
        let result = self.disconnect();
        vfs::unmount(&self.path);
        Ok(result?)
    }

    /// Runs `PRAGMA integrity_check` and crsql's own checks; returns what they found, nothing if all is well.
    pub fn check(&mut self) -> std::result::Result<Vec<String>, JsValue> {
        let db = self.db()?;
        let mut problems = Vec::new();
        for (sql, fine) in [("PRAGMA integrity_check", "ok"), ("SELECT crsql_doctor()", "[]")] {
            let mut statement = db.prepare(sql).map_err(Error::from)?;
            let mut rows = statement.query(&[] as &[ValueRef<'_>]).map_err(Error::from)?;
            while rows.step().map_err(Error::from)? {
                let text = String::from_utf8_lossy(rows.column_text(0)).into_owned();
                if text != fine {
                    problems.push(text);
                }
            }
        }
        Ok(problems)
    }
}

/// What a commit changed.
#[wasm_bindgen(getter_with_clone)]
pub struct Changes {
    /// The tables, those of crsql's metadata too.
    pub tables: Vec<String>,
    /// The live queries that must run again.
    pub lives: Vec<u32>,
    /// Whether the schema changed.
    pub schema: bool,
}
