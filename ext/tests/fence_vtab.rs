//! The fence's virtual tables: one that keeps its rows in memory and logs what SQLite asks of it.
#![cfg(feature = "static")]

mod support;

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::rc::Rc;

use crsql::sqlite::{
    Access, Args, Db, Error, IndexInfo, Module, OnConflict, Operator, Output, Result, RowChange, Statement,
    Value, ValueRef, VtabConfig, register_module,
};
use support::{message, open, text};

#[derive(Default)]
struct Memory {
    rows: RefCell<Vec<(i64, Value)>>,
    log: RefCell<Vec<String>>,
    /// The method that fails, and whether it panics.
    fault: Cell<Option<(&'static str, bool)>>,
    cached: RefCell<Option<Statement>>,
    db: Cell<Option<Db>>,
}

impl Memory {
    fn log(&self, entry: impl Into<String>) {
        self.log.borrow_mut().push(entry.into());
    }

    fn take_log(&self) -> Vec<String> {
        self.log.take()
    }

    fn fault(&self, method: &'static str) -> Result<()> {
        match self.fault.get() {
            Some((at, true)) if at == method => panic!("panic in {method}"),
            Some((at, false)) if at == method => Err(Error::Constraint(format!("error in {method}"))),
            _ => Ok(()),
        }
    }
}

struct Table(Rc<Memory>);

impl Module for Table {
    type State = Memory;
    type Cursor = (Vec<(i64, Value)>, usize);
    const SCHEMA: &'static CStr = c"CREATE TABLE x(a, b HIDDEN)";
    const ACCESS: Access = Access::Transactional;

    fn connect(state: &Rc<Memory>, config: &VtabConfig) -> Result<Table> {
        state.fault("connect")?;
        config.set_constraint_support()?;
        state.log("connect");
        state.db.set(Some(config.db()));
        Ok(Table(Rc::clone(state)))
    }

    fn best_index(&self, index: &mut IndexInfo<'_>) -> Result<bool> {
        self.0.fault("best_index")?;
        let equal = index.constraints().find(|c| c.usable && c.column == 0 && c.operator == Operator::Eq);
        if let Some(equal) = equal {
            index.take(equal.index, 0, true);
            index.set_plan(1);
            index.set_detail("a =");
        }
        let ascending =
            index.order_by().len() == 1 && index.order_by().all(|t| t.column == -1 && !t.descending);
        if ascending {
            index.set_order_by_consumed();
        }
        index.set_cost(10.0);
        index.set_rows(10);
        Ok(true)
    }

    fn open(&self) -> Result<Self::Cursor> {
        self.0.fault("open")?;
        Ok((Vec::new(), 0))
    }

    fn filter(&self, cursor: &mut Self::Cursor, plan: i32, detail: &str, args: Args<'_>) -> Result<()> {
        self.0.fault("filter")?;
        assert_eq!((plan, detail), if plan == 1 { (1, "a =") } else { (0, "") });
        let keep = |value: &Value| args.is_empty() || value.as_ref().same(&args.get(0));
        *cursor = (self.0.rows.borrow().iter().filter(|(_, v)| keep(v)).cloned().collect(), 0);
        Ok(())
    }

    fn next(&self, cursor: &mut Self::Cursor) -> Result<()> {
        self.0.fault("next")?;
        cursor.1 += 1;
        Ok(())
    }

    fn eof(&self, cursor: &Self::Cursor) -> bool {
        cursor.1 >= cursor.0.len()
    }

    fn column(&self, cursor: &mut Self::Cursor, column: usize, output: &Output<'_>) -> Result<()> {
        self.0.fault("column")?;
        if column == 0 {
            output.set_value(cursor.0[cursor.1].1.as_ref());
        }
        Ok(())
    }

    fn rowid(&self, cursor: &Self::Cursor) -> Result<i64> {
        self.0.fault("rowid")?;
        Ok(cursor.0[cursor.1].0)
    }

    fn update(&self, change: &RowChange<'_>) -> Result<i64> {
        self.0.fault("update")?;
        let mut rows = self.0.rows.borrow_mut();
        match *change {
            RowChange::Insert { rowid, values, .. } => {
                let id = match rowid {
                    ValueRef::Integer(id) => id,
                    _ => rows.iter().map(|r| r.0).max().unwrap_or(0) + 1,
                };
                self.0.log(format!("insert {id} {:?} or {:?}", values.get(0), change.on_conflict()));
                if rows.iter().any(|r| r.0 == id) {
                    if change.on_conflict() != OnConflict::Replace {
                        return Err(Error::Constraint(format!("row {id} exists")));
                    }
                    rows.retain(|r| r.0 != id);
                }
                rows.push((id, values.get(0).to_owned_value()));
                Ok(id)
            }
            RowChange::Update { rowid, new_rowid, values, .. } => {
                self.0.log(format!("update {rowid:?} {new_rowid:?}"));
                let ValueRef::Integer(rowid) = rowid else { return Err(Error::refused("no rowid")) };
                for row in rows.iter_mut().filter(|r| r.0 == rowid) {
                    row.1 = values.get(0).to_owned_value();
                }
                Ok(0)
            }
            RowChange::Delete { rowid, .. } => {
                self.0.log(format!("delete {rowid:?}"));
                let ValueRef::Integer(rowid) = rowid else { return Err(Error::refused("no rowid")) };
                rows.retain(|r| r.0 != rowid);
                Ok(0)
            }
        }
    }

