//! A schema script cut into statements, and each statement's part in a migration.
//!
//! A script says what the schema *is*: CREATE statements, and statements to run once it is so, `SELECT
//! crsql_as_crr('t')` among them. What says how to get there, or reaches beyond `main`, is refused.

use crate::schema::tokens::{Kind, Token, tokenize};

/// A statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptStatement<'a> {
    /// Its part in a migration.
    pub part: Part,
    /// Its text, without what separates it from the next.
    pub sql: &'a str,
}

/// What a statement contributes to a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Creates a table, index, view or trigger.
    Definition,
    /// Creates the virtual table of this name.
    VirtualTable(String),
    /// Runs when the schema is as the script says.
    Afterwards,
}

/// Why a script can't be a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A statement other than those that make up a schema.
    #[error("the schema contains {0:?}; write what the schema is (CREATE …), not how to get there")]
    Statement(String),
    /// A temporary object.
    #[error(
        "the schema contains {0:?}; temporary objects are no part of a database, so create them separately"
    )]
    Temporary(String),
    /// An object of another database.
    #[error("the schema contains {0:?}; only main can be migrated, so leave the database's name out")]
    OtherDatabase(String),
    /// A table filled from a query.
    #[error(
        "the schema contains {0:?}; name the columns instead, since a schema creates tables without rows"
    )]
    TableFromQuery(String),
    /// A CREATE statement that breaks off.
    #[error("the schema contains {0:?}, which is not a complete statement")]
    Incomplete(String),
}

/// Cuts `script` into statements and says what each is for.
pub fn parse(script: &str) -> Result<Vec<ScriptStatement<'_>>, ScriptError> {
    let tokens = tokenize(script);
    split_statements(&tokens)
        .into_iter()
        .filter_map(|tokens| {
            let sql = script.get(tokens.first()?.start..tokens.last()?.end())?;
            Some(part_of(tokens, sql).map(|part| ScriptStatement { part, sql }))
        })
        .collect()
}

/// Statements end at a semicolon, those that create a trigger at the one behind `; END`.
fn split_statements<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let mut statements = Vec::new();
    let mut from = 0;
    for (at, token) in tokens.iter().enumerate() {
        if !token.is_punct(b';') {
            continue;
        }
        let statement = &tokens[from..at];
        let closed =
            matches!(statement, [.., semicolon, end] if semicolon.is_punct(b';') && end.is_word("END"));
        if creates(statement) == Some("TRIGGER") && !closed {
            continue;
        }
        statements.push(statement);
        from = at + 1;
    }
    statements.push(&tokens[from..]);
    statements
}

const OBJECTS: [&str; 5] = ["TABLE", "INDEX", "VIEW", "TRIGGER", "VIRTUAL"];

/// The kind of object that a CREATE statement creates.
fn creates(statement: &[Token<'_>]) -> Option<&'static str> {
    let (create, rest) = statement.split_first()?;
    if !create.is_word("CREATE") {
        return None;
    }
    let kind =
        rest.iter().find(|token| !["TEMP", "TEMPORARY", "UNIQUE"].iter().any(|word| token.is_word(word)))?;
    OBJECTS.into_iter().find(|word| kind.is_word(word))
}

fn part_of(statement: &[Token<'_>], sql: &str) -> Result<Part, ScriptError> {
    let excerpt = || excerpt(sql);
    let first = |words: &[&str]| words.iter().any(|word| statement[0].is_word(word));
    if first(&["SELECT", "VALUES", "WITH", "INSERT", "REPLACE", "UPDATE", "DELETE", "PRAGMA", "ANALYZE"]) {
        return Ok(Part::Afterwards);
    }
    let Some(kind) = creates(statement) else { return Err(ScriptError::Statement(excerpt())) };
    if statement[1].is_word("TEMP") || statement[1].is_word("TEMPORARY") {
        return Err(ScriptError::Temporary(excerpt()));
    }
    let (schema, name, rest) = created_name(statement).ok_or_else(|| ScriptError::Incomplete(excerpt()))?;
    match schema.as_deref() {
        None => {}
        Some(schema) if schema.eq_ignore_ascii_case("main") => {}
        Some(schema) if schema.eq_ignore_ascii_case("temp") => return Err(ScriptError::Temporary(excerpt())),
        Some(_) => return Err(ScriptError::OtherDatabase(excerpt())),
    }
    if kind == "TABLE" && rest.first().is_some_and(|token| token.is_word("AS")) {
        return Err(ScriptError::TableFromQuery(excerpt()));
    }
    Ok(if kind == "VIRTUAL" { Part::VirtualTable(name) } else { Part::Definition })
}

/// Database, name and what follows in `CREATE … [IF NOT EXISTS] [database.]name …`.
fn created_name<'t, 'a>(statement: &'t [Token<'a>]) -> Option<(Option<String>, String, &'t [Token<'a>])> {
    let mut at = 1 + statement.iter().position(|token| OBJECTS.iter().any(|word| token.is_word(word)))?;
    if statement[at - 1].is_word("VIRTUAL") {
        at += 1;
    }
    // IF can name an object too, so all three words count.
    let words = ["IF", "NOT", "EXISTS"];
    if statement.get(at..at + 3).is_some_and(|three| three.iter().zip(words).all(|(t, word)| t.is_word(word)))
    {
        at += 3;
    }
    let name = |at: usize| statement.get(at)?.name().map(std::borrow::Cow::into_owned);
    if statement.get(at + 1).is_some_and(|token| token.is_punct(b'.')) {
        return Some((Some(name(at)?), name(at + 2)?, &statement[at + 3..]));
    }
    Some((None, name(at)?, &statement[at + 1..]))
}

/// A CREATE statement of `sqlite_schema` that creates its object in `main`, whatever TEMP holds.
pub fn qualified(sql: &str) -> String {
    let tokens = tokenize(sql);
    let kind = tokens.iter().position(|token| OBJECTS.iter().any(|word| token.is_word(word)));
    let (Some(name), Some(last)) = (kind.and_then(|kind| tokens.get(kind + 1)), tokens.last()) else {
        return sql.to_owned();
    };
    // Without a comment at the end, which would swallow what a caller appends.
    let (head, tail) = (&sql[..name.start], &sql[name.start..last.end()]);
    format!("{head}main.{tail}")
}

/// Whether two texts are the same to SQLite: the same tokens, names and keywords in any letter case and quoting.
pub fn same_sql(a: &str, b: &str) -> bool {
    let (a, b) = (tokenize(a), tokenize(b));
    same_tokens(&a, &b)
}

/// [`same_sql`] of tokens.
pub fn same_tokens(a: &[Token<'_>], b: &[Token<'_>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_token(a, b))
}

fn same_token(a: &Token<'_>, b: &Token<'_>) -> bool {
    match (a.kind, b.kind) {
        (Kind::Word | Kind::Quoted, Kind::Word | Kind::Quoted) => match (a.name(), b.name()) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(&b),
            _ => false,
        },
        (a_kind, b_kind) => a_kind == b_kind && a.text == b.text,
    }
}

