//! Puts a snapshot in the place of what this database has, for a newcomer to whom replay would cost more.
//!
//! The file cannot simply be exchanged: the application has it open, and it may have tables of its own in it. So the
//! snapshot is first made a database of ours, with our site id and with whatever we have that it lacks; then its
//! replicated tables are copied into the file in one ordinary transaction. Nobody can write meanwhile, nobody sees half
//! of it, and a crash leaves the file as it was.

use std::collections::BTreeSet;

use crsql_core::changeset::{Changeset, write_changes};
use crsql_core::collect::was_made_by;
use crsql_core::ids::SiteId;
use crsql_protocol::message::Cursor;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Replica, tables};
use crate::{Error, Result};

/// How long to wait for other writers of the file.
#[cfg(feature = "tokio")]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// What taking over a copy may keep in memory, in KiB.
#[cfg(feature = "tokio")]
const CACHE_KIB: i64 = 64 << 10;

/// Tables of the extension that say how this database is set up, not what it holds.
const OURS: [&str; 4] = ["crsql_tracked_peers", "__crsql_config", "__crsql_member", "__crsql_loser"];

/// The same of those who sync and of those who keep what they answered to their pages.
const OURS_BY_PREFIX: [&str; 2] = ["__crsql_sync_", "__crsql_web_"];

/// What a snapshot brings besides the database itself: the chains of its histories.
const CHAINS: &str = "__crsql_snapshot_chain";

/// What came of a snapshot.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It is in place.
    Done,
    /// This database lacked deletes of which nothing is left there, so it began again with the copy: what became of its
    /// own writes, as JSON.
    BeganAgain(String),
    /// It can't be: a sentence why. Nothing was changed.
    Declined(String),
}

/// A replicated table as its database describes it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Table {
    name: String,
    columns: Vec<String>,
}

/// A snapshot, open in a connection that nobody else has.
#[derive(Debug)]
pub struct Snapshot {
    copy: Connection,
    tables: BTreeSet<Table>,
}

/// A snapshot that was made a database of ours: it only has to take its place.
#[derive(Debug)]
pub struct Folded {
    tables: BTreeSet<Table>,
    site: SiteId,
    seen: u64,
}

impl Snapshot {
    /// Looks at a copy that came from a relay, and leaves nothing in it that could run here. What is inside if not that
    /// is a sentence why it can't be taken over.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(copy: Connection) -> Result<std::result::Result<Snapshot, String>> {
        crsql::register(&copy).map_err(|error| Error::Register(error.to_string()))?;
        if !copy.table_exists(Some("main"), CHAINS)? || !copy.table_exists(Some("main"), "__crsql_table")? {
            return Ok(Err("the snapshot is not one of a relay".into()));
        }
        let tables = replicated(&copy)?;
        disarm(&copy, &tables)?;
        Ok(Ok(Snapshot { copy, tables }))
    }
}

