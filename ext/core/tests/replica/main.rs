//! Facts about one or two replicas, each told as a short story. The laws over random histories are in `laws`.

mod clocks;
mod delivery;
mod keys;
mod left_behind;
mod schema_skew;
mod transactions;

use crsql_core::ids::SiteId;
use crsql_core::key::{Affinity, Collation, KeyColumn};
use crsql_core::merge::TieBreak;
use crsql_core::replica::{Replica, TableSchema, Transaction};
use crsql_core::value::Value;

pub(crate) const NOCASE: KeyColumn = KeyColumn { affinity: Affinity::Text, collation: Collation::NoCase };

/// `todo(id INTEGER PRIMARY KEY, title, done DEFAULT 0)`.
pub(crate) fn todo() -> TableSchema {
    TableSchema::new("todo", [KeyColumn::binary(Affinity::Integer)])
        .column("title", Value::Null)
        .column("done", Value::Integer(0))
}

/// `tag(name TEXT COLLATE NOCASE PRIMARY KEY, color)`.
pub(crate) fn tag() -> TableSchema {
    TableSchema::new("tag", [NOCASE]).column("color", Value::Null)
}

/// `member(id PRIMARY KEY)`: a key without type and nothing else.
pub(crate) fn member() -> TableSchema {
    TableSchema::new("member", [KeyColumn::PLAIN])
}

/// Replicas of the sites 1, 2, …, with all three tables.
pub(crate) fn sites<const N: usize>() -> [Replica; N] {
    std::array::from_fn(|i| site(i as u8 + 1, TieBreak::Site))
}

pub(crate) fn site(n: u8, tie_break: TieBreak) -> Replica {
    let mut replica = Replica::new(SiteId([n; 16]), tie_break);
    for schema in [todo(), tag(), member()] {
        replica.create_table(schema).unwrap();
    }
    replica
}

/// Runs one transaction.
pub(crate) fn write(replica: &mut Replica, statements: impl FnOnce(&mut Transaction<'_>)) {
    let mut tx = replica.begin();
    statements(&mut tx);
    tx.commit().unwrap();
}

/// Brings everything `from` holds to `to`.
pub(crate) fn pull(to: &mut Replica, from: &Replica) {
    let applied = to.apply(&from.delta(to.held()));
    assert_eq!(applied.refused, []);
}

/// Both hold the same now.
pub(crate) fn exchange(a: &mut Replica, b: &mut Replica) {
    pull(a, b);
    pull(b, a);
    assert_eq!(a.digest(), b.digest());
}

/// The live rows of a table, written as `key|column|…`.
pub(crate) fn shown(replica: &Replica, table: &str) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => "NULL".into(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Blob(bytes) => format!("{bytes:x?}"),
    };
    let rows = replica.rows(table);
    rows.iter()
        .map(|(key, columns)| key.iter().chain(columns).map(text).collect::<Vec<_>>().join("|"))
        .collect()
}

/// What a site emitted in its last version, as `table cid cl col_version`, in the order of seq.
pub(crate) fn last_emitted(replica: &Replica) -> Vec<String> {
    let changes = replica.changes_of(replica.site(), replica.site_version().0);
    assert!(changes.iter().map(|change| change.stamp.seq).eq(0..changes.len() as u64));
    changes
        .iter()
        .map(|change| format!("{} {} {} {}", change.table, change.cid(), change.cl, change.col_version()))
        .collect()
}
