//! The tables of a history: a fixed set that was chosen for its contention, or one that follows from a seed.
//!
//! Generated tables differ in types, collations, key shapes, STRICT, WITHOUT ROWID, generated columns, CHECK and NOT
//! NULL rules, user triggers, odd names, and in what of them comes late to old replicas.

use crate::Rng;
use crate::value::{Ident, SqlValue};
use crsql_core::column::ColumnType;
use crsql_core::key::{Affinity, Collation, KeyColumn, apply_affinity};
use crsql_core::replica::TableSchema;
use crsql_core::value::Value;

use super::twin::{core_value, sql_value};

/// A text that no row may hold where a table vetoes it.
pub const VETOED: &str = "veto";
/// A text that a CHECK refuses.
pub const UNCHECKED: &str = "unchecked";

/// A column of a table.
#[derive(Debug, Clone)]
pub struct ColumnSpec {
    /// Its name.
    pub name: String,
    /// Its declared type, perhaps none.
    pub declared: &'static str,
    /// How keys of it are told apart; of other columns only the affinity counts.
    pub key: KeyColumn,
    /// What a row has there until somebody writes it, as stored.
    pub default: SqlValue,
    /// NULL is refused.
    pub not_null: bool,
    /// A CHECK refuses [`UNCHECKED`].
    pub checked: bool,
    /// Old replicas get it later.
    pub late: bool,
    /// How it merges.
    pub kind: ColumnType,
    /// It begins as a register, and old replicas declare the type later.
    pub late_type: bool,
}

/// A table.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Its name.
    pub name: String,
    /// Its key columns in key order.
    pub key: Vec<ColumnSpec>,
    /// Its other columns in declared order.
    pub columns: Vec<ColumnSpec>,
    /// Declared STRICT.
    pub strict: bool,
    /// Declared WITHOUT ROWID.
    pub without_rowid: bool,
    /// The declaration of a generated column.
    pub generated: Option<String>,
    /// A trigger skips rows whose first column would be [`VETOED`], another counts updates in a plain table.
    pub triggers: bool,
    /// Old replicas get the whole table later.
    pub late: bool,
}

/// All tables of a history.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The first one gets half of the work.
    pub tables: Vec<TableSpec>,
}

impl ColumnSpec {
    fn plain(name: &str, declared: &'static str, affinity: Affinity, default: SqlValue) -> ColumnSpec {
        let key = KeyColumn { affinity, collation: Collation::Binary };
        ColumnSpec {
            name: name.into(),
            declared,
            key,
            default,
            not_null: false,
            checked: false,
            late: false,
            kind: ColumnType::Register,
            late_type: false,
        }
    }

    fn collated(mut self, collation: Collation) -> ColumnSpec {
        self.key.collation = collation;
        self
    }

    fn typed(mut self, kind: ColumnType) -> ColumnSpec {
        self.kind = kind;
        if kind == ColumnType::Counter {
            (self.default, self.not_null, self.checked) = (0.into(), true, false);
        }
        // Edits that meet make texts that nobody wrote, and a CHECK would refuse some.
        self.checked &= kind != ColumnType::Text;
        self
    }

    fn late(mut self) -> ColumnSpec {
        self.late = true;
        self
    }

    /// What the column stores of a value.
    pub fn stored(&self, value: &SqlValue) -> SqlValue {
        sql_value(&apply_affinity(core_value(value).as_ref(), self.key.affinity).into_value())
    }

    /// The column's part of a CREATE TABLE or an ADD COLUMN.
    pub fn declaration(&self) -> String {
        let mut text = format!("{} {}", Ident(&self.name), self.declared);
        match self.key.collation {
            Collation::NoCase => text.push_str(" COLLATE NOCASE"),
            Collation::Rtrim => text.push_str(" COLLATE RTRIM"),
            _ => {}
        }
        if self.not_null {
            text.push_str(" NOT NULL");
        }
        if self.default != SqlValue::Null {
            text.push_str(&format!(" DEFAULT {}", self.default));
        }
        if self.checked {
            text.push_str(&format!(" CHECK ({} IS NOT '{UNCHECKED}')", Ident(&self.name)));
        }
        text
    }

    /// Whether a STRICT table takes this stored value in the column.
    pub fn takes_strictly(&self, stored: &SqlValue) -> bool {
        matches!(
            (self.declared, stored),
            (_, SqlValue::Null)
                | ("ANY", _)
                | ("INTEGER" | "INT", SqlValue::Integer(_))
                | ("TEXT", SqlValue::Text(_))
                | ("REAL", SqlValue::Real(_))
                | ("BLOB", SqlValue::Blob(_))
        )
    }
}