impl Replica {
    /// Takes over everything from a snapshot, a database file that nobody else uses and that may be changed. `cursor`
    /// is where reading `peer` goes on. All connections must have ended. Of a file in WAL mode the log then has all of
    /// it: have it checkpointed.
    ///
    /// # Errors
    /// SQLite's; [`Error::InTransaction`]. Nothing was changed then.
    #[cfg(feature = "tokio")]
    pub fn adopt(&mut self, snapshot: &std::path::Path, peer: &str, cursor: Cursor) -> Result<Adoption> {
        let Some(path) = self.conn.path().filter(|path| !path.is_empty()).map(str::to_owned) else {
            return Ok(Adoption::Declined("this database is not in a file".into()));
        };
        let copy = Connection::open(snapshot)?;
        // It is thrown away, whatever happens: waiting for the disk is for what stays.
        copy.pragma_update(None, "synchronous", "OFF")?;
        copy.pragma_update(None, "journal_mode", "MEMORY")?;
        let copy = match self.begin_again(copy, peer, cursor)? {
            Ok(report) => return Ok(Adoption::BeganAgain(report)),
            Err(copy) => copy,
        };
        let copy = match Snapshot::open(copy)? {
            Ok(copy) => copy,
            Err(reason) => return Ok(Adoption::Declined(reason)),
        };
        // Without the extension: the triggers that it copies must not run, and its own writes are no transactions.
        let plain = Connection::open(&path)?;
        plain.busy_timeout(PATIENCE)?;
        plain.pragma_update(None, "synchronous", "FULL")?;
        // A page that leaves the cache early is written twice, and all frames after it get new checksums.
        plain.pragma_update(None, "cache_size", -CACHE_KIB)?;
        plain.pragma_update(None, "wal_autocheckpoint", 0)?;
        Folded::attach(&plain, &snapshot.to_string_lossy())?;
        plain.execute_batch("BEGIN")?;
        // From here on nobody else writes, so what is read below is all there is.
        plain.execute("UPDATE main.__crsql_sync_state SET seen = seen", [])?;
        let folded = match self.fold(copy, &plain)? {
            Ok(folded) => folded,
            Err(reason) => return Ok(Adoption::Declined(reason)),
        };
        folded.exchange(&plain, peer, cursor)?;
        plain.execute_batch("COMMIT")?;
        drop(plain);
        self.reload()?;
        Ok(Adoption::Done)
    }

    /// Whether the copy has collected deletes that are not here.
    fn is_behind_of(&self, copy: &Connection) -> Result<bool> {
        let held = tables::vector(&self.conn)?;
        if held.is_empty() {
            return Ok(false);
        }
        let has_all: i64 = copy.query_row(
            "SELECT crsql_peer_vector(?1, ?2)",
            params![self.site.0.as_slice(), held.encode()],
            |row| row.get(0),
        )?;
        Ok(has_all == 0)
    }