    fn begin(&self) -> Result<()> {
        self.0.fault("begin")?;
        self.0.log("begin");
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.0.fault("sync")?;
        self.0.log("sync");
        Ok(())
    }

    fn commit(&self) {
        self.0.log("commit");
    }

    fn rollback(&self) {
        self.0.log("rollback");
    }

    fn savepoint(&self, n: i32) -> Result<()> {
        self.0.log(format!("savepoint {n}"));
        self.0.fault("savepoint")
    }

    fn release(&self, n: i32) -> Result<()> {
        self.0.log(format!("release {n}"));
        Ok(())
    }

    fn rollback_to(&self, n: i32) -> Result<()> {
        self.0.log(format!("rollback to {n}"));
        Ok(())
    }

    fn disconnect(&self) {
        self.0.log("disconnect");
        self.0.cached.take();
    }
}

fn memory() -> (rusqlite::Connection, Rc<Memory>) {
    let (connection, db) = open();
    let state = Rc::new(Memory::default());
    register_module::<Table>(db, c"mem", &state).unwrap();
    (connection, state)
}

#[test]
fn rows_are_written_and_read() {
    let (connection, state) = memory();
    connection
        .execute_batch("INSERT INTO mem VALUES (1), ('x'), (NULL); INSERT INTO mem(rowid, a) VALUES (9, 2.5)")
        .unwrap();
    assert_eq!(connection.last_insert_rowid(), 9);
    assert_eq!(
        text(&connection, "SELECT group_concat(rowid || ':' || quote(a)) FROM mem"),
        "1:1,2:'x',3:NULL,9:2.5"
    );
    assert_eq!(text(&connection, "SELECT rowid FROM mem WHERE a = 'x'"), "2");
    assert_eq!(text(&connection, "SELECT count(*) FROM mem x JOIN mem y ON x.a = y.a"), "3");
    connection.execute_batch("UPDATE mem SET a = 7 WHERE rowid = 3; DELETE FROM mem WHERE a = 'x'").unwrap();
    assert_eq!(text(&connection, "SELECT group_concat(a) FROM mem"), "1,7,2.5");
    let log = state.take_log();
    assert_eq!(log[0], "connect");
    assert!(log.contains(&"update Integer(3) Integer(3)".to_owned()));
}

#[test]
fn it_is_eponymous_only() {
    let (connection, _state) = memory();
    let error = connection.execute_batch("CREATE VIRTUAL TABLE other USING mem").unwrap_err();
    assert_eq!(message(&error), "no such module: mem");
}

#[test]
fn conflict_clauses_arrive() {
    let (connection, state) = memory();
    connection.execute_batch("INSERT INTO mem(rowid, a) VALUES (1, 'old')").unwrap();
    state.take_log();
    for (clause, word, left) in [
        ("ABORT", "Abort", "old"),
        ("IGNORE", "Ignore", "old"),
        ("FAIL", "Fail", "old"),
        ("REPLACE", "Replace", "new"),
    ] {
        let result =
            connection.execute_batch(&format!("INSERT OR {clause} INTO mem(rowid, a) VALUES (1, 'new')"));
        assert_eq!(result.is_ok(), matches!(clause, "IGNORE" | "REPLACE"), "{clause}");
        assert_eq!(text(&connection, "SELECT a FROM mem"), left);
        assert!(state.take_log().iter().any(|entry| entry.ends_with(&format!("or {word}"))), "{clause}");
    }
}

#[test]
fn transactions_and_savepoints_are_told_in_sqlites_order() {
    let (connection, state) = memory();
    connection.execute_batch("SELECT * FROM mem").unwrap();
    state.take_log();
    connection.execute_batch("INSERT INTO mem VALUES (1)").unwrap();
    let log = state.take_log();
    assert_eq!(log[0], "begin");
    assert_eq!(log[log.len() - 2..], ["sync", "commit"]);

    connection
        .execute_batch(
            "BEGIN; INSERT INTO mem VALUES (2); SAVEPOINT a; INSERT INTO mem VALUES (3); ROLLBACK TO a; RELEASE a; ROLLBACK",
        )
        .unwrap();
    let log = state.take_log();
    for entry in ["savepoint 0", "rollback to 0", "release 0"] {
        assert!(log.contains(&entry.to_owned()), "{entry} in {log:?}");
    }
    assert_eq!(log.last().unwrap(), "rollback");
}

#[test]
fn an_error_or_a_panic_in_any_method_fails_the_statement_with_its_message() {
    for (method, sql) in [
        ("connect", "SELECT * FROM mem"),
        ("best_index", "SELECT * FROM mem"),
        ("open", "SELECT * FROM mem"),
        ("filter", "SELECT * FROM mem"),
        ("next", "SELECT * FROM mem"),
        ("column", "SELECT * FROM mem"),
        ("rowid", "SELECT rowid FROM mem"),
        ("update", "INSERT INTO mem VALUES (1)"),
        ("begin", "INSERT INTO mem VALUES (1)"),
        ("sync", "INSERT INTO mem VALUES (1)"),
    ] {
        for panics in [false, true] {
            let (connection, state) = memory();
            state.rows.borrow_mut().push((1, Value::Integer(1)));
            state.fault.set(Some((method, panics)));
            let result = connection.prepare(sql).and_then(|mut statement| {
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            });
            let expected = if panics {
                format!("crsql panicked: panic in {method}; please report this")
            } else {
                format!("error in {method}")
            };
            assert_eq!(message(&result.unwrap_err()), expected, "{method}");
            state.fault.set(None);
            assert_eq!(text(&connection, "SELECT min(rowid) FROM mem"), "1", "{method}");
            assert!(connection.is_autocommit());
        }
    }
}

#[test]
fn a_refused_commit_rolls_back() {
    let (connection, state) = memory();
    connection
        .execute_batch("CREATE TABLE t (a); BEGIN; INSERT INTO t VALUES (1); INSERT INTO mem VALUES (1)")
        .unwrap();
    state.fault.set(Some(("sync", false)));
    assert_eq!(message(&connection.execute_batch("COMMIT").unwrap_err()), "error in sync");
    connection.execute_batch("ROLLBACK").unwrap_or_default();
    assert_eq!(text(&connection, "SELECT count(*) FROM t"), "0");
}

#[test]
fn closing_disconnects_first_so_cached_statements_do_not_block_it() {
    let (connection, state) = memory();
    connection.execute_batch("SELECT * FROM mem").unwrap();
    let cached = state.db.get().unwrap().prepare("SELECT 1").unwrap();
    state.cached.replace(Some(cached));
    connection.close().map_err(|(_, e)| e).unwrap();
    assert_eq!(state.take_log(), ["connect", "disconnect"]);
    assert_eq!(Rc::strong_count(&state), 1);
}

/// A table without constraints of its own; `CREATE VIRTUAL TABLE` works too.
struct Numbers;

impl Module for Numbers {
    type State = ();
    type Cursor = i64;
    const SCHEMA: &'static CStr = c"CREATE TABLE x(n)";
    const EPONYMOUS_ONLY: bool = false;

