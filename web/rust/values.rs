//! Parameters on their way in. Little-endian, one tag byte before each value:
//!
//! ```text
//! parameters = value* | (name value)*
//! value      = 0 | 1 i64 | 2 f64 | 3 text | 4 bytes
//! name       = 5 text                              text, bytes = len:u32 byte*
//! ```

use crsql::sqlite::{Statement, ValueRef};

use crate::error::{Error, Result};

/// A cursor over bytes that JavaScript wrote.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(damaged)?;
        self.0 = tail;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| damaged())?))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged())
    }

    fn word(&mut self) -> Result<[u8; 8]> {
        self.take(8)?.try_into().map_err(|_| damaged())
    }

    fn value(&mut self, tag: u8) -> Result<ValueRef<'a>> {
        Ok(match tag {
            0 => ValueRef::Null,
            1 => ValueRef::Integer(i64::from_le_bytes(self.word()?)),
            2 => ValueRef::Real(f64::from_le_bytes(self.word()?)),
            3 => ValueRef::Text(self.bytes()?),
            4 => ValueRef::Blob(self.bytes()?),
            _ => return Err(damaged()),
        })
    }
}

fn damaged() -> Error {
    Error::misuse(
        "the request is damaged: the page and its worker are of different versions; reload the page",
    )
}

const NAMED: u8 = 5;

/// Binds all parameters; every parameter of the statement must get a value.
pub fn bind(statement: &mut Statement, parameters: &[u8]) -> Result<()> {
    statement.clear_bindings();
    let expected = statement.parameter_count();
    let mut reader = Reader::new(parameters);
    let mut given = 0;
    while !reader.is_empty() {
        let mut tag = reader.u8()?;
        let index = if tag == NAMED {
            let name = reader.text()?;
            tag = reader.u8()?;
            match find(statement, name) {
                Some(index) => index,
                None => return Err(Error::misuse(format!("the statement has no parameter {name:?}"))),
            }
        } else {
            given + 1
        };
        given += 1;
        let value = reader.value(tag)?;
        if given > expected {
            continue;
        }
        statement.bind_value(index, value)?;
    }
    if given == expected {
        return Ok(());
    }
    Err(Error::misuse(format!("the statement has {expected} parameters but {given} values were given")))
}

/// A parameter by its name, with or without the sigil.
fn find(statement: &Statement, name: &str) -> Option<usize> {
    (1..=statement.parameter_count()).find(|&index| {
        statement.parameter_name(index).is_some_and(|found| found == name || found.get(1..) == Some(name))
    })
}
