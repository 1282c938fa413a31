//! The replicated tables as this connection knows them.
//!
//! Valid for one `schema_version`; read lazily, so that a database of a thousand replicated tables opens fast.

mod links;

pub use links::{Link, OnDelete, half_raise};

use crate::former::{self, Former};
use crate::options::Options;
use crate::schema::eligibility::ForeignKeyPolicy;
use crate::schema::table::IndexedColumn;
use crate::schema::triggers::CaptureIds;
use crate::schema::{self, Ident, KeyShape, TableInfo};
use crate::sqlite::{Db, Error, Result, Statement, ValueRef};
use crate::store::{Columns, is_part};
use crsql_core::column::ColumnType;
use crsql_core::key::{Affinity, Collation, KeyColumn};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Where a table's clocks lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// The rowid is the key.
    Integer,
    /// Live rows by rowid, tombstones by packed key. The name reaches the rowid in SQL.
    Rowid(&'static str),
    /// Everything by packed key: WITHOUT ROWID, or no name reaches the rowid.
    Packed,
}

/// A replicated column besides the key.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its id, for ever: renames keep it.
    pub id: u32,
    /// Its name now.
    pub name: String,
    /// The default as SQL.
    pub default_sql: Option<String>,
    /// What its cells are called among replicas.
    pub cell: String,
    /// What its cells are: see [`Typed`].
    pub kind: ColumnType,
}

/// A column of a type other than register. It is there twice among a table's columns: as the register that is its
/// base, and once more, under another id, for the cells of its type.
#[derive(Clone, Debug)]
pub struct Typed {
    /// The id of the register.
    pub register: u32,
    /// The id of the cells of its type.
    pub slot: u32,
    /// Its type.
    pub kind: ColumnType,
    /// Which of the cells that a site has of a text it is for; of every other type a site has one.
    pub level: usize,
    /// Its name now.
    pub name: String,
    /// What SQLite makes of values.
    pub affinity: Affinity,
}

/// A replicated table.
pub struct Table {
    /// Its id in `__crsql_table`.
    pub id: u32,
    /// Its name now.
    pub name: String,
    /// Where its clocks lie.
    pub shape: Shape,
    /// The key's columns, in key order.
    pub key_names: Vec<String>,
    /// What decides the identity of each.
    pub key_columns: Vec<KeyColumn>,
    /// The other replicated columns, in table order; behind them, the cells of those that have a type.
    pub columns: Vec<Column>,
    /// How many of `columns` are registers.
    pub registers: usize,
    /// The columns of a type other than register; few.
    pub typed: Vec<Typed>,
    /// The ids that an insert writes: all registers, but of a column with a type the cells of that type.
    pub all: Columns,
    /// Columns that the installed update triggers do not name yet.
    pub untriggered: Columns,
    /// Unique indexes besides the key in which rows may clash, since the table says what happens then.
    pub clashes: Vec<Vec<Term>>,
    /// The columns in those.
    pub unique: Columns,
    /// What its rows need to be shown.
    pub links: Vec<Link>,
    /// The tables whose rows need rows of this one.
    pub referrers: Vec<u32>,
    /// Merges write it while SQLite enforces no FOREIGN KEYs: it has some, or is in one, that say who sees to that.
    pub is_unenforced: bool,
    /// The schema's triggers hear of what merges do to its rows.
    pub fires: bool,
    /// A trigger of the schema that must not fire in a merge, if there is one: see [`crate::merge::fire::half_raise`].
    pub half_raise: Option<String>,
    /// Whether its rows are shown hangs on other rows, or theirs on its.
    pub is_related: bool,
    /// How many values that lost a merge are kept; 0: none.
    pub losers: u32,
    /// Names that columns had, with their ids: see [`crate::former`].
    pub formers: Vec<(String, u32)>,
    /// It or a column of it was renamed, and the catalogue does not know yet.
    pub is_renamed: bool,
    /// The shape in SQLite's words.
    pub info: TableInfo,
    /// Statements on the base table.
    statements: RefCell<Vec<CachedStatement>>,
}

/// A column as a unique index sees it.
#[derive(Clone, Debug)]
pub struct Term {
    /// Its name.
    pub column: String,
    /// Its place in the key, if it is of the key.
    pub key: Option<usize>,
    /// The collating sequence of the index.
    pub collation: String,
}

