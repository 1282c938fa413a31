//! A private database in memory, in which a schema can be tried out.

use std::ffi::CString;
use std::rc::Rc;

use rusqlite::Connection;

use crate::sqlite::{Db, Error, Flags, Result, register_function};

/// Most functions of the application that a schema may use.
const FUNCTIONS_MAX: usize = 1000;

/// An empty database that nobody else sees; closed when dropped.
pub struct Scratch {
    connection: Connection,
}

impl Scratch {
    /// Opens one.
    pub fn open() -> Result<Scratch> {
        Ok(Scratch { connection: Connection::open_in_memory()? })
    }

    /// Its connection. Not to be kept beyond the scratch database: statements prepared on it would dangle.
    #[allow(unsafe_code)]
    pub fn db(&self) -> Db {
        // SAFETY: the handle is open until `self` is dropped. `Db` does not tell the compiler so, hence the rule
        // above; this type is private to the crate's schema module, whose only user reads the schema and returns.
        unsafe { Db::from_handle(self.connection.handle()) }
    }

    /// Runs a CREATE statement. A function that it mentions and SQLite does not know is taken for one that the
    /// application registers on its own connections; here nothing is ever computed.
    pub fn define(&self, sql: &str) -> Result<()> {
        for _ in 0..FUNCTIONS_MAX {
            match self.db().exec(sql) {
                Err(error) => self.stand_in(error)?,
                done => return done,
            }
        }
        Err(Error::Refused(format!(
            "the schema uses more than {FUNCTIONS_MAX} functions that SQLite does not know"
        )))
    }

    fn stand_in(&self, error: Error) -> Result<()> {
        const UNKNOWN: &str = "no such function: ";
        let message = error.to_string();
        let name = message.split_once(UNKNOWN).and_then(|(_, name)| CString::new(name).ok());
        let Some(name) = name else { return Err(error) };
        let flags = Flags::DETERMINISTIC | Flags::INNOCUOUS;
        register_function(self.db(), &name, -1, flags, &Rc::new(()), |(), _| Ok(()))
    }
}