impl TableSpec {
    /// The column of a name, of the key or not.
    pub fn column(&self, name: &str) -> &ColumnSpec {
        let mut all = self.key.iter().chain(&self.columns);
        all.find(|column| column.name == name).expect("a column of the table")
    }

    /// Whether a scan visits rows in the order of one integer key, so that the model knows it.
    pub fn is_ordered(&self) -> bool {
        self.key.len() == 1 && self.key[0].declared == "INTEGER"
    }

    /// Everything that makes the table, replicated; an old replica's lacks the late columns.
    pub fn ddl(&self, with_late_columns: bool) -> String {
        let table = Ident(&self.name);
        let rowid_key = self.is_ordered() && !self.without_rowid;
        let mut parts: Vec<String> = Vec::new();
        let columns = self.columns.iter().filter(|column| with_late_columns || !column.late);
        // The key in the middle: its place among the columns must not matter.
        let declared: Vec<&ColumnSpec> = columns.collect();
        let middle = declared.len() / 2;
        parts.extend(declared[..middle].iter().map(|column| column.declaration()));
        for column in self.key.iter().rev() {
            let primary = if rowid_key { " PRIMARY KEY" } else { "" };
            parts.push(format!("{}{primary}", column.declaration()));
        }
        parts.extend(declared[middle..].iter().map(|column| column.declaration()));
        parts.extend(self.generated.clone());
        if !rowid_key {
            let names: Vec<String> = self.key.iter().map(|column| Ident(&column.name).to_string()).collect();
            parts.push(format!("PRIMARY KEY ({})", names.join(", ")));
        }
        let options = match (self.strict, self.without_rowid) {
            (true, true) => " STRICT, WITHOUT ROWID",
            (true, false) => " STRICT",
            (false, true) => " WITHOUT ROWID",
            (false, false) => "",
        };
        let typed = self.columns.iter().filter(|column| with_late_columns || !column.late_type);
        let name = self.name.replace('\'', "''");
        let as_crr = self.declaration(typed).unwrap_or_else(|| format!("SELECT crsql_as_crr('{name}');"));
        let mut ddl = format!("CREATE TABLE {table} ({}){options};{as_crr}", parts.join(", "));
        if self.triggers {
            let first = Ident(&self.columns[0].name);
            for (n, event) in ["INSERT", "UPDATE"].iter().enumerate() {
                let veto = Ident(&format!("veto {n} {}", self.name)).to_string();
                ddl.push_str(&format!(
                    "CREATE TRIGGER {veto} BEFORE {event} ON {table} WHEN NEW.{first} IS '{VETOED}'
                     BEGIN SELECT RAISE(IGNORE); END;"
                ));
            }
            let audit = Ident(&format!("audit {}", self.name)).to_string();
            ddl.push_str(&format!(
                "CREATE TABLE IF NOT EXISTS audit (n); CREATE TRIGGER {audit} AFTER UPDATE ON {table}
                 BEGIN INSERT INTO audit VALUES (1); DELETE FROM audit WHERE rowid > 5; END;"
            ));
        }
        ddl
    }

    /// The statement that declares the types of these columns; none if they are registers all.
    pub fn declaration<'c>(&self, columns: impl Iterator<Item = &'c ColumnSpec>) -> Option<String> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\\\""));
        let typed = columns.filter(|column| column.kind != ColumnType::Register);
        let members: Vec<String> =
            typed.map(|column| format!("{}:\"{}\"", quoted(&column.name), column.kind)).collect();
        let options = format!("{{\"columns\":{{{}}}}}", members.join(",")).replace('\'', "''");
        let name = self.name.replace('\'', "''");
        (!members.is_empty()).then(|| format!("SELECT crsql_as_crr('{name}', '{options}');"))
    }

    /// The model's schema of the table as [`ddl`](Self::ddl) makes it.
    pub fn model(&self, with_late_columns: bool) -> TableSchema {
        let key: Vec<KeyColumn> = self.key.iter().map(|column| column.key).collect();
        let columns = self.columns.iter().filter(|column| with_late_columns || !column.late);
        columns.fold(TableSchema::new(&self.name, key), |schema, column| {
            let is_known = with_late_columns || !column.late_type;
            let kind = if is_known { column.kind } else { ColumnType::Register };
            schema.typed(&column.name, kind, self.default_of(column))
        })
    }

    /// The model's default of a column.
    pub fn default_of(&self, column: &ColumnSpec) -> Value {
        core_value(&column.default)
    }
}