/// A statement, what it is for, and the columns it writes.
type CachedStatement = (Use, Columns, Rc<RefCell<Statement>>);

/// What a cached statement on a base table does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Rowid by key.
    FindRowid,
    /// INSERT with the columns given beside.
    Insert,
    /// UPDATE of the columns given beside.
    Update,
    /// DELETE of one row.
    Delete,
    /// Whether a row is there.
    Exists,
    /// The key of the row with this key, or with this rowid.
    Candidate {
        /// By the rowid.
        by_rowid: bool,
    },
    /// Sets the key's spelling.
    Spell,
}

/// Statements kept for one table.
const STATEMENTS_MAX: usize = 64;

impl Table {
    /// Rows of it may be hidden.
    pub fn hides(&self) -> bool {
        !self.clashes.is_empty() || !self.links.is_empty()
    }

    /// Whether the key's stored spelling may differ from its canonical form, judged by type alone.
    pub fn column(&self, id: u32) -> Option<&Column> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// The column whose cells are called `cell` among replicas.
    pub fn column_of_cell(&self, cell: &str) -> Option<&Column> {
        let found = self.columns.iter().find(|column| column.cell == cell);
        if found.is_none() && !self.formers.is_empty() { self.column_once_called(cell) } else { found }
    }

    #[cold]
    fn column_once_called(&self, cell: &str) -> Option<&Column> {
        let is_it = |column: &&Column, name: &str, id: u32| {
            let typed = self.typed.iter().find(|typed| typed.slot == column.id);
            let (register, level) = typed.map_or((column.id, 0), |typed| (typed.register, typed.level));
            register == id && column.kind.level_name(name, level) == cell
        };
        let mut formers = self.formers.iter();
        formers.find_map(|(name, id)| self.columns.iter().find(|column| is_it(column, name, *id)))
    }

    /// The column with a type that has the id `id`, of its register or of the cells of its type.
    #[inline]
    pub fn typed(&self, id: u32) -> Option<&Typed> {
        self.typed.iter().find(|typed| typed.register == id || typed.slot == id)
    }

    /// Where the table's list has the base table's column of the column at `index`.
    #[inline]
    pub fn base_column(&self, index: usize) -> usize {
        if index < self.registers { index } else { self.base_of_typed(index) }
    }

    #[cold]
    fn base_of_typed(&self, index: usize) -> usize {
        let slot = self.columns[index].id;
        let register = self.typed(slot).map(|typed| typed.register);
        self.columns.iter().position(|column| Some(column.id) == register).unwrap_or(0)
    }

    /// The table's name for SQL.
    pub fn sql_name(&self) -> String {
        format!("main.{}", Ident(&self.name))
    }

    /// The condition that finds a row by its place: one parameter for a rowid, else one for each key column.
    pub fn place_condition(&self) -> String {
        match self.shape {
            Shape::Integer => format!("{} = ?1", Ident(&self.key_names[0])),
            Shape::Rowid(name) => format!("{name} = ?1"),
            Shape::Packed => self.key_condition(),
        }
    }

