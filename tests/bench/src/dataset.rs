//! The rows every workload writes, made before any clock runs and the same on every run, and the SQL that fits
//! the shape of their key.

use std::ffi::c_int;

use crate::statement::Statement;

/// The primary keys compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// `INTEGER PRIMARY KEY`, 1 to n.
    Int,
    /// 16 random bytes.
    Blob,
    /// A uuid as 36 characters.
    Text,
    /// `INTEGER PRIMARY KEY`, random 62-bit numbers.
    Random,
    /// `(TEXT, INTEGER)`, a hundred rows to a text.
    Composite,
}

impl KeyKind {
    /// All kinds, in the order they are shown.
    pub const ALL: [KeyKind; 5] =
        [KeyKind::Int, KeyKind::Blob, KeyKind::Text, KeyKind::Random, KeyKind::Composite];

    /// The name used by `--keys` and in results.
    pub fn name(self) -> &'static str {
        match self {
            KeyKind::Int => "int",
            KeyKind::Blob => "blob",
            KeyKind::Text => "text",
            KeyKind::Random => "random",
            KeyKind::Composite => "composite",
        }
    }

    /// What a reader is shown.
    pub fn title(self) -> &'static str {
        match self {
            KeyKind::Int => "INTEGER key, ascending",
            KeyKind::Blob => "16-byte BLOB key",
            KeyKind::Text => "TEXT uuid key",
            KeyKind::Random => "random INTEGER key",
            KeyKind::Composite => "composite key (TEXT, INTEGER)",
        }
    }

    /// How many columns the key has.
    pub fn columns(self) -> c_int {
        if self == KeyKind::Composite { 2 } else { 1 }
    }

    /// How many columns table `t` has.
    pub fn table_columns(self) -> c_int {
        self.columns() + 4
    }

    /// Creates `name` with this key and the four value columns.
    pub fn create_table(self, name: &str) -> String {
        let (columns, constraint) = match self {
            KeyKind::Int | KeyKind::Random => ("id INTEGER PRIMARY KEY NOT NULL", ""),
            KeyKind::Blob => ("id BLOB PRIMARY KEY NOT NULL", ""),
            KeyKind::Text => ("id TEXT PRIMARY KEY NOT NULL", ""),
            KeyKind::Composite => ("g TEXT NOT NULL, n INTEGER NOT NULL", ", PRIMARY KEY (g, n)"),
        };
        format!("CREATE TABLE {name} ({columns}, a TEXT, b INT, c TEXT, d INT{constraint})")
    }

    /// An INSERT of every column into `name`, in [`Row::bind`]'s order.
    pub fn insert_into(self, name: &str) -> String {
        let parameters = vec!["?"; self.table_columns() as usize].join(", ");
        format!("INSERT INTO {name} VALUES ({parameters})")
    }

    /// An INSERT that overwrites a row already there.
    pub fn upsert(self) -> String {
        let key = if self == KeyKind::Composite { "g, n" } else { "id" };
        let set = "a = excluded.a, b = excluded.b, c = excluded.c, d = excluded.d";
        format!("{} ON CONFLICT ({key}) DO UPDATE SET {set}", self.insert_into("t"))
    }

    /// A condition on the key whose parameters start at `first`.
    pub fn matches(self, first: c_int) -> String {
        match self {
            KeyKind::Composite => format!("g = ?{first} AND n = ?{}", first + 1),
            _ => format!("id = ?{first}"),
        }
    }
}

/// A primary key value.
pub enum Key {
    /// Either INTEGER kind.
    Integer(i64),
    /// 16 bytes.
    Blob([u8; 16]),
    /// A uuid.
    Text(Box<str>),
    /// Text and number.
    Pair(Box<str>, i64),
}

impl Key {
    /// Binds the key's columns from parameter `first` on and returns the parameter after them.
    #[inline]
    pub fn bind<'a>(&'a self, statement: &mut Statement<'a>, first: c_int) -> c_int {
        match self {
            Key::Integer(value) => statement.bind_integer(first, *value),
            Key::Blob(value) => statement.bind_blob(first, value),
            Key::Text(value) => statement.bind_text(first, value.as_bytes()),
            Key::Pair(text, number) => {
                statement.bind_text(first, text.as_bytes());
                statement.bind_integer(first + 1, *number);
                return first + 2;
            }
        }
        first + 1
    }
}