    /// Begins again with everything that is in a copy whose room has collected deletes that are not here, and keeps what
    /// only this database has: what became of that, as JSON. Gives the copy back if it has not.
    ///
    /// # Errors
    /// SQLite's; [`Error::InTransaction`]. Nothing was changed then.
    pub fn begin_again(
        &mut self,
        copy: Connection,
        peer: &str,
        cursor: Cursor,
    ) -> Result<std::result::Result<String, Connection>> {
        if self.batch.is_some() || !self.conn.is_autocommit() {
            return Err(Error::InTransaction);
        }
        crsql::register(&copy).map_err(|error| Error::Register(error.to_string()))?;
        if !copy.table_exists(Some("main"), CHAINS)? || !self.is_behind_of(&copy)? {
            return Ok(Err(copy));
        }
        let whole: Vec<u8> = copy.query_row("SELECT crsql_changeset()", [], |row| row.get(0))?;
        let mut chains: Vec<(Vec<u8>, i64, Vec<u8>)> = Vec::new();
        {
            let mut select = copy.prepare(&format!("SELECT site, version, chain FROM main.{CHAINS}"))?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                chains.push((row.get(0)?, row.get(1)?, row.get(2)?));
            }
        }
        drop(copy);
        let report =
            self.conn
                .query_row("SELECT crsql_rebootstrap(?1, ?2)", [whole, self.written()?], |row| row.get(0))?;
        // If it ends here, the frames that are forgotten below are refused by whoever has collected, and put together
        // anew then.
        let tx = self.conn.unchecked_transaction()?;
        for (site, version, chain) in chains {
            tx.execute(
                "INSERT OR IGNORE INTO main.__crsql_sync_chain VALUES (?1, ?2, ?3)",
                params![site, version, chain],
            )?;
        }
        tx.execute_batch("DELETE FROM main.__crsql_sync_stage; DELETE FROM main.__crsql_sync_journal")?;
        tables::forget_cursors(&tx)?;
        tables::save_cursor(&tx, peer, cursor)?;
        tx.commit()?;
        self.reload()?;
        Ok(Ok(report))
    }

    /// The rows that own transactions made, as far as the journal still has them as they were.
    fn written(&self) -> Result<Vec<u8>> {
        let mut made = Vec::new();
        let mut select = self.conn.prepare(
            "SELECT entry FROM main.__crsql_sync_journal WHERE site = ?1 AND last > ?2 ORDER BY pos",
        )?;
        let mut rows = select.query(params![self.site.0.as_slice(), self.acked as i64])?;
        while let Some(row) = rows.next()? {
            let batch = super::journal::read(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
            for frame in batch.frames {
                let changes = Changeset::changes(&frame.body.0).map_err(super::publish::damaged)?;
                made.extend(changes.into_iter().filter(|change| was_made_by([&change.fact])));
            }
        }
        Ok(write_changes(self.tie_break, &made, &Default::default()))
    }

    /// Makes the snapshot a database of our site, with all that we hold and it lacks. `here` reads our own file. All
    /// connections must have ended, and nobody may write until [`Folded::exchange`].
    ///
    /// # Errors
    /// SQLite's; [`Error::InTransaction`].
    pub fn fold(&self, snapshot: Snapshot, here: &Connection) -> Result<std::result::Result<Folded, String>> {
        if self.batch.is_some() || !self.conn.is_autocommit() {
            return Err(Error::InTransaction);
        }
        let Snapshot { copy, tables } = snapshot;
        let mine = replicated(here)?;
        if let Some(table) = mine.iter().find(|table| !tables.contains(*table)) {
            return Ok(Err(format!("table {:?} is not the same in the snapshot", table.name)));
        }
        if let Some(name) = taken(here, &tables, &mine)? {
            return Ok(Err(format!("{name:?} is something else in this database")));
        }
        copy.query_row("SELECT crsql_new_site(?1)", [self.site.0.as_slice()], |_| Ok(()))?;
        // The apply position before our own come in: they are published anew.
        let seen = tables::db_version(&copy)?;
        let theirs = tables::vector(&copy)?;
        let ours: Vec<u8> = self
            .conn
            .prepare_cached("SELECT crsql_changeset(?1, 0)")?
            .query_row([theirs.encode()], |row| row.get(0))?;
        copy.query_row("SELECT crsql_apply(?1)", [ours], |_| Ok(()))?;
        // It must not be in use when another connection reads it.
        copy.close().map_err(|(_, error)| error)?;
        Ok(Ok(Folded { tables, site: self.site, seen }))
    }
}

