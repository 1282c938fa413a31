//! Every ```sql block of README.md and docs/ is executed, and what its comments promise is checked.
//!
//! The blocks of a page run in order on replicas in memory. A statement ends at a line that ends with `;`.
//! Comments speak to this test:
//! - `-- replica: b` the following statements run on replica `b`; a block begins on `a`,
//! - `-- => 1|'milk'` after a statement: a row it returns, values as SQL literals; `…` stands for anything,
//! - `-- => nothing` it returns no row,
//! - `-- error: text` it fails, and the message contains the text,
//! - `-- keep: name` its single value is bound to `:name` in later statements, on every replica,
//! - `-- fresh` all replicas start anew.

use crsql_tests::files::workspace;
use crsql_tests::value::render_row;
use crsql_tests::{Site, SqlValue, site};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[test]
fn every_sql_example_does_what_it_says() {
    let mut statements = 0;
    for page in pages() {
        let mut run = PageRun { page: page.clone(), ..PageRun::default() };
        for (number, block) in sql_blocks(&read(&page)) {
            run.block(number, &block);
        }
        run.settle();
        statements += run.executed;
    }
    assert!(statements > 50, "only {statements} statements were found in the documentation");
}

#[test]
fn every_function_and_virtual_table_is_in_the_reference() {
    let reference = read(&workspace().join("docs/sql-reference.md"));
    let a = site("SELECT 1");
    let names = a.values(
        "SELECT name FROM pragma_function_list WHERE name LIKE 'crsql%'
         UNION SELECT name FROM pragma_module_list WHERE name LIKE 'crsql%' ORDER BY 1",
    );
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<&str> =
        names.iter().map(|row| row[0].as_str()).filter(|name| !reference.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "missing in docs/sql-reference.md");
}

#[test]
fn every_relative_link_leads_somewhere() {
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = page.parent().expect("a page is in a directory").join(target);
            assert!(path.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
}

/// One page with its replicas.
#[derive(Default)]
struct PageRun {
    page: PathBuf,
    replicas: BTreeMap<String, Site>,
    kept: BTreeMap<String, SqlValue>,
    pending: Option<Executed>,
    executed: usize,
}

/// A statement that ran, and what its comments said so far.
struct Executed {
    place: String,
    result: Result<Vec<Vec<SqlValue>>, String>,
    expected: Vec<String>,
    failure: Option<String>,
    nothing: bool,
}

impl PageRun {
    fn block(&mut self, first_line: usize, block: &str) {
        let mut replica = "a".to_string();
        let mut sql = String::new();
        for (i, line) in block.lines().enumerate() {
            let place = format!("{}:{}", self.page.display(), first_line + i);
            let text = line.trim();
            if sql.is_empty() && text.starts_with("-- ") {
                if let Some(name) = text.strip_prefix("-- replica: ") {
                    replica = name.to_string();
                } else {
                    self.comment(text);
                }
                continue;
            }
            if sql.is_empty() && text.is_empty() {
                continue;
            }
            sql.push_str(line);
            sql.push('\n');
            let is_trigger = sql.to_uppercase().contains("CREATE TRIGGER")
                || sql.to_uppercase().contains("CREATE TEMP TRIGGER");
            // A `;` at the end of a line inside a string ends nothing.
            let in_string = !sql.matches('\'').count().is_multiple_of(2);
            let ends = !in_string && if is_trigger { text.ends_with("END;") } else { text.ends_with(';') };
            if ends {
                self.execute(&replica, &std::mem::take(&mut sql), place);
            }
        }
        assert!(
            sql.trim().is_empty(),
            "{}:{first_line}: a statement without its `;`: {sql}",
            self.page.display()
        );
    }

    fn execute(&mut self, replica: &str, sql: &str, place: String) {
        self.settle();
        let site = self.replicas.entry(replica.to_string()).or_insert_with(Site::memory);
        let result = run(site, sql, &self.kept);
        self.executed += 1;
        self.pending = Some(Executed { place, result, expected: Vec::new(), failure: None, nothing: false });
    }

    fn comment(&mut self, text: &str) {
        if text == "-- fresh" {
            self.settle();
            self.replicas.clear();
            self.kept.clear();
            return;
        }
        let Some(pending) = self.pending.as_mut() else { return };
        if text == "-- => nothing" {
            pending.nothing = true;
        } else if let Some(row) = text.strip_prefix("-- => ") {
            pending.expected.push(row.to_string());
        } else if let Some(message) = text.strip_prefix("-- error: ") {
            pending.failure = Some(message.to_string());
        } else if let Some(name) = text.strip_prefix("-- keep: ") {
            let rows = pending.result.as_ref().unwrap_or_else(|error| panic!("{}: {error}", pending.place));
            self.kept.insert(name.to_string(), rows[0][0].clone());
        }
    }

    /// Checks the last statement against what was said about it.
    fn settle(&mut self) {
        let Some(Executed { place, result, expected, failure, nothing }) = self.pending.take() else {
            return;
        };
        match (result, failure) {
            (Ok(rows), None) => {
                let rows: Vec<String> = rows.iter().map(|row| render_row(row)).collect();
                if nothing {
                    assert!(rows.is_empty(), "{place}: {rows:#?}");
                } else if !expected.is_empty() {
                    let same = rows.len() == expected.len()
                        && rows.iter().zip(&expected).all(|(row, like)| matches(row, like));
                    assert!(same, "{place}\n  says    {expected:#?}\n  returns {rows:#?}");
                }
            }
            (Err(message), Some(part)) => {
                assert!(message.contains(&part), "{place}: {message:?} lacks {part:?}")
            }
            (Err(message), None) => panic!("{place}: {message}"),
            (Ok(rows), Some(part)) => panic!("{place}: expected an error with {part:?}, got {rows:?}"),
        }
    }
}

fn run(site: &Site, sql: &str, kept: &BTreeMap<String, SqlValue>) -> Result<Vec<Vec<SqlValue>>, String> {
    let message = crsql_tests::site::message;
    let mut statement = site.conn.prepare(sql).map_err(message)?;
    for (name, value) in kept {
        if let Ok(Some(index)) = statement.parameter_index(&format!(":{name}")) {
            statement.raw_bind_parameter(index, value).map_err(message)?;
        }
    }
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    let mut result = Vec::new();
    while let Some(row) = rows.next().map_err(message)? {
        result.push(
            (0..columns)
                .map(|i| row.get_ref(i).map(SqlValue::from))
                .collect::<Result<_, _>>()
                .map_err(message)?,
        );
    }
    Ok(result)
}

/// Whether a row is like its description, in which `…` stands for anything.
fn matches(row: &str, like: &str) -> bool {
    let mut parts = like.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = row.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(workspace().join("docs")).expect("docs/ exists");
    let mut pages: Vec<PathBuf> = docs
        .map(|entry| entry.expect("docs/ can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(workspace().join("README.md"));
    pages.sort();
    pages
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The SQL blocks of a page with the number of their first line.
fn sql_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (i, line) in text.lines().enumerate() {
        match (&mut open, line.trim_end()) {
            (None, "```sql") => open = Some((i + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, block)), _) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block without its end");
    blocks
}
