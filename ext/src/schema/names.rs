//! Column names read back from the capture triggers as they stand in `sqlite_schema`.
//!
//! `ALTER TABLE … RENAME COLUMN` rewrites the text of every trigger that names the column, and a trigger of ours names
//! each column next to its id. So the text tells a rename from a column dropped and another one added, whoever did it
//! and whether or not the extension was loaded.

use crate::schema::tokens::{Kind, Token, tokenize};

/// The columns an update trigger captures: id and current name. Empty for any other text.
pub fn column_names_in(trigger_sql: &str) -> Vec<(i64, String)> {
    let tokens = tokenize(trigger_sql);
    let arguments = arguments(&tokens, "crsql_capture_update")
        .or_else(|| arguments(&tokens, "crsql_capture_typed"))
        .unwrap_or_default();
    // The table's id stands before `NEW.key`, which no `OLD.` of the same column follows.
    arguments
        .windows(3)
        .filter_map(|window| {
            let id = window[0].first().filter(|_| window[0].len() == 1)?;
            let name = row_term(window[1], "NEW")?.name()?;
            row_term(window[2], "OLD")?;
            Some((id.text.parse().ok()?, name.into_owned()))
        })
        .collect()
}

/// The key's columns by their current names, in key order, from a delete trigger. `None` for any other text.
pub fn key_names_in(trigger_sql: &str) -> Option<Vec<String>> {
    let tokens = tokenize(trigger_sql);
    let arguments = arguments(&tokens, "crsql_capture_delete")?;
    let terms = arguments.get(1..)?.iter().map(|argument| row_term(argument, "OLD"));
    let terms = terms.collect::<Option<Vec<_>>>()?;
    // Columns are written in quotes and RENAME keeps them so; the rowid is not.
    let columns = terms.iter().filter(|term| term.kind != Kind::Word);
    Some(columns.filter_map(|term| Some(term.name()?.into_owned())).collect())
}

/// The table's id, from any capture trigger.
pub fn table_id_in(trigger_sql: &str) -> Option<i64> {
    let tokens = tokenize(trigger_sql);
    let at = tokens.iter().position(|token| is_capture_function(token))?;
    let [open, id, ..] = tokens.get(at + 1..)? else { return None };
    if open.is_punct(b'(') { id.text.parse().ok() } else { None }
}

fn is_capture_function(token: &Token<'_>) -> bool {
    token.kind == Kind::Word && token.text.starts_with("crsql_capture_")
}

/// The arguments of the first call of `function`.
fn arguments<'t, 'a>(tokens: &'t [Token<'a>], function: &str) -> Option<Vec<&'t [Token<'a>]>> {
    let open = tokens.iter().position(|token| token.is_word(function))? + 1;
    if !tokens.get(open)?.is_punct(b'(') {
        return None;
    }
    let close = open + tokens[open..].iter().position(|token| token.is_punct(b')'))?;
    Some(tokens[open + 1..close].split(|token| token.is_punct(b',')).collect())
}

/// The name in `NEW.name` or `OLD.name`.
fn row_term<'a>(tokens: &[Token<'a>], row: &str) -> Option<Token<'a>> {
    match tokens {
        [source, dot, name] if source.is_word(row) && dot.is_punct(b'.') => Some(*name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_come_back_from_an_update_trigger() {
        let sql = r#"CREATE TRIGGER "x" AFTER UPDATE OF "a,b" ON "t" WHEN crsql_capture_update(3, NEW._rowid_, NEW."k",
            7, NEW."a,b", OLD."a,b", 12, NEW."c"")", OLD."c"")") BEGIN INSERT INTO crsql_capture(op) VALUES (0); END"#;
        assert_eq!(column_names_in(sql), [(7, "a,b".to_owned()), (12, "c\")".to_owned())]);
        assert_eq!(table_id_in(sql), Some(3));
        assert_eq!(key_names_in(sql), None);
    }

    #[test]
    fn key_names_come_back_from_a_delete_trigger_without_the_rowid() {
        let sql = r#"CREATE TRIGGER "x" AFTER DELETE ON "t" WHEN crsql_capture_delete(3, OLD.rowid, OLD."rowid", OLD."K")"#;
        assert_eq!(key_names_in(sql), Some(vec!["rowid".to_owned(), "K".to_owned()]));
        assert_eq!(column_names_in(sql), []);
    }

    #[test]
    fn foreign_text_yields_nothing() {
        for sql in [
            "",
            "crsql_capture_update",
            "crsql_capture_update(",
            "crsql_capture_delete(1, OLD)",
            "crsql_capture_x(",
        ] {
            assert_eq!(column_names_in(sql), []);
            assert_eq!(key_names_in(sql), None);
            assert_eq!(table_id_in(sql).filter(|_| !sql.contains('1')), None);
        }
    }
}
