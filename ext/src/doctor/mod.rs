//! `crsql_doctor()`: whether clocks, base tables and triggers fit together.
//!
//! It reads everything once and changes nothing. What it finds is a defect, or the work of somebody who wrote to
//! the database without the extension; parked rows and the like are business as usual and not reported.

mod clocks;
mod rows;
mod segments;
mod triggers;
mod typed;

use crate::alter::enter;
use crate::json::{Object, array};
use crate::renumber::{CANARY, canary};
use crate::sqlite::{Error, Result};
use crate::state::State;
use std::collections::BTreeMap;

/// How many problems of one kind in one table are told one by one.
const TOLD_MAX: usize = 10;

/// What was found.
#[derive(Default)]
struct Report {
    problems: Vec<String>,
    counts: BTreeMap<(&'static str, String), usize>,
}

impl Report {
    /// Adds a problem of `table` (empty: of the database).
    fn add(&mut self, problem: &'static str, table: &str, detail: impl std::fmt::Display) {
        let count = self.counts.entry((problem, table.to_owned())).or_default();
        *count += 1;
        if *count <= TOLD_MAX {
            let mut object = Object::new().text("problem", problem);
            if !table.is_empty() {
                object = object.text("table", table);
            }
            self.problems.push(object.text("detail", &detail.to_string()).end());
        }
    }

    fn end(mut self) -> String {
        for ((problem, table), count) in self.counts.iter().filter(|(_, count)| **count > TOLD_MAX) {
            let detail = format!("{} more", count - TOLD_MAX);
            let object = Object::new().text("problem", problem).text("table", table);
            self.problems.push(object.text("detail", &detail).end());
        }
        array(&self.problems)
    }
}

/// The problems as a JSON array of objects with `problem`, `table` (where it is one table's) and `detail`; `[]`
/// for a sound database.
pub fn doctor(state: &State) -> Result<String> {
    let mut report = Report::default();
    if let Err(error) = enter(state) {
        report.add("unusable", "", error);
        return Ok(report.end());
    }
    if !state.store.borrow_mut().exists()? {
        return Ok(report.end());
    }
    // Everything is read at one moment.
    let mut snapshot = state.db.prepare("SELECT name FROM main.sqlite_master LIMIT 1")?;
    snapshot.step()?;
    match check(state, &mut report) {
        Err(Error::Corrupt(reason)) => report.add("unusable", "", reason),
        other => other?,
    }
    Ok(report.end())
}

fn check(state: &State, report: &mut Report) -> Result<()> {
    if canary(state.db)? != Some(CANARY) {
        report.add(
            "canary gone",
            "",
            "the row of __crsql_canary that tells of renumbered rowids is gone or has another rowid",
        );
    }
    triggers::check_database(state, report)?;
    segments::check_unowned(state, report)?;
    let is_log_readable = segments::check_log(state, report)?;
    let mut readable = Vec::new();
    for table in state.tables()? {
        triggers::check(state, &table, report)?;
        if segments::check(state, &table, report)? {
            readable.push(table);
        }
    }
    if !is_log_readable {
        // Whatever is compared with a log that can't be read looks wrong.
        return Ok(());
    }
    let limits = clocks::Limits::read(state)?;
    for table in readable {
        clocks::check(state, &table, &limits, report)?;
        rows::check(state, &table, report)?;
        typed::check(state, &table, report)?;
    }
    Ok(())
}
