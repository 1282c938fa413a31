//! What the author of a replicated table declares beyond the defaults: the object that `crsql_as_crr` takes last.
//!
//! ```json
//! {"columns": {"n": "counter"}, "unique": "winner", "fk": "ignore", "triggers": "on", "losers": 1000}
//! ```
//! Types of columns are kept with the column, which a rename does not change; the rest as JSON in
//! `__crsql_table.options`. The views `crsql_crrs` and `crsql_columns` show both.

use crate::json::read::{Json, parse};
use crate::schema::eligibility::{ForeignKeyPolicy, Policies};
use crate::sqlite::{Db, Error, Result, ValueRef};
use crsql_core::column::ColumnType;

/// Declarations about one table. What is `None` or not named is not declared, and stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Columns by name, with their types.
    pub columns: Vec<(String, ColumnType)>,
    /// What decides between rows that clash in a UNIQUE index.
    pub unique: Option<UniquePolicy>,
    /// What a merge does with a row whose parent is missing.
    pub foreign_keys: Option<ForeignKeyPolicy>,
    /// Whether the table's own triggers fire during a merge.
    pub triggers: Option<Switch>,
    /// How many values that lost a merge are kept, at most [`LOSERS_MAX`]; 0 keeps none.
    pub losers: Option<u32>,
}

/// More lost values than that are no list for anybody.
pub const LOSERS_MAX: u32 = 1_000_000;

/// What decides between rows that clash in a UNIQUE index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniquePolicy {
    /// The row with the greatest order keeps the value.
    Winner,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off, as without the option.
    Off,
}

/// The words of an option, and what each stands for.
type Words<T> = &'static [(&'static str, T)];

const UNIQUE: Words<UniquePolicy> = &[("winner", UniquePolicy::Winner)];
const FOREIGN_KEYS: Words<ForeignKeyPolicy> = &[
    ("ignore", ForeignKeyPolicy::Ignore),
    ("park", ForeignKeyPolicy::Park),
    ("cascade", ForeignKeyPolicy::Cascade),
];
const TRIGGERS: Words<Switch> = &[("on", Switch::On), ("off", Switch::Off)];
const KEYS: &str = "\"columns\", \"unique\", \"fk\", \"triggers\" and \"losers\"";

impl Options {
    /// Reads the options object that `function` was given.
    ///
    /// # Errors
    /// Names the key or the value that is not understood, and those that are.
    pub fn parse(function: &str, text: &str) -> Result<Options> {
        let refused =
            |reason: String| Error::refused(format_args!("{function}: the options {text:?}: {reason}"));
        Options::read(text).map_err(refused)
    }

    fn read(text: &str) -> Result<Options, String> {
        let mut options = Options::default();
        let Json::Object(members) = parse(text)? else { return Err("an object expected".into()) };
        for (key, value) in &members {
            match key.as_str() {
                "columns" => options.columns = columns(value)?,
                "unique" => options.unique = Some(word(key, value, UNIQUE)?),
                "fk" => options.foreign_keys = Some(word(key, value, FOREIGN_KEYS)?),
                "triggers" => options.triggers = Some(word(key, value, TRIGGERS)?),
                "losers" => options.losers = Some(count(key, value, LOSERS_MAX)?),
                _ => return Err(format!("no option is called {key:?}; there are {KEYS}")),
            }
        }
        Ok(options)
    }

    /// What is declared of a table already, besides its columns' types.
    pub fn stored(db: Db, table: u32) -> Result<Options> {
        let mut select = db.prepare("SELECT options FROM main.__crsql_table WHERE id = ?1")?;
        let text = select.query_row(&[ValueRef::Integer(i64::from(table))], |row| {
            Ok(row.column_str(0).unwrap_or("{}").to_owned())
        })?;
        Ok(text.map(|text| Options::of_json(&text)).unwrap_or_default())
    }

    /// What [`Options::store`] wrote. Options that a later version wrote are that version's business.
    pub fn of_json(text: &str) -> Options {
        Options::read(text).unwrap_or_default()
    }

    /// These declarations over `known` ones: what is not named here stays.
    pub fn over(&self, known: &Options) -> Options {
        Options {
            columns: self.columns.clone(),
            unique: self.unique.or(known.unique),
            foreign_keys: self.foreign_keys.or(known.foreign_keys),
            triggers: self.triggers.or(known.triggers),
            losers: self.losers.or(known.losers),
        }
    }

    /// Keeps what is declared besides the columns' types.
    pub fn store(&self, db: Db, table: u32) -> Result<()> {
        db.prepare("UPDATE main.__crsql_table SET options = ?2 WHERE id = ?1 AND options <> ?2")?
            .execute(&[ValueRef::Integer(i64::from(table)), ValueRef::Text(self.to_json().as_bytes())])?;
        Ok(())
    }