/// Whether the two lists hold the same texts, in any order.
pub fn same_in_any_order(a: &[Vec<Token<'_>>], b: &[Vec<Token<'_>>]) -> bool {
    let mut rest: Vec<_> = b.iter().collect();
    a.len() == b.len()
        && a.iter().all(|text| match rest.iter().position(|other| same_tokens(text, other)) {
            Some(at) => {
                rest.swap_remove(at);
                true
            }
            None => false,
        })
}

/// The beginning of a statement, for a message.
pub fn excerpt(sql: &str) -> String {
    const CHARS_MAX: usize = 60;
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(script: &str) -> Vec<(Part, &str)> {
        parse(script).unwrap().into_iter().map(|statement| (statement.part, statement.sql)).collect()
    }

    #[test]
    fn statements_are_cut_at_their_semicolons_only() {
        let script = "-- first; comment
            CREATE TABLE a (x DEFAULT ';'); SELECT crsql_as_crr('a'); -- on the same line
            CREATE TRIGGER IF NOT EXISTS t AFTER INSERT ON a BEGIN
              UPDATE a SET x = CASE x WHEN ';' THEN 1 END; SELECT 1;
            END;
            ;; CREATE INDEX i /* ; */ ON a (x) ";
        assert_eq!(
            parts(script),
            [
                (Part::Definition, "CREATE TABLE a (x DEFAULT ';')"),
                (Part::Afterwards, "SELECT crsql_as_crr('a')"),
                (
                    Part::Definition,
                    "CREATE TRIGGER IF NOT EXISTS t AFTER INSERT ON a BEGIN
              UPDATE a SET x = CASE x WHEN ';' THEN 1 END; SELECT 1;
            END"
                ),
                (Part::Definition, "CREATE INDEX i /* ; */ ON a (x)"),
            ]
        );
        assert_eq!(parts(" -- nothing\n;;/* */"), []);
    }

    #[test]
    fn virtual_tables_are_known_by_name() {
        let script =
            "CREATE VIRTUAL TABLE IF NOT EXISTS main.\"f t\" USING fts5(a); CREATE VIRTUAL TABLE if USING x";
        let names: Vec<_> = parts(script).into_iter().map(|(part, _)| part).collect();
        assert_eq!(names, [Part::VirtualTable("f t".into()), Part::VirtualTable("if".into())]);
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let refused = |script| parse(script).unwrap_err().to_string();
        for script in [
            "DROP TABLE a",
            "alter table a add b",
            "BEGIN",
            "COMMIT",
            "ATTACH 'x' AS y",
            "VACUUM",
            "nonsense",
            "(",
            "CREATE",
        ] {
            assert!(refused(script).contains("not how to get there"), "{script}");
        }
        assert!(refused("CREATE TEMP TABLE a (x)").contains("temporary"));
        assert!(refused("CREATE TABLE Temp.a (x)").contains("temporary"));
        assert!(refused("CREATE TABLE \"aux\".a (x)").contains("only main"));
        assert!(refused("CREATE TABLE a AS SELECT 1").contains("without rows"));
        assert!(refused("CREATE TABLE").contains("not a complete statement"));
        assert_eq!(
            refused("DROP  TABLE\n a"),
            "the schema contains \"DROP TABLE a\"; write what the schema is (CREATE …), not how to get there"
        );
    }

    #[test]
    fn created_objects_go_to_main() {
        assert_eq!(qualified("CREATE TABLE \"t\" (a) -- end"), "CREATE TABLE main.\"t\" (a)");
        assert_eq!(qualified("CREATE UNIQUE INDEX i on t(a)"), "CREATE UNIQUE INDEX main.i on t(a)");
        assert_eq!(
            qualified("CREATE TRIGGER [table] AFTER INSERT ON t"),
            "CREATE TRIGGER main.[table] AFTER INSERT ON t"
        );
    }

    #[test]
    fn spelling_does_not_make_a_difference() {
        assert!(same_sql("CREATE INDEX i ON t (a, \"B\")", "create  index [I] on T(A,b) -- x"));
        assert!(!same_sql("a DEFAULT 'x'", "a DEFAULT 'X'"));
        assert!(!same_sql("a DEFAULT 'x'", "a DEFAULT \"x\""));
        assert!(!same_sql("a", "a b"));
    }
}
