//! Changesets from and to lists of owned changes: for the model and for tests, where clarity counts, not speed.

use super::error::Result;
use super::{Changeset, GroupHeader, Limits, RowKey, RunHeader, Told, Writer};
use crate::change::{Change, Fact};
use crate::merge::{Stamp, TieBreak};
use crate::pack::pack_value;
use crate::value::ValueRef;
use crate::version_vector::VersionVector;

impl Changeset<'_> {
    /// Every change of a changeset, in its order.
    pub fn changes(bytes: &[u8]) -> Result<Vec<Change>> {
        let changeset = Changeset::open(bytes, &Limits::default())?;
        let mut reader = changeset.reader();
        let (mut changes, mut values) = (Vec::new(), Vec::new());
        while let Some(run) = reader.next_run()? {
            let mut row = 0;
            while let Some(key) = reader.next_row(&mut values)? {
                changeset.push_row(&run, row, key, &values, &mut changes);
                row += 1;
            }
        }
        Ok(changes)
    }

    fn push_row(
        &self,
        run: &RunHeader,
        row: u64,
        key: RowKey<'_>,
        values: &[ValueRef<'_>],
        out: &mut Vec<Change>,
    ) {
        let table = &self.tables()[run.table as usize];
        let pk = packed(key);
        let mut values = values.iter();
        for group in &run.groups {
            let site = self.sites()[group.site as usize];
            let (version, seq) = (group.version_of_row(row), group.seq_of_row(row));
            for (bit, offset) in group.columns.iter().zip(group.seq_offsets()) {
                let fact = match bit.checked_sub(1) {
                    None => Fact::Row,
                    Some(column) => Fact::Cell {
                        column: table.columns[column as usize].clone(),
                        col_version: group.col_version,
                        value: values.next().expect("next_row gives a value for every bit").to_owned_value(),
                    },
                };
                let stamp = Stamp { site, version, seq: seq + offset };
                out.push(Change { table: table.name.clone(), pk: pk.clone(), fact, cl: run.cl, stamp });
            }
        }
    }
}

/// A changeset of `changes`, uncompressed.
///
/// Neighbours that are facts of the same row and incarnation are grouped, and neighbouring rows of one pattern
/// form a run, so sort by table, key and seq for a small result. The order of the rows is kept.
pub fn write_changes(tie_break: TieBreak, changes: &[Change], claims: &VersionVector) -> Vec<u8> {
    write_changes_telling(tie_break, changes, claims, None)
}

/// As [`write_changes`], and tells what was collected.
pub fn write_changes_telling(
    tie_break: TieBreak,
    changes: &[Change],
    claims: &VersionVector,
    told: Option<&Told>,
) -> Vec<u8> {
    let mut writer = Writer::new(tie_break);
    writer.tell_collected(told.cloned());
    let tables = tables_of(changes);
    let rows = rows_of(changes, &tables, &mut writer);
    let mut rest = &rows[..];
    while let Some(first) = rest.first() {
        let (run, len) = run_of(first, &rest[1..]);
        writer.begin_run(&run);
        for row in &rest[..len] {
            if run.first_key.is_none() {
                writer.key(row.pk);
            }
            row.values.iter().for_each(|value| writer.value(*value));
            writer.end_row();
        }
        rest = &rest[len..];
    }
    writer.finish(claims, false)
}

struct TableDraft<'a> {
    name: &'a str,
    key_columns: u32,
    columns: Vec<&'a str>,
}

struct Row<'a> {
    table: u32,
    pk: &'a [u8],
    /// The key, if it is one integer.
    key: Option<i64>,
    cl: u64,
    groups: Vec<GroupHeader>,
    /// In group and bit order.
    values: Vec<ValueRef<'a>>,
}

/// The tables of `changes` with the columns they mention, in order of appearance.
fn tables_of(changes: &[Change]) -> Vec<TableDraft<'_>> {
    let mut tables: Vec<TableDraft<'_>> = Vec::new();
    for change in changes {
        let at = tables.iter().position(|table| table.name == change.table).unwrap_or_else(|| {
            // The count byte of the packed key; a change with a malformed key still has to be writable.
            let key_columns = change.pk.first().map_or(1, |count| u32::from(*count).max(1));
            tables.push(TableDraft { name: &change.table, key_columns, columns: Vec::new() });
            tables.len() - 1
        });
        if let Fact::Cell { column, .. } = &change.fact
            && !tables[at].columns.contains(&column.as_str())
        {
            tables[at].columns.push(column);
        }
    }
    tables
}

/// One row for each stretch of changes of a table, key and causal length that names no fact twice.
fn rows_of<'a>(changes: &'a [Change], tables: &[TableDraft<'a>], writer: &mut Writer) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let mut facts: Vec<(u32, &Change)> = Vec::new();
    for change in changes {
        let bit = bit_of(change, tables);
        let belongs = facts.last().is_none_or(|(_, last)| {
            (&last.table, &last.pk, last.cl) == (&change.table, &change.pk, change.cl)
                && facts.iter().all(|(other, _)| *other != bit)
        });
        if !belongs {
            rows.push(row_of(&mut facts, tables, writer));
        }
        facts.push((bit, change));
    }
    if !facts.is_empty() {
        rows.push(row_of(&mut facts, tables, writer));
    }
    rows
}

