//! Compiled statements, kept by their text.

use crsql::sqlite::{Db, Statement};

use crate::error::{Error, Result};

/// How many statements are kept.
const STATEMENTS_MAX: usize = 100;

/// The statements used last come last.
#[derive(Default)]
pub struct Statements(Vec<(String, Statement)>);

impl Statements {
    /// Runs `body` with the one statement that `sql` is.
    pub fn with<T>(
        &mut self,
        db: Db,
        sql: &str,
        body: impl FnOnce(&mut Statement) -> Result<T>,
    ) -> Result<T> {
        let found = self.0.iter().rposition(|(text, _)| text == sql);
        let mut entry = match found {
            Some(index) => self.0.remove(index),
            None => (sql.to_owned(), compile(db, sql)?),
        };
        let result = body(&mut entry.1);
        entry.1.reset();
        if self.0.len() >= STATEMENTS_MAX {
            self.0.remove(0);
        }
        self.0.push(entry);
        result
    }

    /// Finalises all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A second statement would be ignored in silence, so it is refused.
fn compile(db: Db, sql: &str) -> Result<Statement> {
    let (statement, rest) = db.prepare_first(sql)?;
    let Some(statement) = statement else {
        return Err(Error::misuse("the SQL text contains no statement"));
    };
    if !rest.trim().is_empty() && db.prepare_first(rest)?.0.is_some() {
        return Err(Error::misuse(
            "the SQL text contains more than one statement; use exec() without parameters, or batch()",
        ));
    }
    Ok(statement)
}
