//! Rows on their way out: small cells one after the other, and all text in one piece.
//!
//! ```text
//! rows  = columns:u32 text* rows:u32 cell_bytes:u32 utf8_bytes:u32 cell* utf8*
//! cell  = 0 | 1 i8 | 2 i32 | 3 f64 (an integer within 2^53) | 4 i64 | 5 f64 | 6 len | 7 len byte*
//! len   = a varint, seven bits at a time, low bits first
//! ```
//! The length of a text is in UTF-16 units. JavaScript decodes all of the text at once and cuts it, which costs a
//! tenth of decoding each.

use std::borrow::Cow;

use crsql::sqlite::{Statement, ValueRef};

const INTEGER_SAFE_MAX: i64 = (1 << 53) - 1;

/// Rows being written.
#[derive(Default)]
pub struct Rows {
    header: Vec<u8>,
    pub count: u32,
    cells: Vec<u8>,
    texts: Vec<u8>,
}

/// How far the rows were written at some point.
#[derive(Clone, Copy)]
pub struct Mark {
    cells: usize,
    texts: usize,
}

impl Rows {
    /// No rows yet, of the statement's columns.
    pub fn of(statement: &Statement) -> Rows {
        let mut header = Vec::new();
        let columns = statement.column_count();
        header.extend((columns as u32).to_le_bytes());
        for column in 0..columns {
            let name = statement.column_name(column);
            header.extend((name.len() as u32).to_le_bytes());
            header.extend(name.as_bytes());
        }
        Rows { header, ..Rows::default() }
    }

    /// Appends the statement's current row.
    pub fn push(&mut self, statement: &Statement) {
        self.count += 1;
        for column in 0..statement.column_count() {
            self.cell(statement.column_value(column));
        }
    }

    pub fn mark(&self) -> Mark {
        Mark { cells: self.cells.len(), texts: self.texts.len() }
    }

    /// What was written since the mark.
    pub fn since(&self, mark: Mark) -> (&[u8], &[u8]) {
        (&self.cells[mark.cells..], &self.texts[mark.texts..])
    }

    /// Takes the last row, which began at the mark, back.
    pub fn drop_last(&mut self, mark: Mark) {
        self.count -= 1;
        self.cells.truncate(mark.cells);
        self.texts.truncate(mark.texts);
    }

    /// Only those rows for which `wanted` says so; `marks` are where each row begins.
    pub fn only(&self, marks: &[Mark], wanted: &[bool]) -> Rows {
        let mut rows = Rows { header: self.header.clone(), ..Rows::default() };
        let end = self.mark();
        for (index, mark) in marks.iter().enumerate() {
            if wanted.get(index) == Some(&true) {
                let next = marks.get(index + 1).unwrap_or(&end);
                rows.count += 1;
                rows.cells.extend(&self.cells[mark.cells..next.cells]);
                rows.texts.extend(&self.texts[mark.texts..next.texts]);
            }
        }
        rows
    }

    /// Appends all of it to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.header.len() + self.cells.len() + self.texts.len() + 12);
        out.extend(&self.header);
        out.extend(self.count.to_le_bytes());
        out.extend((self.cells.len() as u32).to_le_bytes());
        out.extend((self.texts.len() as u32).to_le_bytes());
        out.extend(&self.cells);
        out.extend(&self.texts);
    }

    fn cell(&mut self, value: ValueRef<'_>) {
        let cells = &mut self.cells;
        match value {
            ValueRef::Null => cells.push(0),
            ValueRef::Integer(value) => integer(cells, value),
            ValueRef::Real(value) => {
                cells.push(5);
                cells.extend(value.to_le_bytes());
            }
            ValueRef::Text(bytes) => {
                // What is not UTF-8 reaches JavaScript with replacement characters, as any decoder would do it.
                let text = match std::str::from_utf8(bytes) {
                    Ok(text) => Cow::Borrowed(text),
                    Err(_) => String::from_utf8_lossy(bytes),
                };
                cells.push(6);
                varint(cells, utf16_units(text.as_bytes()));
                self.texts.extend(text.as_bytes());
            }
            ValueRef::Blob(bytes) => {
                cells.push(7);
                varint(cells, bytes.len());
                cells.extend(bytes);
            }
        }
    }
}

fn integer(cells: &mut Vec<u8>, value: i64) {
    if let Ok(small) = i8::try_from(value) {
        cells.extend([1, small as u8]);
    } else if let Ok(middle) = i32::try_from(value) {
        cells.push(2);
        cells.extend(middle.to_le_bytes());
    } else if value.abs_diff(0) <= INTEGER_SAFE_MAX as u64 {
        cells.push(3);
        cells.extend((value as f64).to_le_bytes());
    } else {
        cells.push(4);
        cells.extend(value.to_le_bytes());
    }
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Every code point is one unit, except those of four bytes, which are two.
fn utf16_units(text: &[u8]) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.iter().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0)).sum()
}
