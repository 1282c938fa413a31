//! Merges of another replica's rows into an empty one, and of the same once more.
//!
//! Plain SQLite inserts the rows, and overwrites them the second time.

use super::{Measure, Metric, measure, timed};
use crate::changes::{Changes, Recipe};
use crate::contenders::{Kind, Replica};
use crate::database::{Failure, Result};
use crate::stage::{Part, Round, insert};
use crate::timing::{Timing, measured};

/// Table `t` has four columns besides its key, so a row that was inserted is four changes.
const CHANGES_PER_ROW: usize = 4;

pub fn apply(round: &Round<'_>) -> Result<Vec<Measure>> {
    match round.contender.kind {
        Kind::Plain => plain(round),
        Kind::Session => {
            let source = round.empty()?;
            insert(&source, round.data.keys, &round.data.rows.iter().collect::<Vec<_>>(), usize::MAX)?;
            let changeset = source.session()?.changeset()?;
            // The target records nothing: a session is attached by whoever wants one.
            let target = round.empty_plain()?;
            twice(round, &target, || changeset.apply(&target.database))
        }
        Kind::Triggers | Kind::Peer(..) => Err(Failure::NotApplicable),
        Kind::Static | Kind::Loaded(_) => {
            let blob = changeset_of(&round.filled()?)?;
            let target = round.empty()?;
            let mut apply = target.database.prepare("SELECT crsql_apply(?1)")?;
            apply.bind_blob(1, &blob);
            twice(round, &target, || apply.run())
        }
    }
}

/// Everything a replica holds, as `crsql_apply` takes it.
pub fn changeset_of(replica: &Replica) -> Result<Vec<u8>> {
    let mut statement = replica.database.prepare("SELECT crsql_changeset(0)")?;
    statement.step()?;
    Ok(statement.bytes(0).to_vec())
}

/// Inserts the rows, and overwrites them when run again.
fn plain(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.empty()?;
    let insert = replica.database.prepare(&round.data.keys.insert_into("t"))?;
    let upsert = replica.database.prepare(&round.data.keys.upsert())?;
    let mut statements = [insert, upsert].into_iter();
    twice(round, &replica, || {
        let mut write = statements.next().expect("twice runs the merge twice");
        in_one_transaction(&replica, || {
            for row in &round.data.rows {
                row.bind(&mut write);
                write.run()?;
            }
            Ok(())
        })
    })
}

pub fn row_statements(round: &Round<'_>) -> Result<Vec<Measure>> {
    statements(round, Recipe::Taught, CHANGES_PER_ROW)
}

pub fn row_statements_visible(round: &Round<'_>) -> Result<Vec<Measure>> {
    taught_otherwise(round)?;
    statements(round, Recipe::Visible, CHANGES_PER_ROW)
}

pub fn change_statements(round: &Round<'_>) -> Result<Vec<Measure>> {
    statements(round, Recipe::Taught, 1)
}

pub fn change_statements_visible(round: &Round<'_>) -> Result<Vec<Measure>> {
    taught_otherwise(round)?;
    statements(round, Recipe::Visible, 1)
}

/// A peer's visible columns are all it has, so that it was measured already.
fn taught_otherwise(round: &Round<'_>) -> Result<()> {
    match round.contender.kind {
        Kind::Peer(..) => Err(Failure::NotApplicable),
        _ => Ok(()),
    }
}

/// One prepared INSERT with `group` changes, run until all are in.
fn statements(round: &Round<'_>, recipe: Recipe, group: usize) -> Result<Vec<Measure>> {
    if round.contender.kind == Kind::Plain {
        return plain(round);
    }
    round.replicating()?;
    let changes = all_changes(round, recipe)?;
    let target = round.empty()?;
    let sql = insert_changes(&changes, &format!("VALUES {}", changes.parameters(group)));
    let mut statement = target.database.prepare(&sql)?;
    twice(round, &target, || {
        in_one_transaction(&target, || {
            for first in (0..changes.len()).step_by(group) {
                for change in 0..group {
                    changes.bind(first + change, &mut statement, 1 + change as i32 * changes.width);
                }
                statement.run()?;
            }
            Ok(())
        })
    })
}

pub fn one_select(round: &Round<'_>) -> Result<Vec<Measure>> {
    select(round, Recipe::Taught)
}

pub fn one_select_visible(round: &Round<'_>) -> Result<Vec<Measure>> {
    taught_otherwise(round)?;
    select(round, Recipe::Visible)
}

