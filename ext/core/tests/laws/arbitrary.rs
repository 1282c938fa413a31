//! Small domains, so that random values meet often, and the tables that all laws use.

use crsql_core::column::ColumnType;
use crsql_core::ids::SiteId;
use crsql_core::key::{Affinity, Collation, KeyColumn};
use crsql_core::merge::TieBreak;
use crsql_core::replica::TableSchema;
use crsql_core::value::Value;
use proptest::prelude::*;

/// Every table of the laws. Together they have each affinity and collation, one and two key columns, and none,
/// one and several others.
pub(crate) fn schemas() -> Vec<TableSchema> {
    let nocase = KeyColumn { affinity: Affinity::Text, collation: Collation::NoCase };
    let rtrim = KeyColumn { affinity: Affinity::Numeric, collation: Collation::Rtrim };
    vec![
        TableSchema::new("item", [KeyColumn::binary(Affinity::Integer)])
            .column("name", Value::Null)
            .column("count", Value::Integer(0)),
        TableSchema::new("tag", [nocase]).column("color", Value::text("grey")),
        TableSchema::new("member", [KeyColumn::PLAIN]),
        TableSchema::new("pair", [KeyColumn::binary(Affinity::Real), rtrim]).column("v", Value::Null),
        TableSchema::new("score", [KeyColumn::binary(Affinity::Integer)])
            .typed("hits", ColumnType::Counter, Value::Integer(0))
            .typed("best", ColumnType::Max, Value::Null)
            .typed("least", ColumnType::Min, Value::Integer(1))
            .column("late", Value::Integer(0)),
    ]
}

/// The column that some replicas get later than others, and its default.
pub(crate) fn late_column() -> (&'static str, &'static str, Value) {
    ("item", "extra", Value::text("none"))
}

/// The register that some replicas declare later than others, and what it becomes.
pub(crate) fn late_type() -> (&'static str, &'static str, ColumnType) {
    ("score", "late", ColumnType::Counter)
}

/// A key for a table of so many key columns; many numbers are spellings of few keys.
pub(crate) fn key(columns: usize, n: u8) -> Vec<Value> {
    let spellings = [
        Value::Integer(0),
        Value::Real(-0.0),
        Value::Integer(1),
        Value::Real(1.0),
        Value::text("1"),
        Value::text("k"),
        Value::text("K"),
        Value::text("k "),
        Value::Blob(vec![1]),
    ];
    let pick = |n: usize| spellings[n % spellings.len()].clone();
    (0..columns).map(|column| pick(n as usize / (1 + column * 4))).collect()
}

pub(crate) fn value(n: u8) -> Value {
    [
        Value::Null,
        Value::Integer(0),
        Value::Integer(1),
        Value::Real(0.0),
        Value::Real(-0.0),
        Value::text("x"),
        Value::Blob(vec![0xff]),
    ][n as usize % 7]
        .clone()
}

pub(crate) fn site(n: u8) -> SiteId {
    SiteId([n; 16])
}

pub(crate) fn tie_break() -> impl Strategy<Value = TieBreak> {
    prop_oneof![Just(TieBreak::Site), Just(TieBreak::Value)]
}

/// Values of all classes, wild ones too.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..12);
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-3i64..300).prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Real),
        (-3i32..300).prop_map(|n| Value::Real(f64::from(n) / 2.0)),
        "[ +-]?[0-9]{0,3}[.eE]?[+-]?[0-9]{0,3} {0,2}".prop_map(|text| Value::text(&text)),
        "[a-cA-C\0 ]{0,4}".prop_map(|text| Value::text(&text)),
        bytes.clone().prop_map(Value::Text),
        bytes.prop_map(Value::Blob),
    ]
}

/// A few bits of chance from a seed, for choices that need no shrinking.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