    /// The condition that finds a row by its key's columns, parameters from ?1.
    pub fn key_condition(&self) -> String {
        // The collation of the key's index, which need not be the column's.
        let terms = self.key_names.iter().zip(&self.key_columns).enumerate();
        terms
            .map(|(i, (name, column))| {
                let collation = match column.collation {
                    Collation::Binary => "BINARY",
                    Collation::NoCase => "NOCASE",
                    Collation::Rtrim => "RTRIM",
                };
                format!("{} = ?{} COLLATE {collation}", Ident(name), i + 1)
            })
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// As [`Table::key_condition`], with each column's own collation spelled out.
    pub fn collated_key_condition(&self) -> String {
        let columns = self.info.primary_key.iter().map(|at| &self.info.columns[*at]);
        let terms = columns.enumerate().map(|(i, column)| {
            format!("{} COLLATE {} = ?{}", Ident(&column.name), Ident(&column.collation), i + 1)
        });
        terms.collect::<Vec<_>>().join(" AND ")
    }

    /// The key's columns for a SELECT list.
    pub fn key_list(&self) -> String {
        self.key_names.iter().map(|name| Ident(name).to_string()).collect::<Vec<_>>().join(", ")
    }

    /// A cached statement on the base table, made from `sql` on first use.
    pub fn statement(
        &self,
        db: Db,
        does: Use,
        sql: impl FnOnce() -> String,
    ) -> Result<Rc<RefCell<Statement>>> {
        self.statement_on(db, does, &Columns::new(), sql)
    }

    /// As [`Table::statement`], of one that writes `columns`.
    pub fn statement_on(
        &self,
        db: Db,
        does: Use,
        columns: &Columns,
        sql: impl FnOnce() -> String,
    ) -> Result<Rc<RefCell<Statement>>> {
        // A handful, nearly always: looking through them is quicker than hashing what is looked for.
        let is_it = |known: &&CachedStatement| known.0 == does && known.1 == *columns;
        if let Some((.., known)) = self.statements.borrow().iter().find(is_it) {
            return Ok(known.clone());
        }
        crate::store::let_close(db)?;
        let made = Rc::new(RefCell::new(db.prepare_persistent(&sql())?));
        let mut statements = self.statements.borrow_mut();
        // A wide table written in ever new combinations of columns must not collect statements for ever.
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.push((does, columns.clone(), made.clone()));
        Ok(made)
    }

    /// Gives up the cached statements.
    fn take_statements(&self) -> Vec<CachedStatement> {
        self.statements.try_borrow_mut().map(|mut known| std::mem::take(&mut *known)).unwrap_or_default()
    }
}

/// All tables, by id and by name.
#[derive(Default)]
pub struct Catalog {
    is_loaded: bool,
    by_name: HashMap<String, u32>,
    /// Tables whose rows wait for their parents.
    waiting: Vec<(u32, ForeignKeyPolicy)>,
    /// Tables whose rows are shown without their parents.
    lax: Vec<u32>,
    /// Tables whose triggers fire during merges.
    firing: Vec<u32>,
    tables: HashMap<u32, Option<Rc<Table>>>,
    /// Names that tables and columns had.
    formers: Vec<Former>,
    /// Tables that were renamed, and the catalogue does not know yet.
    renamed: Vec<u32>,
    /// The table that was asked for by name last.
    last: Option<Rc<Table>>,
}

impl Catalog {
    /// Forgets everything: the schema changed.
    pub fn forget(&mut self) {
        *self = Catalog::default();
    }

    /// Gives up every cached statement on base tables, for the caller to drop once nothing is borrowed.
    pub fn take_statements(&self) -> Vec<Rc<RefCell<Statement>>> {
        let tables = self.tables.values().flatten();
        tables.flat_map(|table| table.take_statements()).map(|(.., statement)| statement).collect()
    }

    fn load(&mut self, db: Db) -> Result<()> {
        if self.is_loaded {
            return Ok(());
        }
        // A rename reaches the trigger's table at once and our catalogue later, so the triggers are asked: in one
        // pass, because a join would look through all of `sqlite_master`, which has no index, for every table.
        let mut by_id: HashMap<u32, String> = HashMap::new();
        let mut triggers = db.prepare(
            "SELECT name, tbl_name FROM main.sqlite_master
             WHERE type = 'trigger' AND name GLOB '__crsql_[0-9]*_insert'",
        )?;
        while triggers.step()? {
            let id = triggers.column_str(0)?.strip_prefix("__crsql_").and_then(|n| n.strip_suffix("_insert"));
            if let Some(id) = id.and_then(|id| id.parse().ok()) {
                by_id.insert(id, triggers.column_str(1)?.to_owned());
            }
        }
        self.formers = former::all(db)?;
        let mut tables = db.prepare("SELECT id, name, options FROM main.__crsql_table")?;
        while tables.step()? {
            let id = tables.column_i64(0) as u32;
            let Some(name) = by_id.remove(&id) else {
                self.tables.insert(id, None);
                continue;
            };
            let stored = tables.column_str(1)?;
            if stored != name {
                self.renamed.push(id);
                self.formers.push(Former { table: id, column: 0, name: stored.to_owned() });
            }
            self.note_policy(id, tables.column_str(2).unwrap_or_default());
            self.by_name.insert(name, id);
        }
        self.is_loaded = true;
        Ok(())
    }

    /// The id of the replicated table called exactly `name`.
    pub fn id_of(&mut self, db: Db, name: &str) -> Result<Option<u32>> {
        self.load(db)?;
        Ok(self.by_name.get(name).copied())
    }

    /// How the replicated table called `name`, in any letter case, is spelled.
    pub fn spelling_of(&mut self, db: Db, name: &str) -> Result<Option<String>> {
        self.load(db)?;
        Ok(self.by_name.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned())
    }

