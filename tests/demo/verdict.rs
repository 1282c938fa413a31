//! Whether the replicas are equal: by digest, and by comparing the tables themselves.

use crate::Outcome;
use crate::replica::{Replica, TABLES};
use crate::show::{count, good, line};
use rusqlite::types::ValueRef;

/// Compares all replicas and says what it finds.
pub fn compare(replicas: &[&Replica]) -> Outcome<bool> {
    let mut equal = true;
    let digests = replicas.iter().map(|replica| replica.value::<String>("SELECT crsql_digest()", []));
    let digests = digests.collect::<Outcome<Vec<_>>>()?;
    for (replica, digest) in replicas.iter().zip(&digests) {
        line(&format!("crsql_digest() of {:<5} {digest}", replica.name));
    }
    equal &= digests.iter().all(|digest| *digest == digests[0]);
    for table in TABLES {
        let (rows, values) = read(replicas[0], table)?;
        let mut same = true;
        for replica in &replicas[1..] {
            same &= read(replica, table)? == (rows, values.clone());
        }
        equal &= same;
        let verdict = if same { good("equal, byte for byte") } else { "DIFFERENT".to_string() };
        line(&format!("{:>7} rows of {table:<15} {verdict}", count(rows)));
    }
    for replica in replicas {
        let problems: String = replica.value("SELECT crsql_doctor()", [])?;
        if problems != "[]" {
            equal = false;
            line(&format!("crsql_doctor() of {}: {problems}", replica.name));
        }
    }
    Ok(equal)
}

/// The rows of a table in key order, as storage classes and bytes.
fn read(replica: &Replica, table: &str) -> Outcome<(usize, Vec<u8>)> {
    let mut statement = replica.db.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2"))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let (mut number, mut content) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        number += 1;
        for column in 0..columns {
            let value = row.get_ref(column)?;
            content.push(value.data_type() as u8);
            match value {
                ValueRef::Null => {}
                ValueRef::Integer(value) => content.extend(value.to_be_bytes()),
                ValueRef::Real(value) => content.extend(value.to_be_bytes()),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                    content.extend(bytes.len().to_be_bytes());
                    content.extend(bytes);
                }
            }
        }
    }
    Ok((number, content))
}