    fn connect(_: &Rc<()>, _: &VtabConfig) -> Result<Numbers> {
        Ok(Numbers)
    }
    fn best_index(&self, _: &mut IndexInfo<'_>) -> Result<bool> {
        Ok(true)
    }
    fn open(&self) -> Result<i64> {
        Ok(0)
    }
    fn filter(&self, cursor: &mut i64, _: i32, _: &str, _: Args<'_>) -> Result<()> {
        *cursor = 0;
        Ok(())
    }
    fn next(&self, cursor: &mut i64) -> Result<()> {
        *cursor += 1;
        Ok(())
    }
    fn eof(&self, cursor: &i64) -> bool {
        *cursor >= 5
    }
    fn column(&self, cursor: &mut i64, _: usize, output: &Output<'_>) -> Result<()> {
        output.set_i64(*cursor);
        Ok(())
    }
    fn rowid(&self, cursor: &i64) -> Result<i64> {
        Ok(*cursor)
    }
}

#[test]
fn a_read_only_module_refuses_writes_and_may_be_created() {
    let (connection, db) = open();
    register_module::<Numbers>(db, c"numbers", &Rc::new(())).unwrap();
    assert_eq!(text(&connection, "SELECT sum(n) FROM numbers WHERE n > 2"), "7");
    connection.execute_batch("CREATE VIRTUAL TABLE more USING numbers").unwrap();
    assert_eq!(text(&connection, "SELECT count(*) FROM more, numbers"), "25");
    let error = connection.execute_batch("DELETE FROM numbers").unwrap_err();
    assert_eq!(message(&error), "table numbers may not be modified");
}

#[test]
fn a_replaced_module_lets_go_of_its_state() {
    let (connection, state) = memory();
    connection.execute_batch("SELECT * FROM mem").unwrap();
    let other = Rc::new(Memory::default());
    register_module::<Table>(state.db.get().unwrap(), c"mem", &other).unwrap();
    assert_eq!(text(&connection, "SELECT count(*) FROM mem"), "0");
    // SQLite disconnects the old table with the next statement it compiles.
    assert_eq!(Rc::strong_count(&state), 1);
    drop(connection);
    assert_eq!(Rc::strong_count(&other), 1);
}