impl Folded {
    /// What is declared of each table here.
    fn options(plain: &Connection) -> Result<Vec<(String, String)>> {
        if !plain.table_exists(Some("main"), "__crsql_table")? {
            return Ok(Vec::new());
        }
        let mut select = plain.prepare("SELECT name, options FROM main.__crsql_table WHERE name <> ''")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Gives a connection to our own file that has no extension the snapshot at `path`, before its transaction.
    ///
    /// # Errors
    /// SQLite's.
    pub fn attach(plain: &Connection, path: &str) -> Result<()> {
        plain.pragma_update(None, "foreign_keys", false)?;
        plain.execute("ATTACH ?1 AS snapshot", [path])?;
        Ok(())
    }

    /// Puts it in the place of our replicated tables, in a transaction of a connection that it was attached to.
    /// `cursor` is where reading `peer` goes on.
    ///
    /// # Errors
    /// SQLite's. The transaction is to be rolled back then.
    pub fn exchange(&self, plain: &Connection, peer: &str, cursor: Cursor) -> Result<()> {
        let options = Self::options(plain)?;
        exchange(plain, &self.tables)?;
        for (name, options) in options {
            plain.execute("UPDATE main.__crsql_table SET options = ?2 WHERE name = ?1", [name, options])?;
        }
        // What names tables and columns by ids that are the copy's from now on.
        if plain.table_exists(Some("main"), "__crsql_loser")? {
            plain.execute_batch("DELETE FROM main.__crsql_loser")?;
        }
        plain.execute_batch(
            "DELETE FROM main.__crsql_config WHERE name >= 'former:' AND name < 'former;';
             INSERT INTO main.__crsql_config
             SELECT * FROM snapshot.__crsql_config WHERE name >= 'former:' AND name < 'former;'",
        )?;
        let site = self.site.0.as_slice();
        plain.execute("DELETE FROM main.__crsql_sync_chain WHERE site <> ?1", [site])?;
        let copied = format!("INSERT OR IGNORE INTO main.__crsql_sync_chain SELECT * FROM snapshot.{CHAINS}");
        plain.execute(&copied, [])?;
        // What was waiting for its other chunks is asked for again if it is still lacking.
        plain.execute_batch("DELETE FROM main.__crsql_sync_stage")?;
        tables::forget_cursors(plain)?;
        tables::save_cursor(plain, peer, cursor)?;
        plain.execute("UPDATE main.__crsql_sync_state SET seen = ?1", [self.seen as i64])?;
        Ok(())
    }
}

/// Leaves no trigger in the copy but those that our own extension makes: a relay can choose what it tells us, but it
/// does not get to run anything here.
fn disarm(copy: &Connection, tables: &BTreeSet<Table>) -> Result<()> {
    // Whatever is made from now on comes after this one.
    copy.execute_batch("CREATE TABLE main.__crsql_snapshot_mark (id)")?;
    let mark: i64 = copy.query_row(
        "SELECT rowid FROM main.sqlite_schema WHERE name = '__crsql_snapshot_mark'",
        [],
        |row| row.get(0),
    )?;
    for table in tables {
        copy.query_row("SELECT crsql_commit_alter(?1)", [&table.name], |_| Ok(()))?;
    }
    let mut select =
        copy.prepare("SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND rowid < ?1")?;
    let old =
        select.query_map([mark], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    drop(select);
    for name in old {
        copy.execute(&format!("DROP TRIGGER main.{}", quoted(&name)), [])?;
    }
    copy.execute_batch("DROP TABLE main.__crsql_snapshot_mark")?;
    Ok(())
}

/// The replicated tables of a database.
fn replicated(conn: &Connection) -> Result<BTreeSet<Table>> {
    if !conn.table_exists(Some("main"), "__crsql_table")? {
        return Ok(BTreeSet::new());
    }
    let mut select = conn.prepare(
        "SELECT t.name, c.name || ' ' || c.type || ' ' || c.pk || ' ' || c.\"notnull\" || ' ' || c.hidden || ' '
           || coalesce(d.type, ''), t.options
         FROM main.__crsql_table AS t, pragma_table_xinfo(t.name, 'main') AS c
         LEFT JOIN main.__crsql_column AS d ON d.table_id = t.id AND d.name = c.name
         ORDER BY t.name, c.cid",
    )?;
    let mut rows = select.query([])?;
    let mut tables: Vec<Table> = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, column, options): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        match tables.last_mut().filter(|table| table.name == name) {
            Some(table) => table.columns.push(column),
            None => tables.push(Table { name, columns: vec![shared_options(&options), column] }),
        }
    }
    Ok(tables.into_iter().collect())
}

/// The options of a table that replicas must agree on. How many lost values to keep is each one's own affair; it is the
/// last of them.
fn shared_options(options: &str) -> String {
    let own = options.find("\"losers\"").unwrap_or(options.len());
    options[..own].trim_end_matches([',', '}']).to_owned()
}