    /// As JSON in one spelling, without the columns.
    pub fn to_json(&self) -> String {
        let mut json = crate::json::Object::new();
        if let Some(policy) = self.unique {
            json = json.text("unique", spelling(policy, UNIQUE));
        }
        if let Some(policy) = self.foreign_keys {
            json = json.text("fk", spelling(policy, FOREIGN_KEYS));
        }
        if let Some(switch) = self.triggers {
            json = json.text("triggers", spelling(switch, TRIGGERS));
        }
        if let Some(count) = self.losers {
            json = json.number("losers", u64::from(count));
        }
        json.end()
    }

    /// The option that goes with registers only: a hidden row is kept as their values, and triggers hear of them alone.
    pub fn wants_registers(&self) -> Option<&'static str> {
        self.hides().or((self.triggers == Some(Switch::On)).then_some("triggers"))
    }

    /// The option by which rows may be hidden.
    pub fn hides(&self) -> Option<&'static str> {
        let waits = self.foreign_keys.is_some_and(|policy| policy != ForeignKeyPolicy::Ignore);
        self.unique.map(|_| "unique").or(waits.then_some("fk"))
    }

    /// What the author accepts.
    pub fn policies(&self) -> Policies {
        Policies { unique_winner: self.unique == Some(UniquePolicy::Winner), foreign_keys: self.foreign_keys }
    }
}

fn columns(value: &Json) -> Result<Vec<(String, ColumnType)>, String> {
    let Json::Object(members) = value else {
        return Err("\"columns\" is an object of column names and types".into());
    };
    let types: Vec<_> = ColumnType::ALL.iter().map(|kind| format!("\"{kind}\"")).collect();
    let column = |(name, value): &(String, Json)| match value {
        Json::Text(word) => match ColumnType::of_name(word) {
            Some(kind) => Ok((name.clone(), kind)),
            None => {
                Err(format!("column {name:?}: no type is called {word:?}; there are {}", types.join(", ")))
            }
        },
        _ => Err(format!("the type of column {name:?} is one of {}", types.join(", "))),
    };
    members.iter().map(column).collect()
}

fn word<T: Copy>(key: &str, value: &Json, words: Words<T>) -> Result<T, String> {
    let known = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let found = match value {
        Json::Text(text) => words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning),
        Json::Object(_) | Json::Other(_) => None,
    };
    found.ok_or_else(|| match value {
        Json::Text(text) => format!("{key:?} is one of {known}, not {text:?}"),
        Json::Other(text) => format!("{key:?} is one of {known}, not {text}"),
        Json::Object(_) => format!("{key:?} is one of {known}, not an object"),
    })
}

fn count(key: &str, value: &Json, max: u32) -> Result<u32, String> {
    let found = match value {
        Json::Other(text) => text.parse().ok().filter(|count| *count <= max),
        Json::Text(_) | Json::Object(_) => None,
    };
    found.ok_or_else(|| format!("{key:?} is a number from 0 to {max}"))
}

fn spelling<T: Copy + PartialEq>(meaning: T, words: Words<T>) -> &'static str {
    words.iter().find(|(_, known)| *known == meaning).map_or("", |(word, _)| *word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_is_read_and_written() {
        let text = r#"{"columns":{"n":"counter","m":"max"},"unique":"winner","fk":"park","triggers":"on","losers":50}"#;
        let options = Options::read(text).unwrap();
        assert_eq!(options.columns, [("n".into(), ColumnType::Counter), ("m".into(), ColumnType::Max)]);
        assert!(options.policies().unique_winner);
        assert_eq!(options.policies().foreign_keys, Some(ForeignKeyPolicy::Park));
        let stored = r#"{"unique":"winner","fk":"park","triggers":"on","losers":50}"#;
        assert_eq!(options.to_json(), stored);
        let changed = Options::read(r#"{"fk":"ignore"}"#).unwrap().over(&Options::read(stored).unwrap());
        assert_eq!(changed.to_json(), stored.replace("park", "ignore"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, why) in [
            (r#"{"colums":{}}"#, "no option is called \"colums\""),
            (r#"{"unique":"loser"}"#, "\"unique\" is one of \"winner\", not \"loser\""),
            (r#"{"triggers":true}"#, "\"triggers\" is one of \"on\", \"off\", not true"),
            (r#"{"fk":{}}"#, "not an object"),
            (r#"{"losers":-1}"#, "\"losers\" is a number from 0 to 1000000"),
            (r#"{"losers":"all"}"#, "\"losers\" is a number"),
            (r#"{"columns":"n"}"#, "\"columns\" is an object"),
            (r#"{"columns":{"n":"sum"}}"#, "column \"n\": no type is called \"sum\""),
            (r#"{"columns":{"n":1}}"#, "the type of column \"n\""),
            ("{", "a name in double quotes"),
        ] {
            let error = Options::parse("f", text).expect_err(text).to_string();
            assert!(error.contains(why) && error.starts_with("f: the options"), "{text}: {error}");
        }
    }
}
