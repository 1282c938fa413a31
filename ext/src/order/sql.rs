//! The SQL of an order: two triggers on the table, and a view with three.
//!
//! ```text
//! INSERT INTO todo (…, ord) VALUES (…, -1)        first in its list; 1: last          trigger …_pend
//! UPDATE todo SET ord = 1                         to the end                          trigger …_move
//! INSERT INTO todo_fractindex (…, after_id)       behind that row; NULL: first        trigger …_insert_trig
//! UPDATE todo_fractindex SET after_id = 5         likewise                            trigger …_move_trig
//! UPDATE todo_fractindex SET title = 'x'          as on the table, place unchanged    trigger …_update_trig
//! ```
//! A list is the rows that are equal in the list's columns, NULL being equal to NULL. Rows whose order is not a
//! key (NULL, a number) stand in no order and are passed over. Keys compare by their bytes, whatever collation
//! the column declares.
//!
//! When the anchor's key is also another row's (made before the tables replicated, or by cr-sqlite), nothing is
//! between them; the anchor then first moves down a little.

use crate::schema::{ColumnInfo, Ident, KeyShape, Literal, TableInfo};

/// A row of the list in subqueries. No table of a user's has this name.
const OTHER: &str = "__crsql_other";

/// The function that makes keys.
const BETWEEN: &str = "crsql_fract_unique_key_between";

/// A table and how it is ordered.
pub struct Order<'a> {
    /// The table.
    pub table: &'a TableInfo,
    /// The position of the order's column.
    pub column: usize,
    /// The positions of the list's columns.
    pub list: Vec<usize>,
}

/// The name of a table's view.
pub fn view_name(table: &str) -> String {
    format!("{table}_fractindex")
}

/// The name of the view's column that takes the key of the row to follow.
pub fn after_name(key: &str) -> String {
    format!("after_{key}")
}

