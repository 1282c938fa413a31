//! What a `CREATE TABLE` text says and no pragma repeats: AUTOINCREMENT, conflict clauses, table options, and the
//! text of each column definition.
//!
//! For texts from `sqlite_schema`, which SQLite has accepted; it relies on that and checks nothing twice.

use crate::schema::tokens::{Token, tokenize};

/// The parts of a `CREATE TABLE` statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableText<'a> {
    /// The column definitions, in order.
    pub columns: Vec<ColumnText<'a>>,
    /// The tokens of each table constraint, in order. Constraints that no comma separates count as one.
    pub constraints: Vec<Vec<Token<'a>>>,
    /// The PRIMARY KEY and UNIQUE constraints of columns and table.
    pub keys: Vec<KeyText>,
    /// The key is declared AUTOINCREMENT.
    pub autoincrement: bool,
    /// The table is declared WITHOUT ROWID.
    pub without_rowid: bool,
    /// The table is declared STRICT.
    pub strict: bool,
}

/// One column definition as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnText<'a> {
    /// The column's name, unquoted.
    pub name: String,
    /// The definition from the name to its last token: what `ALTER TABLE ADD COLUMN` takes.
    pub definition: &'a str,
    /// The tokens of [`ColumnText::definition`].
    pub tokens: Vec<Token<'a>>,
}

/// A PRIMARY KEY or UNIQUE constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyText {
    /// PRIMARY KEY; otherwise UNIQUE.
    pub primary: bool,
    /// Names of its columns, in the order of the constraint.
    pub columns: Vec<String>,
    /// ON CONFLICT REPLACE is declared on it.
    pub replace: bool,
}

/// Reads the text of a `CREATE TABLE` statement; `None` for any other statement, virtual tables included.
pub fn table_text(sql: &str) -> Option<TableText<'_>> {
    let tokens = tokenize(sql);
    let mut head = tokens.iter().filter(|token| !token.is_word("TEMP") && !token.is_word("TEMPORARY"));
    if !head.next()?.is_word("CREATE") || !head.next()?.is_word("TABLE") {
        return None;
    }
    let open = tokens.iter().position(|token| token.is_punct(b'('))?;
    let close = open + group_len(&tokens[open..]) - 1;
    let mut table = TableText::default();
    for item in split_at_commas(tokens.get(open + 1..close)?) {
        table.add(sql, item);
    }
    let options = tokens.get(close + 1..).unwrap_or_default();
    table.strict = options.iter().any(|token| token.is_word("STRICT"));
    table.without_rowid = options.iter().any(|token| token.is_word("ROWID"));
    Some(table)
}

impl<'a> TableText<'a> {
    fn add(&mut self, sql: &'a str, item: &[Token<'a>]) {
        let (Some(first), Some(last)) = (item.first(), item.last()) else { return };
        self.autoincrement |= item.iter().any(|token| token.is_word("AUTOINCREMENT"));
        // None of these words can be a bare column name. Constraints need no comma between them, so one item may
        // hold several.
        let constraint = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"];
        if constraint.iter().any(|word| first.is_word(word)) {
            self.keys.extend(key_texts(item, None));
            self.constraints.push(item.to_vec());
        } else if let Some(name) = first.name() {
            self.keys.extend(key_texts(item, Some(&name)));
            self.columns.push(ColumnText {
                name: name.into_owned(),
                definition: sql.get(first.start..last.end()).unwrap_or_default(),
                tokens: item.to_vec(),
            });
        }
    }
}

