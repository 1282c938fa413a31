//! The module of `crsql_changes`.

use super::insert;
use super::item::{Item, Stream};
use super::plan;
use crate::sqlite::{Access, Args, Error, IndexInfo, Module, Output, Result, Risk, RowChange, VtabConfig};
use crate::state::State;
use crate::store::ROW;
use std::ffi::CStr;
use std::rc::Rc;

/// See [`super`].
pub struct ChangesTable(Rc<State>);

/// A scan, or nothing yet.
#[derive(Default)]
pub struct Cursor {
    stream: Option<Stream>,
    /// The last author looked up.
    site: Option<(u32, [u8; 16])>,
}

fn tell_parked(parked: &crate::park::Loose, column: usize, output: &Output<'_>) {
    match column {
        plan::TABLE => output.set_text(&parked.table),
        plan::PK => output.set_blob(&parked.pk),
        plan::CID => output.set_text(&parked.cid),
        plan::VAL => output.set_value(parked.value.as_ref()),
        plan::COL_VERSION => output.set_i64(parked.col_version as i64),
        plan::DB_VERSION => output.set_i64(parked.db_version as i64),
        plan::SITE_ID => output.set_blob(&parked.stamp.site.0),
        plan::CL => output.set_i64(parked.cl as i64),
        plan::SEQ => output.set_i64(parked.stamp.seq as i64),
        _ => output.set_i64(parked.stamp.version as i64),
    }
}

impl Module for ChangesTable {
    type State = State;
    type Cursor = Cursor;

