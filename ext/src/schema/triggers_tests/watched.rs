//! A database whose triggers call stand-ins, which record what they are told.

use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;

use rusqlite::Connection;

use super::ids;
use crate::schema::describe::describe;
use crate::schema::support::{database, db};
use crate::schema::table::TableInfo;
use crate::schema::triggers::{Trigger, capture_triggers, is_capture_trigger};
use crate::sqlite::{
    Access, Args, Flags, IndexInfo, Module, OnConflict, Output, Result, Risk, RowChange, VtabConfig,
    register_aggregate, register_function, register_module,
};

/// The calls, and what else SQLite told the tables.
#[derive(Default)]
pub(super) struct Calls(pub RefCell<Vec<String>>, RefCell<Vec<&'static str>>);

impl Calls {
    /// What SQLite tells the tables while `body` runs, besides the calls.
    pub fn notes(&self, body: impl FnOnce()) -> Vec<&'static str> {
        self.1.take();
        body();
        self.1.take()
    }

    fn push(&self, short: &str, args: &Args<'_>) {
        let values: Vec<_> = args.iter().map(|value| format!("{value:?}")).collect();
        self.0.borrow_mut().push(format!("{short} {}", plain(&values)));
    }
}

pub(super) struct Watched {
    pub connection: Connection,
    pub calls: Rc<Calls>,
}

impl Watched {
    /// A database made by `sql`, whose table `t` is watched.
    pub fn new(sql: &str) -> Watched {
        Watched::over(database(sql), "t")
    }

    pub fn over(connection: Connection, name: &str) -> Watched {
        let calls = Rc::new(Calls::default());
        let functions: [(&CStr, &str); 5] = [
            (c"crsql_capture_insert", "insert"),
            (c"crsql_capture_key", "key"),
            (c"crsql_capture_candidate", "candidate"),
            (c"crsql_capture_before", "before"),
            (c"crsql_capture_after", "after"),
        ];
        for (function, short) in functions {
            register_function(
                db(&connection),
                function,
                -1,
                Flags::INNOCUOUS,
                &calls,
                move |calls: &Calls, call| {
                    calls.push(short, &call.args());
                    call.set_i64(0);
                    Ok(())
                },
            )
            .unwrap();
        }
        register_module::<Capture>(db(&connection), c"crsql_capture", &calls).unwrap();
        register_module::<Ahead>(db(&connection), c"crsql_capture_ahead", &calls).unwrap();
        for (aggregate, short) in [(c"crsql_capture_update", "update"), (c"crsql_capture_delete", "delete")] {
            register_aggregate(
                db(&connection),
                aggregate,
                Flags::INNOCUOUS,
                &calls,
                move |calls: &Calls, args| {
                    calls.push(short, args);
                    Ok(())
                },
            )
            .unwrap();
        }
        let watched = Watched { connection, calls };
        watched.install(&capture_triggers(&watched.table(name), &ids(&watched.table(name))));
        watched
    }

    pub fn table(&self, name: &str) -> TableInfo {
        describe(&db(&self.connection), name).unwrap().unwrap()
    }

    pub fn install(&self, triggers: &[Trigger]) {
        for trigger in triggers {
            assert!(is_capture_trigger(&trigger.name), "{}", trigger.name);
            self.connection.execute_batch(&trigger.drop()).unwrap();
            self.connection.execute_batch(&trigger.create).unwrap();
        }
    }

    /// The calls that `sql` leads to.
    pub fn calls(&self, sql: &str) -> Vec<String> {
        self.calls.0.borrow_mut().clear();
        self.connection.execute_batch(sql).unwrap();
        self.calls.0.borrow().iter().filter(|call| *call != "begin").cloned().collect()
    }
}

/// `Integer(1)` becomes `1`, and `Text([97])` `a`.
fn plain(values: &[String]) -> String {
    let readable = |value: &String| match value.strip_prefix("Text([").and_then(|v| v.strip_suffix("])")) {
        Some(bytes) => bytes.split(", ").filter_map(|b| b.parse().ok().map(|b: u8| b as char)).collect(),
        None => value.replace("Integer(", "").replace(')', ""),
    };
    values.iter().map(readable).collect::<Vec<_>>().join(" ")
}

/// Stands in for the virtual table that the triggers enlist.
struct Capture(Rc<Calls>);

impl Module for Capture {
    type State = Calls;
    type Cursor = ();

    const SCHEMA: &'static CStr = c"CREATE TABLE x (op, a, b, c, d, e)";
    const ACCESS: Access = Access::Transactional;

    fn connect(calls: &Rc<Calls>, config: &VtabConfig) -> Result<Capture> {
        config.set_risk(Risk::Innocuous)?;
        config.set_constraint_support()?;
        Ok(Capture(Rc::clone(calls)))
    }

    fn update(&self, change: &RowChange<'_>) -> Result<i64> {
        if let (RowChange::Insert { values, .. }, OnConflict::Replace) = (change, change.on_conflict()) {
            self.0.push("replace", values);
        }
        Ok(0)
    }

    fn savepoint(&self, _: i32) -> Result<()> {
        self.0.1.borrow_mut().push("savepoint");
        Ok(())
    }

    fn skips(&self, change: &RowChange<'_>) -> bool {
        change.on_conflict() == OnConflict::Ignore
    }

    fn begin(&self) -> Result<()> {
        self.0.0.borrow_mut().push("begin".to_owned());
        Ok(())
    }

    fn best_index(&self, _: &mut IndexInfo<'_>) -> Result<bool> {
        Ok(true)
    }

    fn open(&self) -> Result<()> {
        Ok(())
    }

    fn filter(&self, (): &mut (), _: i32, _: &str, _: Args<'_>) -> Result<()> {
        Ok(())
    }

    fn next(&self, (): &mut ()) -> Result<()> {
        Ok(())
    }

    fn eof(&self, (): &()) -> bool {
        true
    }

    fn column(&self, (): &mut (), _: usize, _: &Output<'_>) -> Result<()> {
        Ok(())
    }

    fn rowid(&self, (): &()) -> Result<i64> {
        Ok(0)
    }
}

/// Stands in for the table that update and delete triggers name.
struct Ahead(Rc<Calls>);

impl Module for Ahead {
    type State = Calls;
    type Cursor = ();

    const SCHEMA: &'static CStr = c"CREATE TABLE x (never)";

    fn connect(calls: &Rc<Calls>, config: &VtabConfig) -> Result<Self> {
        config.set_risk(Risk::Innocuous)?;
        Ok(Ahead(Rc::clone(calls)))
    }

    fn best_index(&self, _: &mut IndexInfo<'_>) -> Result<bool> {
        self.0.1.borrow_mut().push("ahead");
        Ok(true)
    }

    fn open(&self) -> Result<()> {
        Ok(())
    }

    fn filter(&self, (): &mut (), _: i32, _: &str, _: Args<'_>) -> Result<()> {
        panic!("the table is never read")
    }

    fn next(&self, (): &mut ()) -> Result<()> {
        Ok(())
    }

    fn eof(&self, (): &()) -> bool {
        true
    }

    fn column(&self, (): &mut (), _: usize, _: &Output<'_>) -> Result<()> {
        Ok(())
    }

    fn rowid(&self, (): &()) -> Result<i64> {
        Ok(0)
    }
}