impl Schema {
    /// The fixed tables.
    pub fn fixed() -> Schema {
        let integer = |name: &str| ColumnSpec::plain(name, "INTEGER", Affinity::Integer, SqlValue::Null);
        let text = |name: &str| ColumnSpec::plain(name, "TEXT", Affinity::Text, SqlValue::Null);
        let blob = |name: &str| ColumnSpec::plain(name, "BLOB", Affinity::Blob, SqlValue::Null);
        let any = |name: &str, default| ColumnSpec::plain(name, "", Affinity::Blob, default);
        let null = SqlValue::Null;
        let table = |name: &str, key: Vec<ColumnSpec>, columns| TableSpec {
            name: name.into(),
            key: key.into_iter().map(|column| ColumnSpec { not_null: true, ..column }).collect(),
            columns,
            strict: false,
            without_rowid: false,
            generated: None,
            triggers: false,
            late: false,
        };
        let t = vec![
            any("x", null.clone()),
            any("y", SqlValue::text("dy")),
            any("z", SqlValue::text("dz")).late(),
        ];
        let mut k = table(
            "k",
            vec![integer("n"), text("name").collated(Collation::NoCase)],
            vec![any("v", 0.into()), any("w", null.clone())],
        );
        k.without_rowid = true;
        let mut late = table(
            "late",
            vec![blob("id")],
            vec![any("v", null.clone()), any("w", SqlValue::Real(1.5_f64.to_bits()))],
        );
        late.late = true;
        let counter = |name: &str| any(name, 0.into()).typed(ColumnType::Counter);
        let mut later = counter("later");
        later.late_type = true;
        let score = vec![
            any("x", null.clone()),
            any("best", null.clone()).typed(ColumnType::Max),
            any("least", 5.into()).typed(ColumnType::Min),
            counter("hits"),
            later,
        ];
        let mut duel = table(
            "duel",
            vec![text("b"), integer("a")],
            vec![any("top", null.clone()).typed(ColumnType::Max), counter("n")],
        );
        duel.without_rowid = true;
        let prose = |name: &str| text(name).typed(ColumnType::Text);
        let mut later_prose = prose("later");
        later_prose.late_type = true;
        duel.columns.push(prose("words"));
        let page = vec![any("x", null.clone()), prose("body"), later_prose];
        let tally =
            table("tally", vec![text("word").collated(Collation::NoCase)], vec![counter("n"), counter("m")]);
        Schema {
            tables: vec![
                table("t", vec![integer("id")], t),
                k,
                table("u", vec![any("id", null.clone())], vec![any("v", null)]),
                table("tag", vec![text("id").collated(Collation::Rtrim)], vec![]),
                table("score", vec![integer("id")], score),
                table("page", vec![text("path")], page),
                tally,
                duel,
                late,
            ],
        }
    }

    /// The tables of a seed. The first one has an integer key, which contention needs.
    pub fn generated(rng: &mut Rng) -> Schema {
        let count = 2 + rng.below(4);
        let mut tables: Vec<TableSpec> = (0..count).map(|n| generated_table(n, rng)).collect();
        if count > 2 {
            tables[count - 1].late = rng.one_in(2);
        }
        Schema { tables }
    }

    /// Tables of a seed of which all columns but one have this type. Some replicas declare some of them late.
    pub fn of_type(kind: ColumnType, rng: &mut Rng) -> Schema {
        let plain =
            |name: &str, declared, affinity| ColumnSpec::plain(name, declared, affinity, SqlValue::Null);
        let integer = plain("id", "INTEGER", Affinity::Integer);
        let (text, blob) = (plain("name", "TEXT", Affinity::Text), plain("b", "BLOB", Affinity::Blob));
        let keys = [
            vec![integer],
            vec![text.collated(Collation::NoCase), plain("n", "INTEGER", Affinity::Integer)],
            vec![blob],
        ];
        let table = |(at, key): (usize, Vec<ColumnSpec>)| {
            let typed = |name: &str| match kind {
                ColumnType::Text => plain(name, "TEXT", Affinity::Text).typed(kind),
                _ => plain(name, "", Affinity::Blob).typed(kind),
            };
            let mut columns = vec![plain("x", "", Affinity::Blob)];
            columns.extend(["y z", "q\"c", "été"].iter().take(1 + rng.below(3)).map(|name| typed(name)));
            for column in &mut columns[1..] {
                column.late_type = rng.one_in(3);
                if kind != ColumnType::Counter && rng.one_in(2) {
                    column.default = column.stored(rng.pick(&[5.into(), SqlValue::text("dflt")]));
                }
            }
            TableSpec {
                name: NAMES[at].into(),
                key: key.into_iter().map(|column| ColumnSpec { not_null: true, ..column }).collect(),
                columns,
                strict: false,
                without_rowid: rng.one_in(3),
                generated: None,
                triggers: rng.one_in(4),
                late: at > 0 && rng.one_in(6),
            }
        };
        Schema { tables: keys.into_iter().enumerate().map(table).collect() }
    }
}

const NAMES: [&str; 8] = ["t", "order", "a b", "quo\"te", "été", "it's", "select", "Upper.Dot"];
const COLUMNS: [&str; 8] = ["x", "group", "y z", "q\"c", "Ünï", "value", "a'b", "_r"];

