//! Reads: of the table itself, of every change, and of a few changes out of many.

use std::hint::black_box;

use super::{Measure, Metric, measure, timed};
use crate::changes::Recipe;
use crate::contenders::{Contender, Kind, Replica};
use crate::database::{Database, Failure, Result};
use crate::stage::{Round, insert};
use crate::statement::Statement;
use crate::timing::{Timing, measured, median};

pub fn read_scan(round: &Round<'_>) -> Result<Vec<Measure>> {
    Ok(timed(read(&round.filled()?.database, "SELECT * FROM t")?))
}

pub fn read_points(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.filled()?;
    let sql = format!("SELECT * FROM t WHERE {}", round.data.keys.matches(1));
    let mut statement = replica.database.prepare(&sql)?;
    let columns = statement.column_count();
    let (sum, timing) = measured(|| {
        let mut sum = 0;
        for index in &round.data.shuffled {
            round.data.rows[*index as usize].key.bind(&mut statement, 1);
            while statement.step()? {
                sum ^= statement.touch(columns);
            }
            statement.reset();
        }
        Ok(sum)
    })?;
    black_box(sum);
    Ok(timed(timing))
}

pub fn changes(round: &Round<'_>) -> Result<Vec<Measure>> {
    all_changes(round, Recipe::Visible)
}

pub fn changes_with_identity(round: &Round<'_>) -> Result<Vec<Measure>> {
    if matches!(round.contender.kind, Kind::Peer(..)) {
        return Err(Failure::NotApplicable);
    }
    all_changes(round, Recipe::Taught)
}

fn all_changes(round: &Round<'_>, recipe: Recipe) -> Result<Vec<Measure>> {
    if round.contender.kind == Kind::Plain {
        return read_scan(round);
    }
    round.replicating()?;
    let replica = round.filled()?;
    let (columns, _) = recipe.columns(&replica, round.contender)?;
    Ok(timed(read(&replica.database, &format!("SELECT {columns} FROM crsql_changes"))?))
}

pub fn changeset(round: &Round<'_>) -> Result<Vec<Measure>> {
    match round.contender.kind {
        Kind::Plain => read_scan(round),
        Kind::Session => {
            // A session knows only what it saw written.
            let replica = round.empty()?;
            insert(&replica, round.data.keys, &round.data.rows.iter().collect::<Vec<_>>(), usize::MAX)?;
            let (bytes, timing) = measured(|| Ok(replica.session()?.changeset()?.len()))?;
            black_box(bytes);
            Ok(timed(timing))
        }
        // Only crsql has the function; on a peer its absence is no failure.
        Kind::Triggers | Kind::Peer(..) => Err(Failure::NotApplicable),
        Kind::Static | Kind::Loaded(_) => {
            Ok(timed(read(&round.filled()?.database, "SELECT crsql_changeset(0)")?))
        }
    }
}

fn read(database: &Database, sql: &str) -> Result<Timing> {
    let mut statement = database.prepare(sql)?;
    let (sum, timing) = measured(|| drain(&mut statement))?;
    black_box(sum);
    Ok(timing)
}

fn drain(statement: &mut Statement<'_>) -> Result<i64> {
    let columns = statement.column_count();
    let mut sum = 0;
    while statement.step()? {
        sum ^= statement.touch(columns);
    }
    statement.reset();
    Ok(sum)
}

/// Upstream's documented query is a scan on cr-sqlite's fork; with the site as well the fork answers from its
/// index, so peers are asked that way.
pub fn hundred_by_changes(round: &Round<'_>) -> Result<Vec<Measure>> {
    hundred(round, |contender| match contender.kind {
        Kind::Peer(..) => "SELECT * FROM crsql_changes WHERE site_id = crsql_site_id() AND db_version > ?1",
        _ => "SELECT * FROM crsql_changes WHERE db_version > ?1",
    })
}

pub fn hundred_by_changeset(round: &Round<'_>) -> Result<Vec<Measure>> {
    if matches!(round.contender.kind, Kind::Peer(..)) {
        return Err(Failure::NotApplicable);
    }
    hundred(round, |_| "SELECT crsql_changeset(?1)")
}

/// How often the hundred rows are changed and pulled again in a round.
const PULLS: usize = 30;

/// Changes a hundred rows in one transaction and times pulling them over another connection, as a program that
/// syncs a file beside the application does. Plain SQLite has what applications use instead: a column that grows
/// with every write, and an index on it.
fn hundred(round: &Round<'_>, query: fn(&Contender) -> &'static str) -> Result<Vec<Measure>> {
    let is_plain = round.contender.kind == Kind::Plain;
    if !is_plain {
        round.replicating()?;
    }
    let replica = round.filled()?;
    if is_plain {
        replica.database.exec("CREATE INDEX t_d ON t (d)")?;
    }
    let sql = if is_plain { "SELECT * FROM t WHERE d > ?1" } else { query(round.contender) };
    let reader = replica.reader(round.contender)?;
    let mut pull = reader.database.prepare(sql)?;
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for (run, chunk) in round.data.shuffled.chunks_exact(100).take(PULLS).enumerate() {
        // Above every value that the rows were made with, and above the previous run's.
        let mark = (1 << 32) + run as i64;
        let since = if is_plain { mark - 1 } else { reader.database.integer("SELECT crsql_db_version()")? };
        touch_rows(round, &replica, chunk, mark)?;
        pull.bind_integer(1, since);
        let (sum, timing) = measured(|| drain(&mut pull))?;
        black_box(sum);
        cpu.push(timing.cpu);
        wall.push(timing.wall);
    }
    Ok(vec![measure(Metric::Cpu, median(&cpu)), measure(Metric::Wall, median(&wall))])
}

fn touch_rows(round: &Round<'_>, replica: &Replica, chunk: &[u32], mark: i64) -> Result<()> {
    let sql = format!("UPDATE t SET d = ?1 WHERE {}", round.data.keys.matches(2));
    let mut update = replica.database.prepare(&sql)?;
    replica.database.exec("BEGIN")?;
    for index in chunk {
        update.bind_integer(1, mark);
        round.data.rows[*index as usize].key.bind(&mut update, 2);
        update.run()?;
    }
    replica.database.exec("COMMIT")
}