    const SCHEMA: &'static CStr = c"CREATE TABLE x(
        [table] TEXT NOT NULL, [pk] BLOB NOT NULL, [cid] TEXT NOT NULL, [val] ANY, [col_version] INTEGER NOT NULL,
        [db_version] INTEGER NOT NULL, [site_id] BLOB NOT NULL, [cl] INTEGER NOT NULL, [seq] INTEGER NOT NULL,
        [site_version] INTEGER HIDDEN)";
    const ACCESS: Access = Access::Transactional;

    fn connect(state: &Rc<State>, config: &VtabConfig) -> Result<Self> {
        config.set_risk(Risk::Innocuous)?;
        Ok(ChangesTable(state.clone()))
    }

    fn best_index(&self, index: &mut IndexInfo<'_>) -> Result<bool> {
        plan::choose(index);
        Ok(true)
    }

    fn open(&self) -> Result<Cursor> {
        Ok(Cursor::default())
    }

    fn filter(&self, cursor: &mut Cursor, number: i32, detail: &str, args: Args<'_>) -> Result<()> {
        let state = &*self.0;
        cursor.stream = None;
        state.check_schema()?;
        if !state.store.borrow_mut().exists()? {
            return Ok(());
        }
        insert::flush(state)?;
        let mut snapshot = state.pool.prepare(state.db, "SELECT id FROM main.__crsql_state")?;
        snapshot.step()?;
        let plan = plan::read(state, number, detail, args)?;
        if !plan.is_empty {
            cursor.stream = Some(Stream::open(state, snapshot, plan)?);
        }
        Ok(())
    }

    fn next(&self, cursor: &mut Cursor) -> Result<()> {
        match &mut cursor.stream {
            Some(stream) => stream.advance(&self.0),
            None => Ok(()),
        }
    }

    fn eof(&self, cursor: &Cursor) -> bool {
        cursor.stream.as_ref().is_none_or(Stream::is_at_end)
    }

    fn column(&self, cursor: &mut Cursor, column: usize, output: &Output<'_>) -> Result<()> {
        let Cursor { stream, site } = cursor;
        let Some(stream) = stream else { return Ok(()) };
        let span = match stream.item() {
            None => return Ok(()),
            Some(Item::Parked(parked)) => {
                tell_parked(parked, column, output);
                return Ok(());
            }
            Some(Item::Clock(span)) => span,
        };
        match column {
            plan::TABLE => {
                if let Some(reader) = stream.reader() {
                    output.set_text(&reader.table().name);
                }
            }
            plan::PK => output.set_blob(stream.key()?),
            plan::CID => match (stream.reader(), stream.column()) {
                (Some(reader), Some(position)) if span.slot() != ROW => {
                    output.set_text(&crate::park::cid_of(&reader.table().columns[position].cell));
                }
                _ => output.set_text(crate::park::SENTINEL),
            },
            plan::VAL => {
                if let (Some(reader), Some(position), true) =
                    (stream.reader(), stream.column(), span.slot() != ROW)
                {
                    match reader.table().typed.is_empty() {
                        true => output.set_column(reader.statement(), reader.column_at(position)),
                        false => output.set_value(stream.value(&self.0, position)?.as_ref()),
                    }
                }
            }
            plan::COL_VERSION if span.slot() == ROW => output.set_i64(span.cl() as i64),
            plan::COL_VERSION => output.set_i64(span.group().col_version as i64),
            plan::DB_VERSION => output.set_i64(span.db_version() as i64),
            plan::SITE_ID => {
                let ordinal = span.group().site;
                let known = match site {
                    Some((known, id)) if *known == ordinal => *id,
                    _ => self.0.store.borrow_mut().sites.id(self.0.db, ordinal)?.0,
                };
                *site = Some((ordinal, known));
                output.set_blob(&known);
            }
            plan::CL => output.set_i64(span.cl() as i64),
            plan::SEQ => output.set_i64(span.seq() as i64),
            _ => output.set_i64(span.version() as i64),
        }
        Ok(())
    }

    fn rowid(&self, cursor: &Cursor) -> Result<i64> {
        let Some(stream) = &cursor.stream else { return Ok(0) };
        // The same change has the same rowid in every scan: SQLite compares them when it plans an OR.
        match stream.item() {
            None => Ok(0),
            Some(Item::Parked(parked)) => Ok(insert::Mixer::default()
                .bytes(&parked.pk)
                .bytes(parked.cid.as_bytes())
                .bytes(parked.table.as_bytes())
                .bytes(parked.part())
                .rowid()),
            Some(Item::Clock(span)) => {
                let place = match (span.rowid(), span.packed()) {
                    (Some(rowid), _) => insert::Mixer::default().number(rowid as u64),
                    (None, key) => insert::Mixer::default().bytes(key.unwrap_or_default()),
                };
                Ok(place
                    .number(u64::from(span.table()))
                    .number(insert::cell_number(span.slot(), span.group().site))
                    .rowid())
            }
        }
    }

    fn update(&self, change: &RowChange<'_>) -> Result<i64> {
        match change {
            RowChange::Insert { values, .. } => {
                self.0.is_joining.set(false);
                insert::insert(&self.0, values)
            }
            _ => Err(Error::Misuse(
                "Only INSERT and SELECT statements are allowed against the crsql changes table".into(),
            )),
        }
    }

    fn begin(&self) -> Result<()> {
        // No trigger tells of an ALTER before a merge, as it does before a local write.
        self.0.suspect_schema();
        self.0.is_joining.set(true);
        self.0.begin()?;
        insert::open_for_transaction(&self.0);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        insert::close_for_commit(&self.0)?;
        self.0.sync()
    }

    fn commit(&self) {
        self.0.committed();
    }

    fn rollback(&self) {
        self.0.rollback();
    }

    fn savepoint(&self, n: i32) -> Result<()> {
        insert::flush(&self.0)?;
        self.0.savepoint(n)?;
        insert::open_bracket(&self.0, n);
        Ok(())
    }

    fn release(&self, n: i32) -> Result<()> {
        insert::close_bracket(&self.0, n)?;
        self.0.release(n);
        Ok(())
    }

    fn rollback_to(&self, n: i32) -> Result<()> {
        insert::drop_bracket(&self.0, n);
        self.0.rollback_to(n);
        Ok(())
    }

    fn disconnect(&self) {
        self.0.disconnect();
    }
}
