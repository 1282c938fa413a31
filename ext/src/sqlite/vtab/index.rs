//! The planner's question to a virtual table, and its answer.

use rusqlite::ffi;

use crate::sqlite::error::{free_sqlite_string, sqlite_string};

/// A term of the WHERE clause that the table might handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constraint {
    /// Its position, for [`IndexInfo::take`].
    pub index: usize,
    /// The column on its left, from 0; -1 is the rowid.
    pub column: i32,
    /// The comparison.
    pub operator: Operator,
    /// Its right side is known when the scan starts. One that is not must not be taken.
    pub usable: bool,
}

/// The comparison of a [`Constraint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after the SQL operators")]
pub enum Operator {
    Eq,
    Gt,
    Le,
    Lt,
    Ge,
    Ne,
    Is,
    IsNot,
    IsNull,
    IsNotNull,
    Match,
    Like,
    Glob,
    Regexp,
    /// `LIMIT`: no column. Hosts from 3.38 on.
    Limit,
    /// `OFFSET`: no column. Hosts from 3.38 on.
    Offset,
    /// Any other, by SQLite's number.
    Other(u8),
}

impl Operator {
    fn from_code(code: u8) -> Operator {
        match i32::from(code) {
            ffi::SQLITE_INDEX_CONSTRAINT_EQ => Operator::Eq,
            ffi::SQLITE_INDEX_CONSTRAINT_GT => Operator::Gt,
            ffi::SQLITE_INDEX_CONSTRAINT_LE => Operator::Le,
            ffi::SQLITE_INDEX_CONSTRAINT_LT => Operator::Lt,
            ffi::SQLITE_INDEX_CONSTRAINT_GE => Operator::Ge,
            ffi::SQLITE_INDEX_CONSTRAINT_NE => Operator::Ne,
            ffi::SQLITE_INDEX_CONSTRAINT_IS => Operator::Is,
            ffi::SQLITE_INDEX_CONSTRAINT_ISNOT => Operator::IsNot,
            ffi::SQLITE_INDEX_CONSTRAINT_ISNULL => Operator::IsNull,
            ffi::SQLITE_INDEX_CONSTRAINT_ISNOTNULL => Operator::IsNotNull,
            ffi::SQLITE_INDEX_CONSTRAINT_MATCH => Operator::Match,
            ffi::SQLITE_INDEX_CONSTRAINT_LIKE => Operator::Like,
            ffi::SQLITE_INDEX_CONSTRAINT_GLOB => Operator::Glob,
            ffi::SQLITE_INDEX_CONSTRAINT_REGEXP => Operator::Regexp,
            // By number: the constants are newer than the loadable build's headers.
            73 => Operator::Limit,
            74 => Operator::Offset,
            _ => Operator::Other(code),
        }
    }
}

/// A term of the ORDER BY clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderTerm {
    /// The column, from 0; -1 is the rowid.
    pub column: i32,
    /// `DESC`.
    pub descending: bool,
}

/// The planner's question and the table's answer.
pub struct IndexInfo<'a>(&'a mut ffi::sqlite3_index_info);

impl<'a> IndexInfo<'a> {
    /// # Safety
    /// The arrays of `info` have the lengths it says.
    pub(super) unsafe fn new(info: &'a mut ffi::sqlite3_index_info) -> IndexInfo<'a> {
        IndexInfo(info)
    }

    /// How many constraints there are.
    pub fn constraint_count(&self) -> usize {
        usize::try_from(self.0.nConstraint).unwrap_or(0)
    }

    /// The constraint at `index`.
    pub fn constraint(&self, index: usize) -> Option<Constraint> {
        // SAFETY: in bounds, by the check and `new`'s contract.
        (index < self.constraint_count()).then(|| unsafe {
            let raw = &*self.0.aConstraint.add(index);
            Constraint {
                index,
                column: raw.iColumn,
                operator: Operator::from_code(raw.op),
                usable: raw.usable != 0,
            }
        })
    }

    /// All constraints, usable or not.
    pub fn constraints(&self) -> impl Iterator<Item = Constraint> + '_ {
        (0..self.constraint_count()).filter_map(|index| self.constraint(index))
    }

    /// Has the right side of a constraint passed to `filter` as argument `arg` (from 0; the arguments must end
    /// up without gaps). With `omit` SQLite does not check the constraint again itself.
    pub fn take(&mut self, constraint: usize, arg: usize, omit: bool) {
        if constraint < self.constraint_count() {
            // SAFETY: in bounds, by the check and `new`'s contract.
            let usage = unsafe { &mut *self.0.aConstraintUsage.add(constraint) };
            usage.argvIndex = i32::try_from(arg + 1).unwrap_or(0);
            usage.omit = u8::from(omit);
        }
    }

    /// The terms of the ORDER BY clause; none when it has a term the table can't order by.
    pub fn order_by(&self) -> impl ExactSizeIterator<Item = OrderTerm> + '_ {
        (0..usize::try_from(self.0.nOrderBy).unwrap_or(0)).map(|index| {
            // SAFETY: in bounds, by the range and `new`'s contract.
            let raw = unsafe { &*self.0.aOrderBy.add(index) };
            OrderTerm { column: raw.iColumn, descending: raw.desc != 0 }
        })
    }

    /// Promises that the rows come in the asked order.
    pub fn set_order_by_consumed(&mut self) {
        self.0.orderByConsumed = 1;
    }

    /// The plan's number, for `filter`.
    pub fn set_plan(&mut self, plan: i32) {
        self.0.idxNum = plan;
    }

    /// The plan's text, for `filter`; EXPLAIN QUERY PLAN shows it.
    pub fn set_detail(&mut self, detail: &str) {
        if self.0.needToFreeIdxStr != 0 {
            // SAFETY: set by an earlier call of this method.
            unsafe { free_sqlite_string(self.0.idxStr) };
        }
        self.0.idxStr = sqlite_string(detail);
        self.0.needToFreeIdxStr = 1;
    }

    /// The plan's cost, in something like disk accesses.
    pub fn set_cost(&mut self, cost: f64) {
        self.0.estimatedCost = cost;
    }

    /// How many rows the plan yields.
    pub fn set_rows(&mut self, rows: i64) {
        self.0.estimatedRows = rows;
    }

    /// The plan yields at most one row.
    pub fn set_unique(&mut self) {
        self.0.idxFlags |= ffi::SQLITE_INDEX_SCAN_UNIQUE;
    }

    /// The columns the statement reads, as bits; bit 63 stands for column 63 and all after it.
    pub fn columns_used(&self) -> u64 {
        self.0.colUsed
    }
}