/// The key constraints in one definition: of `column` when it is a column definition.
fn key_texts(item: &[Token<'_>], column: Option<&str>) -> Vec<KeyText> {
    let mut keys = Vec::new();
    let mut at = if column.is_some() { 1 } else { 0 };
    while at < item.len() {
        let primary = item[at].is_word("PRIMARY");
        if !primary && !item[at].is_word("UNIQUE") {
            at += group_len(&item[at..]);
            continue;
        }
        at += if primary { 2 } else { 1 };
        let mut columns: Vec<String> = column.map(str::to_owned).into_iter().collect();
        if column.is_none() {
            let len = item.get(at..).map_or(0, group_len);
            let terms = split_at_commas(item.get(at + 1..(at + len).saturating_sub(1)).unwrap_or_default());
            columns.extend(terms.iter().filter_map(|term| Some(term.first()?.name()?.into_owned())));
            at += len;
        }
        let mut rest = item.get(at..).unwrap_or_default();
        while rest.first().is_some_and(|token| token.is_word("ASC") || token.is_word("DESC")) {
            rest = &rest[1..];
        }
        let replace = matches!(rest, [on, conflict, action, ..]
            if on.is_word("ON") && conflict.is_word("CONFLICT") && action.is_word("REPLACE"));
        keys.push(KeyText { primary, columns, replace });
    }
    keys
}

/// How many tokens the first of `tokens` spans: a parenthesis reaches to its partner, anything else is one.
fn group_len(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate() {
        if token.is_punct(b'(') {
            depth += 1;
        } else if token.is_punct(b')') {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len().max(1)
}

/// Splits at the commas outside parentheses.
fn split_at_commas<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at < tokens.len() {
        if tokens[at].is_punct(b',') {
            parts.push(&tokens[from..at]);
            from = at + 1;
        }
        at += group_len(&tokens[at..]);
    }
    if from < tokens.len() {
        parts.push(&tokens[from..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(sql: &str) -> Vec<String> {
        table_text(sql).unwrap().columns.into_iter().map(|column| column.definition.to_owned()).collect()
    }

    #[test]
    fn column_definitions_keep_their_text() {
        let sql = "CREATE TABLE \"a(b\" ([x,y] DECIMAL(10, 2) DEFAULT (max(1, 2)), -- a comment, with ( and '\n \
                   'z' TEXT CHECK (z IN (',', ')')) /* trailing */, key, CHECK (x > 0) FOREIGN KEY (z) REFERENCES t)";
        assert_eq!(
            columns(sql),
            ["[x,y] DECIMAL(10, 2) DEFAULT (max(1, 2))", "'z' TEXT CHECK (z IN (',', ')'))", "key"]
        );
        let table = table_text(sql).unwrap();
        assert_eq!(table.columns[0].name, "x,y");
        assert_eq!(table.constraints.len(), 1);
        assert_eq!(table.constraints[0].first().unwrap().text, "CHECK");
        assert_eq!(table.constraints[0].last().unwrap().text, "t");
    }

    #[test]
    fn autoincrement_counts_only_as_a_keyword() {
        let is = |sql| table_text(sql).unwrap().autoincrement;
        assert!(is("CREATE TABLE t (id INTEGER PRIMARY KEY autoIncrement)"));
        assert!(is("CREATE TABLE t (id INTEGER, x, PRIMARY KEY (id AUTOINCREMENT))"));
        assert!(!is("CREATE TABLE t (id INTEGER PRIMARY KEY /* AUTOINCREMENT */, \"AUTOINCREMENT\" TEXT)"));
        assert!(!is("CREATE TABLE t (id INTEGER PRIMARY KEY, x DEFAULT 'AUTOINCREMENT') -- AUTOINCREMENT"));
        assert!(!is("CREATE TABLE autoincrement_ (autoincrement_id INTEGER PRIMARY KEY)"));
    }

    #[test]
    fn conflict_clauses_belong_to_their_key() {
        let keys = |sql| -> Vec<(bool, String, bool)> {
            let keys = table_text(sql).unwrap().keys;
            keys.into_iter().map(|key| (key.primary, key.columns.join(","), key.replace)).collect()
        };
        assert_eq!(
            keys("CREATE TABLE t (a TEXT NOT NULL ON CONFLICT REPLACE PRIMARY KEY)"),
            [(true, "a".into(), false)]
        );
        assert_eq!(
            keys("CREATE TABLE t (a TEXT PRIMARY KEY DESC ON CONFLICT replace NOT NULL)"),
            [(true, "a".into(), true)]
        );
        assert_eq!(
            keys(
                "CREATE TABLE t (a, [b c] UNIQUE ON CONFLICT REPLACE, PRIMARY KEY (a DESC, 'b c') ON CONFLICT \
                 ABORT UNIQUE (\"b c\" COLLATE NOCASE, a) ON CONFLICT REPLACE)"
            ),
            [(false, "b c".into(), true), (true, "a,b c".into(), false), (false, "b c,a".into(), true)]
        );
        assert_eq!(
            keys("CREATE TABLE t (\"primary\" UNIQUE, x DEFAULT 'unique')"),
            [(false, "primary".into(), false)]
        );
    }

    #[test]
    fn options_stand_behind_the_columns() {
        let options = |sql| table_text(sql).map(|table| (table.without_rowid, table.strict));
        assert_eq!(options("CREATE TABLE t (a PRIMARY KEY) WITHOUT rowid"), Some((true, false)));
        assert_eq!(options("CREATE TABLE t (a PRIMARY KEY) strict, without ROWID"), Some((true, true)));
        assert_eq!(options("CREATE TABLE t (strict, rowid) -- WITHOUT ROWID, STRICT"), Some((false, false)));
    }

    #[test]
    fn other_statements_are_no_tables() {
        for sql in
            ["", "CREATE VIRTUAL TABLE v USING fts5(a)", "CREATE VIEW v AS SELECT (1)", "CREATE TABLE t", "("]
        {
            assert_eq!(table_text(sql), None, "{sql}");
        }
        for sql in
            ["CREATE TABLE t (", "CREATE TABLE t )(", "CREATE TABLE t (a, PRIMARY", "CREATE TABLE t (,,)"]
        {
            let _ = table_text(sql);
        }
    }
}
