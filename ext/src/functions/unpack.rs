//! `crsql_unpack_columns(package)`: one row for each value of a packed blob.

use std::marker::PhantomData;
use std::rc::Rc;

use crsql_core::pack;

use crate::sqlite::{
    Args, Error, IndexInfo, Module, Operator, Output, Result, Risk, Value, ValueRef, VtabConfig,
};

const CELL: usize = 0;
const PACKAGE: usize = 1;

/// The eponymous table, whose hidden column is the argument. It is independent of the connection's state `S`.
pub(super) struct UnpackColumns<S>(PhantomData<S>);

/// The values of one package, and the position of the scan.
#[derive(Default)]
pub(super) struct Cursor {
    package: Vec<u8>,
    cells: Vec<Value>,
    position: usize,
}

impl<S: 'static> Module for UnpackColumns<S> {
    type State = S;
    type Cursor = Cursor;

    const SCHEMA: &'static std::ffi::CStr = c"CREATE TABLE x(cell ANY, package BLOB HIDDEN)";

    fn connect(_: &Rc<S>, config: &VtabConfig) -> Result<Self> {
        config.set_risk(Risk::Innocuous)?;
        Ok(UnpackColumns(PhantomData))
    }

    fn best_index(&self, index: &mut IndexInfo<'_>) -> Result<bool> {
        let mut given = false;
        let mut package = None;
        for constraint in index.constraints() {
            if constraint.column == PACKAGE as i32 && constraint.operator == Operator::Eq {
                given = true;
                package = package.or(constraint.usable.then_some(constraint.index));
            }
        }
        let Some(package) = package else {
            // The argument comes from a table that SQLite would scan later: it has to try another order.
            return if given { Ok(false) } else { Err(no_package()) };
        };
        index.take(package, 0, true);
        index.set_cost(1.0);
        index.set_rows(4);
        Ok(true)
    }

    fn open(&self) -> Result<Cursor> {
        Ok(Cursor::default())
    }

    fn filter(&self, cursor: &mut Cursor, _plan: i32, _detail: &str, args: Args<'_>) -> Result<()> {
        let package = match args.get(0) {
            ValueRef::Blob(package) => package,
            _ if args.is_empty() => return Err(no_package()),
            other => return Err(args_error(other)),
        };
        let values =
            pack::unpack(package).map_err(|e| Error::refused(format_args!("crsql_unpack_columns(): {e}")))?;
        cursor.cells = values.iter().map(ValueRef::to_owned_value).collect();
        cursor.package = package.to_vec();
        cursor.position = 0;
        Ok(())
    }

    fn next(&self, cursor: &mut Cursor) -> Result<()> {
        cursor.position += 1;
        Ok(())
    }

    fn eof(&self, cursor: &Cursor) -> bool {
        cursor.position >= cursor.cells.len()
    }

    fn column(&self, cursor: &mut Cursor, column: usize, output: &Output<'_>) -> Result<()> {
        match (column, cursor.cells.get(cursor.position)) {
            (CELL, Some(cell)) => output.set_value(cell.as_ref()),
            (PACKAGE, _) => output.set_blob(&cursor.package),
            _ => output.set_null(),
        }
        Ok(())
    }

    fn rowid(&self, cursor: &Cursor) -> Result<i64> {
        Ok(cursor.position as i64)
    }
}

fn no_package() -> Error {
    Error::Misuse(
        "crsql_unpack_columns has no rows by itself: name the blob to unpack, as in \
         crsql_unpack_columns(pk) or WHERE package = pk"
            .to_owned(),
    )
}

fn args_error(found: ValueRef<'_>) -> Error {
    Error::Argument {
        function: "crsql_unpack_columns",
        position: 1,
        expected: "a blob",
        found: crate::sqlite::storage_class(&found),
    }
}
