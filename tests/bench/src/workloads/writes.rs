//! Local writes from prepared statements, and the file they leave.

use super::{Measure, Metric, measure, timed};
use crate::contenders::Replica;
use crate::database::Result;
use crate::dataset::Row;
use crate::stage::Round;
use crate::timing::{Timing, measured};

pub fn insert_in_one_transaction(round: &Round<'_>) -> Result<Vec<Measure>> {
    insert(round, usize::MAX)
}

pub fn insert_in_thousands(round: &Round<'_>) -> Result<Vec<Measure>> {
    insert(round, 1000)
}

pub fn build(round: &Round<'_>) -> Result<Vec<Measure>> {
    let mut measures = insert(round, 1000)?;
    let file =
        measures.iter().find(|measure| measure.metric == Metric::File).map_or(f64::NAN, |file| file.value);
    measures.push(measure(Metric::FileRatio, file));
    Ok(measures)
}

pub fn insert_select(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.empty()?;
    load_source(round, &replica)?;
    let mut insert = replica.database.prepare("INSERT INTO t SELECT * FROM temp.source")?;
    let ((), timing) = measured(|| insert.run())?;
    drop(insert);
    written(&replica, timing)
}

/// Fills `temp.source` with the rows. It has no key, because SQLite copies between tables of one shape record
/// by record, and that is not the statement people write.
fn load_source(round: &Round<'_>, replica: &Replica) -> Result<()> {
    let columns = match round.data.keys.columns() {
        2 => "g, n, a, b, c, d",
        _ => "id, a, b, c, d",
    };
    let create = format!("PRAGMA temp_store = memory; CREATE TEMP TABLE source ({columns}); BEGIN");
    replica.database.exec(&create)?;
    let mut statement = replica.database.prepare(&round.data.keys.insert_into("temp.source"))?;
    for row in &round.data.rows {
        row.bind(&mut statement);
        statement.run()?;
    }
    replica.database.exec("COMMIT")
}

fn insert(round: &Round<'_>, per_transaction: usize) -> Result<Vec<Measure>> {
    let replica = round.empty()?;
    let mut statement = replica.database.prepare(&round.data.keys.insert_into("t"))?;
    let rows = round.data.rows.iter();
    let timing = in_transactions(&replica, rows, per_transaction, |row| {
        row.bind(&mut statement);
        statement.run()
    })?;
    drop(statement);
    written(&replica, timing)
}

pub fn update_one_column(round: &Round<'_>) -> Result<Vec<Measure>> {
    update_b(round, round.data.rewritten.iter(), usize::MAX)
}

/// As many updates as a tenth of the rows: what an application does in a while.
pub fn update_random_tenth(round: &Round<'_>) -> Result<Vec<Measure>> {
    let order = &round.data.shuffled;
    update_b(round, at(round, &order[..order.len() / 10]), 100)
}

/// Every row once, each in another place than the last: the most that clocks kept in runs can be made to grow.
pub fn update_every_row_at_random(round: &Round<'_>) -> Result<Vec<Measure>> {
    update_b(round, at(round, &round.data.shuffled), 100)
}

fn at<'a>(round: &Round<'a>, order: &'a [u32]) -> impl Iterator<Item = &'a Row> {
    let rows = &round.data.rewritten;
    order.iter().map(|index| &rows[*index as usize])
}

fn update_b<'a>(
    round: &Round<'_>,
    rows: impl Iterator<Item = &'a Row>,
    per_transaction: usize,
) -> Result<Vec<Measure>> {
    let replica = round.filled()?;
    let sql = format!("UPDATE t SET b = ?1 WHERE {}", round.data.keys.matches(2));
    let mut statement = replica.database.prepare(&sql)?;
    let timing = in_transactions(&replica, rows, per_transaction, |row| {
        statement.bind_integer(1, row.b);
        row.key.bind(&mut statement, 2);
        statement.run()
    })?;
    drop(statement);
    written(&replica, timing)
}

pub fn update_four_columns(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.filled()?;
    let sql = format!("UPDATE t SET a = ?1, b = ?2, c = ?3, d = ?4 WHERE {}", round.data.keys.matches(5));
    let mut statement = replica.database.prepare(&sql)?;
    let timing = in_transactions(&replica, round.data.rewritten.iter(), usize::MAX, |row| {
        row.bind_values(&mut statement, 1);
        row.key.bind(&mut statement, 5);
        statement.run()
    })?;
    drop(statement);
    written(&replica, timing)
}

pub fn update_all(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.filled()?;
    let mut update = replica.database.prepare("UPDATE t SET b = b + 1")?;
    let ((), timing) = measured(|| update.run())?;
    drop(update);
    written(&replica, timing)
}

pub fn delete(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.filled()?;
    let sql = format!("DELETE FROM t WHERE {}", round.data.keys.matches(1));
    let mut statement = replica.database.prepare(&sql)?;
    let timing = in_transactions(&replica, round.data.rows.iter(), usize::MAX, |row| {
        row.key.bind(&mut statement, 1);
        statement.run()
    })?;
    drop(statement);
    written(&replica, timing)
}

/// Times `write` over all rows, `per_transaction` of them between each BEGIN and COMMIT.
fn in_transactions<'a>(
    replica: &Replica,
    rows: impl Iterator<Item = &'a Row>,
    per_transaction: usize,
    mut write: impl FnMut(&'a Row) -> Result<()>,
) -> Result<Timing> {
    let mut begin = replica.database.prepare("BEGIN")?;
    let mut commit = replica.database.prepare("COMMIT")?;
    let ((), timing) = measured(|| {
        let mut left = 0;
        for row in rows {
            if left == 0 {
                begin.run()?;
                left = per_transaction;
            }
            write(row)?;
            left -= 1;
            if left == 0 {
                commit.run()?;
            }
        }
        if left > 0 { commit.run() } else { Ok(()) }
    })?;
    Ok(timing)
}

fn written(replica: &Replica, timing: Timing) -> Result<Vec<Measure>> {
    let mut measures = timed(timing);
    measures.push(measure(Metric::File, replica.database.file_bytes()?));
    Ok(measures)
}
