//! Single statements, each its own transaction: what an interactive program feels.

use super::{Measure, Metric, measure};
use crate::database::Result;
use crate::stage::Round;
use crate::timing::{latencies, median, percentile};

pub fn insert(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.filled()?;
    let mut statement = replica.database.prepare(&round.data.keys.insert_into("t"))?;
    summary(latencies(round.data.extra.len(), |run| {
        round.data.extra[run].bind(&mut statement);
        statement.run()
    })?)
}

pub fn update(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.filled()?;
    let sql = format!("UPDATE t SET b = ?1 WHERE {}", round.data.keys.matches(2));
    let mut statement = replica.database.prepare(&sql)?;
    summary(latencies(round.data.extra.len(), |run| {
        let row = &round.data.rewritten[round.data.shuffled[run] as usize];
        statement.bind_integer(1, row.b);
        row.key.bind(&mut statement, 2);
        statement.run()
    })?)
}

pub fn delete(round: &Round<'_>) -> Result<Vec<Measure>> {
    let replica = round.filled()?;
    let sql = format!("DELETE FROM t WHERE {}", round.data.keys.matches(1));
    let mut statement = replica.database.prepare(&sql)?;
    summary(latencies(round.data.extra.len(), |run| {
        let row = &round.data.rows[round.data.shuffled[run] as usize];
        row.key.bind(&mut statement, 1);
        statement.run()
    })?)
}

fn summary(seconds: Vec<f64>) -> Result<Vec<Measure>> {
    Ok(vec![measure(Metric::P50, median(&seconds)), measure(Metric::P99, percentile(&seconds, 0.99))])
}