/// Something here that has the name of one of their tables and is not replicated.
fn taken(conn: &Connection, theirs: &BTreeSet<Table>, mine: &BTreeSet<Table>) -> Result<Option<String>> {
    let mut find = conn.prepare("SELECT name FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE")?;
    for table in theirs.iter().filter(|table| !mine.contains(*table)) {
        if let Some(name) = find.query_row([&table.name], |row| row.get(0)).optional()? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Drops what is replicated here and copies what is replicated there, inside the open transaction.
fn exchange(conn: &Connection, theirs: &BTreeSet<Table>) -> Result<()> {
    let is_copied = |table: &str| {
        let is_ours = OURS.contains(&table) || OURS_BY_PREFIX.iter().any(|prefix| table.starts_with(prefix));
        let is_ours = is_ours || table == CHAINS;
        !is_ours && (table.starts_with("__crsql_") || theirs.iter().any(|theirs| theirs.name == table))
    };
    let objects = |schema: &str| -> Result<Vec<[String; 4]>> {
        let sql = format!(
            "SELECT type, name, tbl_name, sql FROM {schema}.sqlite_schema
             WHERE sql IS NOT NULL AND type IN ('table', 'index', 'trigger') ORDER BY rowid"
        );
        let mut select = conn.prepare(&sql)?;
        let rows = select.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
        Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
    };
    let mut mine = objects("main")?;
    mine.retain(|[.., table, _]| is_copied(table));
    let mut copied = objects("snapshot")?;
    copied.retain(|[.., table, _]| is_copied(table));
    for [kind, name, ..] in &mine {
        if kind == "table" {
            conn.execute_batch(&format!("DROP TABLE main.{}", quoted(name)))?;
        }
    }
    for kind in ["table", "index"] {
        for [_, _, _, sql] in copied.iter().filter(|[of, ..]| of == kind) {
            // One statement: the text is the relay's.
            conn.execute(sql, [])?;
        }
    }
    for [_, name, ..] in copied.iter().filter(|[kind, ..]| kind == "table") {
        copy_rows(conn, name)?;
    }
    // Triggers last, or copying would fire them; then what the application has put on its tables.
    let theirs: BTreeSet<&str> = copied.iter().map(|[_, name, ..]| name.as_str()).collect();
    let rest = mine.iter().filter(|[kind, name, ..]| kind != "table" && !theirs.contains(name.as_str()));
    for [_, _, _, sql] in copied.iter().filter(|[kind, ..]| kind == "trigger").chain(rest) {
        conn.execute(sql, [])?;
    }
    let version: i64 = conn.query_row("PRAGMA main.user_version", [], |row| row.get(0))?;
    if version == 0 {
        let version: i64 = conn.query_row("PRAGMA snapshot.user_version", [], |row| row.get(0))?;
        conn.pragma_update(Some("main"), "user_version", version)?;
    }
    Ok(())
}

/// Copies all rows. As `SELECT *` into an empty table of the same form SQLite copies the pages' cells as they are,
/// which is several times as fast as inserting.
fn copy_rows(conn: &Connection, table: &str) -> Result<()> {
    let name = quoted(table);
    let has_generated: bool = conn
        .prepare("SELECT 1 FROM pragma_table_xinfo(?1, 'snapshot') WHERE hidden <> 0")?
        .exists([table])?;
    let columns = match has_generated {
        false => String::new(),
        true => {
            let mut select =
                conn.prepare("SELECT name FROM pragma_table_xinfo(?1, 'snapshot') WHERE hidden = 0")?;
            let names = select.query_map([table], |row| row.get::<_, String>(0))?;
            names.map(|name| Ok(quoted(&name?))).collect::<Result<Vec<_>>>()?.join(", ")
        }
    };
    let sql = match columns.as_str() {
        "" => format!("INSERT INTO main.{name} SELECT * FROM snapshot.{name}"),
        columns => format!("INSERT INTO main.{name} ({columns}) SELECT {columns} FROM snapshot.{name}"),
    };
    conn.execute(&sql, [])?;
    let counts = "SELECT 1 FROM snapshot.sqlite_schema WHERE name = 'sqlite_sequence'";
    let has_counter: bool = conn.prepare(counts)?.exists([])?
        && conn.prepare("SELECT 1 FROM snapshot.sqlite_sequence WHERE name = ?1")?.exists([table])?;
    if has_counter {
        conn.execute("DELETE FROM main.sqlite_sequence WHERE name = ?1", params![table])?;
        conn.execute(
            "INSERT INTO main.sqlite_sequence SELECT name, seq FROM snapshot.sqlite_sequence WHERE name = ?1",
            params![table],
        )?;
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