fn generated_table(n: usize, rng: &mut Rng) -> TableSpec {
    let strict = rng.one_in(4);
    let ordered = n == 0 || rng.one_in(3);
    let key_count = if ordered { 1 } else { 1 + rng.below(3) };
    let key = (0..key_count).map(|i| {
        let mut column = match ordered {
            true => ColumnSpec::plain("id", "INTEGER", Affinity::Integer, SqlValue::Null),
            false => typed_column(&format!("k{i}"), strict, rng),
        };
        if !ordered && column.key.affinity == Affinity::Text {
            let collations = [Collation::Binary, Collation::NoCase, Collation::Rtrim];
            column.key.collation = *rng.pick(&collations);
        }
        column.not_null = true;
        column
    });
    let key: Vec<ColumnSpec> = key.collect();
    let column_count = if n > 0 && rng.one_in(6) { 0 } else { 1 + rng.below(6) };
    let columns: Vec<ColumnSpec> = (0..column_count)
        .map(|i| {
            let mut column = typed_column(COLUMNS[i], strict, rng);
            if rng.one_in(2) {
                column.default = default_of(&column, strict, rng);
            }
            column.not_null = column.default != SqlValue::Null && rng.one_in(3);
            column.checked = rng.one_in(6);
            column.late = i > 0 && i + 1 == column_count && rng.one_in(2);
            let kinds = [ColumnType::Counter, ColumnType::Max, ColumnType::Min];
            // The model converts no sums, so there is no affinity to do it.
            let may_have_type = i > 0 && !column.late && matches!(column.declared, "" | "ANY");
            // A counter is not declared ANY.
            let kinds = if column.declared == "ANY" { &kinds[1..] } else { &kinds[..] };
            let is_prose = i > 0
                && !column.late
                && matches!(column.declared, "TEXT" | "VARCHAR(10)")
                && !matches!(column.default, SqlValue::Blob(_));
            match () {
                () if may_have_type && rng.one_in(2) => column.typed(*rng.pick(kinds)),
                () if is_prose && rng.one_in(2) => column.typed(ColumnType::Text),
                () => column,
            }
        })
        .collect();
    // Which columns a trigger wrote is unknown until our own triggers are renewed after a plain ALTER.
    let may_veto = !columns.iter().any(|column| column.late);
    let vetoes = columns.first().is_some_and(|column| matches!(column.declared, "TEXT" | "" | "ANY"));
    let generated = columns.first().filter(|_| rng.one_in(4)).map(|column| {
        let kind = if rng.one_in(2) { "STORED" } else { "VIRTUAL" };
        let declared = if strict { "ANY " } else { "" };
        format!("gen {declared}GENERATED ALWAYS AS (typeof({})) {kind}", Ident(&column.name))
    });
    TableSpec {
        name: NAMES[n].into(),
        key,
        columns,
        strict,
        without_rowid: rng.one_in(3),
        generated,
        triggers: may_veto && vetoes && rng.one_in(2),
        late: false,
    }
}

fn typed_column(name: &str, strict: bool, rng: &mut Rng) -> ColumnSpec {
    const LOOSE: [(&str, Affinity); 9] = [
        ("", Affinity::Blob),
        ("", Affinity::Blob),
        ("TEXT", Affinity::Text),
        ("INT", Affinity::Integer),
        ("REAL", Affinity::Real),
        ("BLOB", Affinity::Blob),
        ("NUMERIC", Affinity::Numeric),
        ("VARCHAR(10)", Affinity::Text),
        ("DATETIME", Affinity::Numeric),
    ];
    const STRICT: [(&str, Affinity); 5] = [
        ("ANY", Affinity::Blob),
        ("TEXT", Affinity::Text),
        ("INT", Affinity::Integer),
        ("REAL", Affinity::Real),
        ("BLOB", Affinity::Blob),
    ];
    let (declared, affinity) = if strict { *rng.pick(&STRICT) } else { *rng.pick(&LOOSE) };
    ColumnSpec::plain(name, declared, affinity, SqlValue::Null)
}

fn default_of(column: &ColumnSpec, strict: bool, rng: &mut Rng) -> SqlValue {
    let candidates = [
        SqlValue::from(7),
        SqlValue::text("dflt"),
        SqlValue::Real(2.5_f64.to_bits()),
        SqlValue::Blob(vec![1, 2]),
    ];
    let stored = column.stored(rng.pick(&candidates));
    if strict && !column.takes_strictly(&stored) {
        let fitting = candidates.iter().map(|value| column.stored(value));
        return fitting.into_iter().find(|value| column.takes_strictly(value)).unwrap_or(SqlValue::Null);
    }
    stored
}