impl Order<'_> {
    /// The statements that create everything.
    pub fn statements(&self) -> Vec<String> {
        let view = view_name(&self.table.name);
        let trigger = |name: String, event: &str, on: &str, body: String| {
            format!("CREATE TRIGGER main.{} {event} ON {}\n{body}", Ident(&name), Ident(on))
        };
        let order = self.order();
        let table = &self.table.name;
        // Not "__crsql_<table>_…": a table called 12 would get what looks like a capture trigger.
        let own = |suffix: &str| format!("__crsql_fractindex_{table}_{suffix}");
        vec![
            trigger(own("pend"), "AFTER INSERT", table, self.to_either_end()),
            trigger(own("move"), &format!("AFTER UPDATE OF {order}"), table, self.to_either_end()),
            self.view(&view),
            trigger(format!("{view}_insert_trig"), "INSTEAD OF INSERT", &view, self.insert()),
            trigger(
                format!("{view}_update_trig"),
                &format!("INSTEAD OF UPDATE OF {}", self.names(self.table.columns.iter())),
                &view,
                format!("BEGIN\n{}END", self.update_columns()),
            ),
            trigger(
                format!("{view}_move_trig"),
                &format!("INSTEAD OF UPDATE OF {}", self.after_columns()),
                &view,
                self.place(),
            ),
        ]
    }

    /// -1 and 1 become keys before the first and behind the last.
    fn to_either_end(&self) -> String {
        let (table, order) = (Ident(&self.table.name), self.order());
        let end = |function: &str| {
            format!(
                "(SELECT {function}({OTHER}.{order} COLLATE BINARY) FROM {table} AS {OTHER} WHERE {})",
                self.in_list(OTHER)
            )
        };
        let row = match self.table.key_shape() {
            KeyShape::RowidAndKey(rowid) => format!("{table}.{rowid} = NEW.{rowid}"),
            KeyShape::Integer(_) | KeyShape::Key => self.is_row(&table.to_string(), "NEW"),
        };
        format!(
            "WHEN CAST(NEW.{order} AS INTEGER) IN (-1, 1)\nBEGIN\n  UPDATE {table} SET {order} = CASE CAST(NEW.{order} \
             AS INTEGER)\n    WHEN -1 THEN {BETWEEN}(NULL, {first})\n    ELSE {BETWEEN}({last}, NULL) END\n  WHERE \
             {row};\nEND",
            first = end("min"),
            last = end("max"),
        )
    }

    fn view(&self, view: &str) -> String {
        let after = self.table.key().map(|key| format!("NULL AS {}", Ident(&after_name(&key.name))));
        format!(
            "CREATE VIEW main.{} AS\nSELECT {}, {}\nFROM {}",
            Ident(view),
            self.names(self.table.columns.iter()),
            after.collect::<Vec<_>>().join(", "),
            Ident(&self.table.name)
        )
    }

    fn insert(&self) -> String {
        let (table, order) = (Ident(&self.table.name), self.order());
        let columns = || self.written().filter(|column| column.name != self.table.columns[self.column].name);
        let values = columns().map(|column| format!("{}, ", new_value(column))).collect::<String>();
        let names = columns().map(|column| format!("{}, ", Ident(&column.name))).collect::<String>();
        format!(
            "BEGIN\n{}  INSERT INTO {table} ({names}{order})\n  VALUES ({values}{});\nEND",
            self.make_room(""),
            self.key_behind_anchor("")
        )
    }

    /// The statements of an UPDATE of the view that do not concern its order. Whichever of the two triggers fires
    /// first, the other finds the row under its old or its new key.
    fn update_columns(&self) -> String {
        let (table, order) = (Ident(&self.table.name), self.order());
        let sets = self.written().map(|column| {
            let name = Ident(&column.name).to_string();
            match name == order {
                true => format!(
                    "{name} = CASE WHEN NEW.{name} IS OLD.{name} THEN {table}.{name} ELSE NEW.{name} END"
                ),
                false => format!("{name} = NEW.{name}"),
            }
        });
        let at = table.to_string();
        format!(
            "  UPDATE {table} SET {}\n  WHERE ({}) OR ({});\n",
            sets.collect::<Vec<_>>().join(", "),
            self.is_row(&at, "OLD"),
            self.is_row(&at, "NEW")
        )
    }

    /// Moves a row behind another one of the list that it is in after the update. Behind itself: it stays.
    fn place(&self) -> String {
        let (table, order) = (Ident(&self.table.name), self.order());
        let at = table.to_string();
        let other_rows = format!(" AND NOT ({})", self.is_row(OTHER, "NEW"));
        format!(
            "BEGIN\n{}{}  UPDATE {table} SET {order} = {}\n  WHERE {} AND NOT coalesce({}, 0);\nEND",
            self.update_columns(),
            self.make_room(&other_rows),
            self.key_behind_anchor(&other_rows),
            self.is_row(&at, "NEW"),
            self.is_anchor(&at),
        )
    }

    /// Moves the anchor down if another row has its key.
    fn make_room(&self, other_rows: &str) -> String {
        let (table, order) = (Ident(&self.table.name), self.order());
        let at = table.to_string();
        let list = self.in_list(OTHER);
        format!(
            "  UPDATE {table} SET {order} = {BETWEEN}((SELECT max({OTHER}.{order} COLLATE BINARY) FROM {table} AS \
             {OTHER}\n    WHERE {list} AND {OTHER}.{order} COLLATE BINARY < {table}.{order}), {table}.{order})\n  \
             WHERE {anchor} AND {in_list} AND EXISTS (SELECT 1 FROM {table} AS {OTHER}\n    WHERE {list} AND \
             {OTHER}.{order} COLLATE BINARY = {table}.{order} AND NOT ({other_anchor}){other_rows});\n",
            anchor = self.is_anchor(&at),
            in_list = self.in_list(&at),
            other_anchor = self.is_anchor(OTHER),
        )
    }

    /// A key behind the anchor and before the next one; before all without an anchor.
    fn key_behind_anchor(&self, other_rows: &str) -> String {
        let (table, order) = (Ident(&self.table.name), self.order());
        let list = self.in_list(OTHER);
        let anchor = format!(
            "(SELECT {OTHER}.{order} FROM {table} AS {OTHER} WHERE {} AND {list}{other_rows})",
            self.is_anchor(OTHER)
        );
        format!(
            "{BETWEEN}({anchor}, (SELECT min({OTHER}.{order} COLLATE BINARY) FROM {table} AS {OTHER}\n    WHERE \
             {list}{other_rows} AND {OTHER}.{order} COLLATE BINARY > coalesce({anchor}, '')))"
        )
    }

    /// `row` has a key in the list of `NEW`. Keys begin with a letter, and numbers sort before texts.
    fn in_list(&self, row: &str) -> String {
        let order = self.order();
        let columns = self.list.iter().map(|at| {
            let name = Ident(&self.table.columns[*at].name);
            format!("{row}.{name} IS NEW.{name} AND ")
        });
        format!(
            "{}{row}.{order} COLLATE BINARY >= 'A' AND {row}.{order} COLLATE BINARY < '{{'",
            columns.collect::<String>()
        )
    }

    /// `row` is the row to follow.
    fn is_anchor(&self, row: &str) -> String {
        let terms = self
            .table
            .key()
            .map(|key| format!("{row}.{} = NEW.{}", Ident(&key.name), Ident(&after_name(&key.name))));
        format!("({})", terms.collect::<Vec<_>>().join(" AND "))
    }

    /// `row` has the key of `NEW` or `OLD`.
    fn is_row(&self, row: &str, source: &str) -> String {
        let terms = self.table.key().map(|key| {
            let name = Ident(&key.name);
            format!("{row}.{name} IS {source}.{name}")
        });
        terms.collect::<Vec<_>>().join(" AND ")
    }

    fn order(&self) -> String {
        Ident(&self.table.columns[self.column].name).to_string()
    }

    /// The columns that an INSERT can name.
    fn written(&self) -> impl Iterator<Item = &ColumnInfo> {
        self.table.columns.iter().filter(|column| !column.generated)
    }

    fn names<'c>(&self, columns: impl Iterator<Item = &'c ColumnInfo>) -> String {
        columns.map(|column| Ident(&column.name).to_string()).collect::<Vec<_>>().join(", ")
    }

    fn after_columns(&self) -> String {
        let names = self.table.key().map(|key| Ident(&after_name(&key.name)).to_string());
        names.collect::<Vec<_>>().join(", ")
    }
}

/// What an INSERT into the view writes: a view has no defaults, so a column that was not named arrives as NULL,
/// and where the table takes no NULL that can only mean the default.
fn new_value(column: &ColumnInfo) -> String {
    let name = Ident(&column.name);
    match column.default_sql.as_deref().filter(|_| column.not_null && column.pk_position.is_none()) {
        Some(default) => format!("ifnull(NEW.{name}, {})", expression(default)),
        None => format!("NEW.{name}"),
    }
}

/// A DEFAULT as an expression: there, a bare or double-quoted word is a text; here it would be a column.
fn expression(default: &str) -> String {
    const WORDS: [&str; 6] = ["NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"];
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    if let Some(text) = default.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Literal(&text.replace("\"\"", "\"")).to_string();
    }
    let bare = default.chars().all(is_word) && !default.starts_with(|c: char| c.is_ascii_digit());
    if bare && !WORDS.iter().any(|word| default.eq_ignore_ascii_case(word)) {
        return Literal(default).to_string();
    }
    format!("({default})")
}