/// One row of table `t`.
pub struct Row {
    /// Its primary key.
    pub key: Key,
    /// `name-123`.
    pub a: Box<str>,
    /// A small number.
    pub b: i64,
    /// `v1a2b3c4d`.
    pub c: Box<str>,
    /// A number of up to 31 bits.
    pub d: i64,
}

impl Row {
    /// Binds every column, in the table's order, from parameter 1.
    #[inline]
    pub fn bind<'a>(&'a self, statement: &mut Statement<'a>) {
        let next = self.key.bind(statement, 1);
        self.bind_values(statement, next);
    }

    /// Binds the four value columns from parameter `first` on.
    #[inline]
    pub fn bind_values<'a>(&'a self, statement: &mut Statement<'a>, first: c_int) {
        statement.bind_text(first, self.a.as_bytes());
        statement.bind_integer(first + 1, self.b);
        statement.bind_text(first + 2, self.c.as_bytes());
        statement.bind_integer(first + 3, self.d);
    }
}

/// The rows of one key kind.
pub struct Dataset {
    /// The shape of the keys.
    pub keys: KeyKind,
    /// The rows in the order they are inserted.
    pub rows: Vec<Row>,
    /// A tenth as many rows more, for inserts into a table that holds the others.
    pub extra: Vec<Row>,
    /// Other values for the same rows, for updates of every column.
    pub rewritten: Vec<Row>,
    /// A random order of the row indices.
    pub shuffled: Vec<u32>,
}

impl Dataset {
    /// `count` rows from a fixed seed.
    pub fn generate(keys: KeyKind, count: usize) -> Self {
        let mut numbers = Numbers(0x5eed_0000 + keys as u64);
        let mut rows: Vec<Row> =
            (0..count + count / 10).map(|index| row(keys, index, &mut numbers, 0)).collect();
        let extra = rows.split_off(count);
        // The same seed again gives the same keys; the round changes the values alone.
        let mut numbers = Numbers(0x5eed_0000 + keys as u64);
        let rewritten = (0..count).map(|index| row(keys, index, &mut numbers, 1)).collect();
        let mut shuffled: Vec<u32> = (0..count as u32).collect();
        for last in (1..count).rev() {
            shuffled.swap(last, numbers.below(last as u64 + 1) as usize);
        }
        Dataset { keys, rows, extra, rewritten, shuffled }
    }
}

fn row(keys: KeyKind, index: usize, numbers: &mut Numbers, round: u64) -> Row {
    let key = match keys {
        KeyKind::Int => Key::Integer(index as i64 + 1),
        KeyKind::Random => Key::Integer((numbers.next() >> 2) as i64),
        KeyKind::Blob => Key::Blob(numbers.bytes()),
        KeyKind::Text => Key::Text(uuid(numbers.bytes())),
        KeyKind::Composite => Key::Pair(format!("group-{}", index / 100).into(), (index % 100) as i64),
    };
    let value = numbers.next() ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Row {
        key,
        a: format!("name-{}", (index as u64 + round * 7) % 1000).into(),
        b: (value & 0xffff) as i64,
        c: format!("v{:08x}", value >> 32).into(),
        d: (value >> 16 & 0x7fff_ffff) as i64,
    }
}

fn uuid(bytes: [u8; 16]) -> Box<str> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-").into()
}

/// SplitMix64: enough randomness for keys, and the same on every machine.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, with a bias too small to matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewritten_rows_keep_their_keys_and_change_every_value() {
        let data = Dataset::generate(KeyKind::Text, 100);
        for (row, rewritten) in data.rows.iter().zip(&data.rewritten) {
            let (Key::Text(key), Key::Text(same)) = (&row.key, &rewritten.key) else { panic!("a TEXT key") };
            assert_eq!(key, same);
            assert!(
                row.a != rewritten.a && row.b != rewritten.b && row.c != rewritten.c && row.d != rewritten.d
            );
        }
    }

    #[test]
    fn the_shuffled_order_visits_every_row_once() {
        let mut order = Dataset::generate(KeyKind::Int, 1000).shuffled;
        assert!(order.windows(2).any(|pair| pair[0] > pair[1]));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1000));
    }
}