fn select(round: &Round<'_>, recipe: Recipe) -> Result<Vec<Measure>> {
    if round.contender.kind == Kind::Plain {
        return plain(round);
    }
    round.replicating()?;
    let changes = all_changes(round, recipe)?;
    let target = round.empty()?;
    let sql = load_incoming(&target, &changes)?;
    let mut statement = target.database.prepare(&sql)?;
    twice(round, &target, || statement.run())
}

/// Copies the changes into `temp.incoming` and returns the statement that merges them from there.
pub fn load_incoming(target: &Replica, changes: &Changes) -> Result<String> {
    let columns = &changes.columns;
    target
        .database
        .exec(&format!("PRAGMA temp_store = memory; CREATE TEMP TABLE incoming ({columns}); BEGIN"))?;
    let sql = format!("INSERT INTO temp.incoming ({columns}) VALUES {}", changes.parameters(1));
    let mut load = target.database.prepare(&sql)?;
    for index in 0..changes.len() {
        changes.bind(index, &mut load, 1);
        load.run()?;
    }
    target.database.exec("COMMIT")?;
    Ok(insert_changes(changes, &format!("SELECT {columns} FROM temp.incoming")))
}

/// Two sites wrote every other row each; their rows arrive in turn, a statement a row, so that nothing that was
/// written together arrives together.
pub fn interleaved(round: &Round<'_>) -> Result<Vec<Measure>> {
    if round.contender.kind == Kind::Plain {
        return plain(round);
    }
    round.replicating()?;
    // Both halves are copies of files that were created apart, so their site ids differ.
    let halves = [Part::Even, Part::Odd]
        .map(|part| whole_rows(Changes::read(&round.filled_with(part)?, round.contender, Recipe::Taught)?));
    let [even, odd] = halves;
    let halves = [even?, odd?];
    let target = round.empty()?;
    let sql = insert_changes(&halves[0], &format!("VALUES {}", halves[0].parameters(CHANGES_PER_ROW)));
    let mut statement = target.database.prepare(&sql)?;
    let longest = halves.iter().map(Changes::len).max().unwrap_or(0);
    twice(round, &target, || {
        in_one_transaction(&target, || {
            for first in (0..longest).step_by(CHANGES_PER_ROW) {
                for half in halves.iter().filter(|half| first < half.len()) {
                    for change in 0..CHANGES_PER_ROW {
                        half.bind(first + change, &mut statement, 1 + change as i32 * half.width);
                    }
                    statement.run()?;
                }
            }
            Ok(())
        })
    })
}

/// The changes that a filled replica holds.
pub fn all_changes(round: &Round<'_>, recipe: Recipe) -> Result<Changes> {
    whole_rows(Changes::read(&round.filled()?, round.contender, recipe)?)
}

fn whole_rows(changes: Changes) -> Result<Changes> {
    if changes.len() == 0 || !changes.len().is_multiple_of(CHANGES_PER_ROW) {
        return Err(format!("the source holds {} changes, not four a row", changes.len()).into());
    }
    Ok(changes)
}

fn insert_changes(changes: &Changes, rows: &str) -> String {
    format!("INSERT INTO crsql_changes ({}) {rows}", changes.columns)
}

fn in_one_transaction(replica: &Replica, work: impl FnOnce() -> Result<()>) -> Result<()> {
    replica.database.exec("BEGIN")?;
    work()?;
    replica.database.exec("COMMIT")
}

/// Times the merge, checks that every row arrived, and times it once more.
fn twice(round: &Round<'_>, target: &Replica, mut merge: impl FnMut() -> Result<()>) -> Result<Vec<Measure>> {
    let ((), first) = measured(&mut merge)?;
    let arrived = target.database.integer("SELECT count(*) FROM t")?;
    if arrived != round.data.rows.len() as i64 {
        return Err(format!("{arrived} of {} rows arrived", round.data.rows.len()).into());
    }
    let file = target.database.file_bytes()?;
    let ((), again) = measured(&mut merge)?;
    let mut measures = timed(first);
    measures.push(measure(Metric::AgainCpu, again.cpu));
    measures.push(measure(Metric::AgainWall, again.wall));
    measures.push(measure(Metric::File, file));
    if round.contender.replicates() {
        measures.push(measure(Metric::Lock, lock_seconds(round, first)));
    }
    Ok(measures)
}

fn lock_seconds(round: &Round<'_>, timing: Timing) -> f64 {
    timing.wall * 100_000.0 / (round.data.rows.len() * CHANGES_PER_ROW) as f64
}