    /// The replicated table called exactly `name`.
    pub fn named(&mut self, db: Db, name: &str) -> Result<Option<Rc<Table>>> {
        if let Some(last) = &self.last
            && last.name == name
        {
            return Ok(Some(last.clone()));
        }
        let Some(id) = self.id_of(db, name)? else { return Ok(None) };
        let found = self.table(db, id)?;
        self.last = found.clone().filter(|table| table.name == name);
        Ok(found)
    }

    /// The replicated table that is called `name`, or was and nothing else is now.
    pub fn once_named(&mut self, db: Db, name: &str) -> Result<Option<Rc<Table>>> {
        let found = self.named(db, name)?;
        if found.is_some() || self.formers.is_empty() {
            return Ok(found);
        }
        let is_it = |former: &&Former| former.column == 0 && former.name == name;
        let Some(id) = self.formers.iter().find(is_it).map(|former| former.table) else { return Ok(None) };
        let taken =
            "SELECT 1 FROM main.sqlite_master WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
        match db.prepare(taken)?.query_i64(&[ValueRef::Text(name.as_bytes())])? {
            Some(_) => Ok(None),
            None => self.table(db, id),
        }
    }

    /// The ids of all tables that exist.
    pub fn ids(&mut self, db: Db) -> Result<Vec<u32>> {
        self.load(db)?;
        let mut ids: Vec<u32> = self.by_name.values().copied().collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// A table by id; `None` when its base table is gone.
    pub fn table(&mut self, db: Db, id: u32) -> Result<Option<Rc<Table>>> {
        if let Some(known) = self.tables.get(&id) {
            return Ok(known.clone());
        }
        self.load(db)?;
        let name = self.by_name.iter().find(|(_, known)| **known == id).map(|(name, _)| name.clone());
        let table = match name {
            Some(name) => describe(db, id, &name)?,
            None => None,
        };
        let table = match table {
            None => None,
            Some(mut table) => {
                self.link(db, &mut table)?;
                Some(table)
            }
        };
        let table = table.map(|mut table| {
            let recorded = self.formers.iter().filter(|former| former.table == id && former.column != 0);
            table.formers.extend(recorded.map(|former| (former.name.clone(), former.column)));
            table.is_renamed |= self.renamed.contains(&id);
            Rc::new(table)
        });
        self.tables.insert(id, table.clone());
        Ok(table)
    }
}

/// Reads a table as it is now.
pub fn describe(db: Db, id: u32, name: &str) -> Result<Option<Table>> {
    let Some(info) = schema::describe(&db, name)? else { return Ok(None) };
    let shape = match info.key_shape() {
        KeyShape::Integer(_) => Shape::Integer,
        KeyShape::RowidAndKey(rowid) => Shape::Rowid(rowid),
        KeyShape::Key => Shape::Packed,
    };
    let Some(key_columns) = info.key_columns() else {
        return Err(Error::refused(format_args!(
            "the key of the replicated table {name:?} has a collation other than BINARY, NOCASE and RTRIM; \
             run crsql_as_table on it or change it back"
        )));
    };
    let triggered: Vec<(i64, String)> =
        info.capture_triggers.iter().flat_map(|t| schema::names::column_names_in(&t.sql)).collect();
    let mut known = HashMap::new();
    let mut last = 0;
    let mut types = HashMap::new();
    let mut select =
        db.prepare("SELECT id, name, type, slot FROM main.__crsql_column WHERE table_id = ?1")?;
    let args = [ValueRef::Integer(i64::from(id))];
    let mut rows = select.query(&args)?;
    while rows.step()? {
        let (id, slot) = (rows.column_i64(0) as u32, rows.column_i64(3) as u32);
        last = last.max(id).max(if is_part(slot) { 0 } else { slot });
        known.insert(rows.column_str(1)?.to_owned(), id);
        if slot != 0 {
            let is_known =
                |kind: &ColumnType| *kind != ColumnType::Register && crate::typed::is_built_in(*kind);
            let kind = ColumnType::of_name(rows.column_str(2)?).filter(is_known);
            let kind = kind.ok_or_else(|| unknown_type(name, rows.column_str(1), rows.column_str(2)))?;
            types.insert(id, (kind, slot));
        }
    }
    last = triggered.iter().map(|(id, _)| *id as u32).fold(last, u32::max);
    let mut columns = Vec::new();
    let mut typed = Vec::new();
    let mut untriggered = Columns::new();
    let mut formers = Vec::new();
    for position in info.value_columns() {
        let column = &info.columns[position];
        let by_trigger = triggered.iter().find(|(_, name)| *name == column.name).map(|(id, _)| *id as u32);
        let id = by_trigger.or_else(|| known.get(&column.name).copied()).unwrap_or_else(|| {
            last += 1;
            last
        });
        match by_trigger {
            None => untriggered.insert(id),
            Some(id) => {
                let stored = known.iter().find(|(name, known)| **known == id && **name != column.name);
                formers.extend(
                    stored.filter(|(name, _)| !name.is_empty()).map(|(name, id)| (name.clone(), *id)),
                );
            }
        }
        if let Some((kind, slot)) = types.get(&id).copied() {
            for level in 0..kind.levels() {
                let (name, affinity, slot) = (column.name.clone(), column.affinity, slot + level as u32);
                typed.push(Typed { register: id, slot, kind, level, name, affinity });
            }
        }
        columns.push(Column {
            id,
            name: column.name.clone(),
            default_sql: column.default_sql.clone(),
            cell: ColumnType::Register.cell_name(&column.name).into_owned(),
            kind: ColumnType::Register,
        });
    }
    let registers = columns.len();
    let mut all: Columns = columns.iter().map(|column| column.id).collect();
    for column in &typed {
        all.remove(column.register);
        if column.level == 0 {
            all.insert(column.slot);
        }
        columns.push(Column {
            id: column.slot,
            name: column.name.clone(),
            default_sql: None,
            cell: column.kind.level_name(&column.name, column.level).into_owned(),
            kind: column.kind,
        });
    }
    let options = Options::stored(db, id)?;
    let clashes = clashes(&options, &info);
    let terms = clashes.iter().flatten();
    let unique = terms
        .filter_map(|term| columns.iter().find(|column: &&Column| column.name == term.column))
        .map(|column| column.id)
        .collect();
    Ok(Some(Table {
        id,
        is_related: !clashes.is_empty(),
        is_unenforced: false,
        fires: false,
        half_raise: None,
        links: Vec::new(),
        referrers: Vec::new(),
        clashes,
        unique,
        losers: options.losers.unwrap_or(0),
        is_renamed: !formers.is_empty(),
        formers,
        name: info.name.clone(),
        shape,
        key_names: info.key().map(|column| column.name.clone()).collect(),
        key_columns,
        all,
        columns,
        registers,
        typed,
        untriggered,
        info,
        statements: RefCell::default(),
    }))
}

/// The unique indexes in which rows may clash.
fn clashes(options: &Options, info: &TableInfo) -> Vec<Vec<Term>> {
    if options.unique.is_none() {
        return Vec::new();
    }
    let term = |term: &IndexedColumn| {
        let column = &info.columns[term.column];
        Term { column: column.name.clone(), key: column.pk_position, collation: term.collation.clone() }
    };
    // Eligibility admits no others; one that came since is SQLite's business alone.
    let known = info.clashing_indexes().filter(|index| !index.expression && !index.partial);
    known.map(|index| index.columns.iter().map(term).collect()).collect()
}

#[cold]
fn unknown_type(table: &str, column: Result<&str>, kind: Result<&str>) -> Error {
    let (column, kind) = (column.unwrap_or_default(), kind.unwrap_or_default());
    Error::refused(format_args!(
        "column {column:?} of table {table:?} is of type {kind:?}, which this crsql does not know; \
         open this database with a newer one, or with one that was built with it"
    ))
}

impl CaptureIds {
    /// The ids of a table and of its columns, those that `is_wanted`.
    pub fn of(table: &Table, is_wanted: impl Fn(u32) -> bool) -> CaptureIds {
        let positions = table.columns[..table.registers]
            .iter()
            .filter(|column| is_wanted(column.id))
            .filter_map(|column| Some((i64::from(column.id), table.info.column(&column.name)?)));
        let (mut typed, columns): (Vec<_>, _) =
            positions.partition(|(id, _)| table.typed(*id as u32).is_some());
        // As an insert numbers them.
        typed.sort_by_key(|(id, _)| table.typed(*id as u32).map(|typed| typed.slot));
        CaptureIds { table: i64::from(table.id), columns, typed }
    }
}
