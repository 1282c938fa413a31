//! Which constraints of a query on `crsql_changes` are used, and how they are handed to the scan.
//!
//! `idxStr` has one letter for each argument: `> g l <` for bounds of `db_version` (`>`, `>=`, `<=`, `<`), `=` for its
//! equality, `s` the author is, `n` the author is not, `t` the table is. SQLite checks every constraint again, so a
//! value of an unexpected type just is not used. `idxNum`: 1 ordered by seq, 2 neither `pk` nor `val` is read.

use super::order::{Order, Wanted};
use crate::sqlite::{Args, IndexInfo, Operator, ValueRef};
use crate::state::State;
use crsql_core::ids::SiteId;

/// Columns of the virtual table.
pub const TABLE: usize = 0;
pub const PK: usize = 1;
pub const CID: usize = 2;
pub const VAL: usize = 3;
pub const COL_VERSION: usize = 4;
pub const DB_VERSION: usize = 5;
pub const SITE_ID: usize = 6;
pub const CL: usize = 7;
pub const SEQ: usize = 8;
pub const SITE_VERSION: usize = 9;

const BY_SEQ: i32 = 1;
const WITHOUT_ROW: i32 = 2;

/// Chooses the constraints.
pub fn choose(index: &mut IndexInfo<'_>) {
    let mut detail = String::new();
    let mut cost = 1_000_000.0;
    let constraints: Vec<_> = index.constraints().filter(|c| c.usable).collect();
    for constraint in constraints {
        let letter = match (usize::try_from(constraint.column), constraint.operator) {
            (Ok(DB_VERSION), Operator::Gt) => '>',
            (Ok(DB_VERSION), Operator::Ge) => 'g',
            (Ok(DB_VERSION), Operator::Lt) => '<',
            (Ok(DB_VERSION), Operator::Le) => 'l',
            (Ok(DB_VERSION), Operator::Eq | Operator::Is) => '=',
            (Ok(SITE_ID), Operator::Eq | Operator::Is) => 's',
            (Ok(SITE_ID), Operator::Ne | Operator::IsNot) => 'n',
            (Ok(TABLE), Operator::Eq | Operator::Is) => 't',
            _ => continue,
        };
        index.take(constraint.index, detail.len(), false);
        detail.push(letter);
        cost *= match letter {
            '>' | 'g' | '=' => 0.01,
            's' | 't' => 0.5,
            _ => 0.9,
        };
    }
    // By db_version and seq even unasked, as from cr-sqlite.
    let mut plan = BY_SEQ;
    let order: Vec<_> = index.order_by().map(|term| (term.column, term.descending)).collect();
    let (db_version, seq) = (DB_VERSION as i32, SEQ as i32);
    match order[..] {
        [(first, false)] if first == db_version => index.set_order_by_consumed(),
        [(first, false), (second, false)] if first == db_version && second == seq => {
            index.set_order_by_consumed();
        }
        _ => {}
    }
    if index.columns_used() & (1 << PK | 1 << VAL) == 0 {
        plan |= WITHOUT_ROW;
    }
    index.set_plan(plan);
    index.set_detail(&detail);
    index.set_cost(cost);
    index.set_rows(cost as i64);
}

/// What a scan has to do.
pub struct Plan {
    /// Which changes.
    pub wanted: Wanted,
    /// Whether base rows are needed.
    pub needs_row: bool,
    /// Nothing can match.
    pub is_empty: bool,
}

/// Reads the plan with its arguments.
pub fn read(state: &State, plan: i32, detail: &str, args: Args<'_>) -> crate::sqlite::Result<Plan> {
    let order = if plan & BY_SEQ != 0 { Order::Seq } else { Order::Author };
    let mut wanted = Wanted { since: 0, until: u64::MAX, table: None, site: None, not_site: None, order };
    let mut is_empty = false;
    for (at, letter) in detail.chars().enumerate() {
        match (letter, args.get(at)) {
            ('>' | 'g' | '<' | 'l' | '=', value) => bound(&mut wanted, letter, value, &mut is_empty),
            ('s' | 'n', ValueRef::Blob(site)) => {
                let known = match SiteId::try_from(site) {
                    Ok(site) => state.store.borrow_mut().sites.find(state.db, &site)?,
                    Err(_) => None,
                };
                // An unknown author may still have parked changes, so it only rules out clocks.
                if letter == 's' {
                    wanted.site = Some(known.unwrap_or(u32::MAX));
                } else {
                    wanted.not_site = known;
                }
            }
            ('t', ValueRef::Text(name)) => {
                let name = String::from_utf8_lossy(name);
                let known = state.catalog.borrow_mut().id_of(state.db, &name)?;
                wanted.table = Some(known.unwrap_or(u32::MAX));
            }
            _ => {}
        }
    }
    Ok(Plan { wanted, needs_row: plan & WITHOUT_ROW == 0, is_empty })
}

fn bound(wanted: &mut Wanted, letter: char, value: ValueRef<'_>, is_empty: &mut bool) {
    // A real is rounded to the safe side; any other type compares by storage class, which SQLite does itself.
    let (low, high) = match value {
        ValueRef::Integer(value) => (value, value),
        ValueRef::Real(value) => (value.floor() as i64, value.ceil() as i64),
        ValueRef::Null => {
            *is_empty = letter != '=';
            return;
        }
        _ => return,
    };
    let floor = |value: i64| u64::try_from(value).unwrap_or(0);
    match letter {
        '>' => wanted.since = wanted.since.max(floor(low)),
        'g' => wanted.since = wanted.since.max(floor(low.saturating_sub(1))),
        '<' | 'l' => {
            *is_empty |= high < 0;
            wanted.until = wanted.until.min(floor(high));
        }
        _ => {
            *is_empty |= high < 0;
            wanted.since = wanted.since.max(floor(low.saturating_sub(1)));
            wanted.until = wanted.until.min(floor(high));
        }
    }
}