fn bit_of(change: &Change, tables: &[TableDraft<'_>]) -> u32 {
    let Fact::Cell { column, .. } = &change.fact else { return 0 };
    let table = tables.iter().find(|table| table.name == change.table).expect("tables_of saw this change");
    let column = table.columns.iter().position(|name| name == column).expect("tables_of saw this column");
    column as u32 + 1
}

fn row_of<'a>(facts: &mut Vec<(u32, &'a Change)>, tables: &[TableDraft<'a>], writer: &mut Writer) -> Row<'a> {
    facts.sort_by_key(|(bit, _)| *bit);
    let first = facts[0].1;
    let draft = tables.iter().find(|table| table.name == first.table).expect("tables_of saw this change");
    let table = writer.table(draft.name, draft.key_columns, &draft.columns);
    let mut groups: Vec<(GroupHeader, Vec<ValueRef<'a>>)> = Vec::new();
    for (bit, change) in facts.drain(..) {
        let site = writer.site(change.stamp.site);
        let at = groups.iter().position(|(group, _)| continues(group, change, site)).unwrap_or_else(|| {
            let Stamp { version, seq, .. } = change.stamp;
            groups.push((GroupHeader { site, version, seq, ..GroupHeader::default() }, Vec::new()));
            groups.len() - 1
        });
        let (group, values) = &mut groups[at];
        group.columns.push(bit);
        match &change.fact {
            // Stands for nothing beside a row's existence, until a cell of the same stamp joins.
            Fact::Row => group.col_version = change.cl,
            Fact::Cell { col_version, value, .. } => {
                group.col_version = *col_version;
                values.push(value.as_ref());
            }
        }
    }
    let (groups, values): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
    let key = if draft.key_columns == 1 { integer_key(&first.pk) } else { None };
    Row { table, pk: &first.pk, key, cl: first.cl, groups, values: values.concat() }
}

/// Whether `change` is the next fact of `group`: same author, version and column version, and the next seq.
fn continues(group: &GroupHeader, change: &Change, site: u32) -> bool {
    let same_version = match &change.fact {
        Fact::Row => true,
        Fact::Cell { col_version, .. } => group.columns == [0] || group.col_version == *col_version,
    };
    same_version
        && (group.site, group.version) == (site, change.stamp.version)
        && group.seq.saturating_add(group.columns.len() as u64) == change.stamp.seq
}

/// The longest run that begins with `first` and goes on in `rest`, and its number of rows.
fn run_of(first: &Row<'_>, rest: &[Row<'_>]) -> (RunHeader, usize) {
    let mut run =
        RunHeader { table: first.table, cl: first.cl, groups: first.groups.clone(), first_key: first.key };
    let Some(second) = rest.first().filter(|second| steps(&mut run, second)) else {
        return (run, 1);
    };
    let follows = |row: &Row<'_>, at: u64| {
        row.key.is_some() && row.key == first.key.and_then(|key| key.checked_add_unsigned(at))
    };
    if !follows(second, 1) {
        run.first_key = None;
    }
    let fits = |(row, at): &(&Row<'_>, u64)| {
        let expected = run.after(*at);
        row.table == run.table
            && row.cl == run.cl
            && same_clocks(&row.groups, &expected.groups)
            && (run.first_key.is_none() || follows(row, *at))
    };
    let len = 1 + rest.iter().zip(1..).take_while(fits).count();
    (run, len)
}

/// Sets the steps of `run` so that its second row is `second`, if there are such steps.
fn steps(run: &mut RunHeader, second: &Row<'_>) -> bool {
    if run.table != second.table || run.cl != second.cl || run.groups.len() != second.groups.len() {
        return false;
    }
    let mut stepped = run.groups.clone();
    for (group, next) in stepped.iter_mut().zip(&second.groups) {
        let version_step = next.version.checked_sub(group.version);
        let seq_step = next.seq.checked_sub(group.seq);
        let (Some(version_step), Some(seq_step)) = (version_step, seq_step) else { return false };
        if (&group.columns, group.col_version, group.site) != (&next.columns, next.col_version, next.site) {
            return false;
        }
        (group.version_step, group.seq_step) = (version_step, seq_step);
    }
    run.groups = stepped;
    true
}

fn same_clocks(row: &[GroupHeader], expected: &[GroupHeader]) -> bool {
    let clocks = |group: &GroupHeader| {
        (group.columns.clone(), group.col_version, group.site, group.version, group.seq)
    };
    row.len() == expected.len() && row.iter().zip(expected).all(|(a, b)| clocks(a) == clocks(b))
}

/// The integer that `pk` packs, if it packs nothing else.
fn integer_key(pk: &[u8]) -> Option<i64> {
    match crate::pack::unpack(pk).ok()?[..] {
        [ValueRef::Integer(key)] => Some(key),
        _ => None,
    }
}

fn packed(key: RowKey<'_>) -> Vec<u8> {
    match key {
        RowKey::Packed(pk) => pk.to_vec(),
        RowKey::Integer(key) => {
            let mut pk = vec![1];
            pack_value(ValueRef::Integer(key), &mut pk);
            pk
        }
    }
}
